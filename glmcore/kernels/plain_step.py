"""Small models and their steps in plain Python, which the self-test holds ``glm_step`` to. Standard library only."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from glmcore.kernels import abi

Row = list[float]
LAYERS, HIDDEN, HEADS, SIZE, FFN, VOCABULARY = 2, 32, 2, 32, 12, 9
SEQUENCES, PLACES = 2, 300
EPSILON = 1e-5
EXACT, FAST = abi.PRECISIONS.index("exact"), abi.PRECISIONS.index("fast")


class Numbers:
    """A small repeatable source of numbers; ``random`` alone takes a third of the self-test's time to import."""

    def __init__(self) -> None:
        self.state = 20260101

    def integer(self, low: int, high: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        return low + (self.state >> 33) % (high - low + 1)

    def floats(self, count: int, low: float = -1.0, high: float = 1.0) -> list[float]:
        """Multiples of a 1024th, which float32 holds exactly."""
        return [self.integer(int(low * 1024), int(high * 1024)) / 1024 for _ in range(count)]


class Shape(NamedTuple):
    """What one generation's layers do differently from another's, as ``abi.Model`` names it."""

    name: str
    bits: int
    groups: int
    rotary: int
    parts: int
    gate: int
    within_heads: bool
    residual_of_norm: bool
    residual: float
    layer_norm: bool
    turned: int = SIZE
    sandwich: bool = False


# ChatGLM-6B, those after it, and GLM-4-0414's norms with GLM-Edge's rotation.
SHAPES = (
    Shape("layer norms and gelu", 8, HEADS, abi.HALVES, 2, abi.GELU, True, True, 2.0, True),
    Shape("root-mean-square norms and swiglu", 4, 1, abi.PAIRS, 1, abi.SWIGLU, False, False, 1.0, False, SIZE // 2),
    Shape("two norms around each part", 4, 2, abi.PAIRS, 1, abi.SWIGLU, False, False, 1.0, False, SIZE, True),
)
# (sequence, place, visible) of each row: three tokens of a prompt, the first two of which see each other; then the next
# of that sequence, beside the first of another. Then that one has a long past (``PAST``), which the library takes in
# several parts: beside one other token they are shared among the threads, beside seven they are not.
PASSES = (
    ((0, 0, 2), (0, 1, 2), (0, 2, 3)),
    ((0, 3, 4), (1, 0, 1)),
    ((1, PLACES - 2, PLACES - 1), (0, 4, 5)),
    ((1, PLACES - 1, PLACES), *((0, place, place + 1) for place in range(5, 12))),
)
PAST = range(1, PLACES - 2)  # places of the second sequence


def floats(values: Sequence[float]) -> ctypes.Array[ctypes.c_float]:
    return (ctypes.c_float * len(values))(*values)


def address(held: ctypes.Array[ctypes.c_float] | None) -> int | None:
    return None if held is None else ctypes.addressof(held)


class PlainMatrix:
    """Packed integers [n][k] with one scale a row, and a bias or none."""

    def __init__(self, rng: Numbers, bits: int, n: int, k: int, biased: bool) -> None:
        most = 2 ** (bits - 1) - 1
        values = [[rng.integer(-most - 1, most) for _ in range(k)] for _ in range(n)]
        flat = [value & (2**bits - 1) for row in values for value in row]
        self.packed = bytes(flat if bits == 8 else [a << 4 | b for a, b in zip(flat[::2], flat[1::2])])  # noqa: B905
        self.scale = floats([s * 2 / most / math.sqrt(k) for s in rng.floats(n, 0.5, 1.5)])
        self.bias = floats(rng.floats(n)) if biased else None
        self.rows = [[scale * value for value in row] for scale, row in zip(self.scale, values)]  # noqa: B905
        data = ctypes.cast(self.packed, ctypes.c_void_p)
        self.described = abi.Matrix(bits, data, address(self.scale), address(self.bias), n, k)

    def times(self, x: Row) -> Row:
        biases = self.bias or [0.0] * len(self.rows)
        return [math.fsum(map(float.__mul__, row, x)) + bias for row, bias in zip(self.rows, biases)]  # noqa: B905


class PlainNorm:
    """A layer norm with a bias, or a root-mean-square norm without."""

    def __init__(self, rng: Numbers, layer_norm: bool) -> None:
        self.weight = floats(rng.floats(HIDDEN, 0.5, 1.5))
        self.bias = floats(rng.floats(HIDDEN)) if layer_norm else None
        self.described = abi.Norm(address(self.weight), address(self.bias))

    def __call__(self, x: Row) -> Row:
        mean = sum(x) / HIDDEN if self.bias else 0.0
        by = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / HIDDEN + EPSILON)
        biases = self.bias or [0.0] * HIDDEN
        return [(v - mean) * by * weight + bias for v, weight, bias in zip(x, self.weight, biases)]  # noqa: B905


class BrainRows:
    """Memory as numbers in bfloat16, which are the upper halves of float32."""

    def __init__(self, held: ctypes.Array[ctypes.c_float]) -> None:
        self.halves = (ctypes.c_uint16 * (2 * len(held))).from_buffer(held)

    def __setitem__(self, at: slice, row: Row) -> None:
        self.halves[at] = [
            number >> 16 for number in struct.unpack(f"<{len(row)}I", struct.pack(f"<{len(row)}f", *row))
        ]


class PlainLayer:
    """One layer's weights, and its keys and values: the library's, and as lists by (sequence, group, place)."""

    def __init__(self, shape: Shape, rng: Numbers, cache: int) -> None:
        biased, wide = shape.layer_norm, FFN * (2 if shape.gate == abi.SWIGLU else 1)
        self.norms = [PlainNorm(rng, shape.layer_norm) for _ in range(4 if shape.sandwich else 2)]
        self.qkv = PlainMatrix(rng, shape.bits, (HEADS + 2 * shape.groups) * SIZE, HIDDEN, True)
        self.dense = PlainMatrix(rng, shape.bits, HIDDEN, HEADS * SIZE, biased)
        self.up = PlainMatrix(rng, shape.bits, wide, HIDDEN, biased)
        self.down = PlainMatrix(rng, shape.bits, HIDDEN, FFN, biased)
        # Room for either type.
        self.cache = [(ctypes.c_float * (SEQUENCES * shape.groups * PLACES * SIZE))() for _ in range(2)]
        self.kept = [BrainRows(held) if cache == abi.BRAIN else held for held in self.cache]
        self.keys: dict[tuple[int, int, int], Row] = {}
        self.values: dict[tuple[int, int, int], Row] = {}
        matrices = (matrix.described for matrix in (self.qkv, self.dense, self.up, self.down))
        norms = [norm.described for norm in self.norms] + [abi.Norm()] * (4 - len(self.norms))
        self.described = abi.Layer(*norms, *matrices, *map(address, self.cache))
        self._remember(shape.groups, rng)

    def _remember(self, groups: int, rng: Numbers) -> None:
        """Keys and values of the past, which bfloat16 holds exactly; they grow, so that later parts weigh more."""
        rows = [[rng.integer(-32, 32) / 64 for _ in range(SIZE)] for _ in range(37)]
        grown = [[[2**part * value for value in row] for row in rows] for part in range(PLACES // 128 + 1)]
        for group in range(groups):
            for place in PAST:
                at = ((groups + group) * PLACES + place) * SIZE
                for number, past in enumerate((self.keys, self.values)):
                    row = grown[place // 128][(place + 5 * number + group) % len(rows)]
                    past[1, group, place] = self.kept[number][at : at + SIZE] = row


class SmallModel:
    """Two layers and a head of repeatable weights, as Python computes with them and as the library is told.

    ``cache``: SINGLE or BRAIN, what the library keeps keys and values in; Python keeps them whole.
    """

    def __init__(self, shape: Shape, rng: Numbers, cache: int) -> None:
        self.shape = shape
        self.layers = [PlainLayer(shape, rng, cache) for _ in range(LAYERS)]
        self.last, self.head = PlainNorm(rng, shape.layer_norm), PlainMatrix(rng, shape.bits, VOCABULARY, HIDDEN, False)
        self.described = abi.Model(
            layers=LAYERS, hidden=HIDDEN, heads=HEADS, groups=shape.groups, size=SIZE, ffn=FFN,
            within_heads=shape.within_heads, rotary=shape.rotary, turned=shape.turned,
            parts=shape.parts, gate=shape.gate, precision=EXACT,
            cache=cache, residual_of_norm=shape.residual_of_norm, residual=shape.residual, epsilon=EPSILON,
            layer=(abi.Layer * LAYERS)(*(layer.described for layer in self.layers)),
            last=self.last.described, head=self.head.described,
        )  # fmt: skip


def turned(shape: Shape, x: Row, cosines: Sequence[float], sines: Sequence[float]) -> Row:
    """A head after its rotation: pairs of its first neighbours, or the halves of each of its parts."""
    out, width = list(x), SIZE // shape.parts
    if shape.rotary == abi.PAIRS:
        pairs = [(2 * i, 2 * i + 1, i, i) for i in range(shape.turned // 2)]
    else:
        starts = [part + i for part in range(0, SIZE, width) for i in range(width // 2)]
        pairs = [(i, i + width // 2, i, i + width // 2) for i in starts]
    for first, second, one, other in pairs:
        out[first] = x[first] * cosines[one] - x[second] * sines[one]
        out[second] = x[second] * cosines[other] + x[first] * sines[other]
    return out


def gated(shape: Shape, up: Row) -> Row:
    if shape.gate == abi.SWIGLU:
        return [gate / (1 + math.exp(-gate)) * value for gate, value in zip(up[:FFN], up[FFN:])]  # noqa: B905
    return [v * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in up]


def mixture(query: Row, keys: list[Row], values: list[Row]) -> Row:
    scores = [sum(map(float.__mul__, query, key)) / math.sqrt(SIZE) for key in keys]
    largest = max(scores)
    weights = [math.exp(score - largest) for score in scores]
    total = sum(weights)
    return [sum(map(float.__mul__, weights, column)) / total for column in zip(*values)]  # noqa: B905


class Pass:
    """Some tokens through a model: ``by`` lets the library compute, ``error`` compares with plain Python.

    The first ``answers`` tokens are those of answers, of which ``fast`` keeps more than of prompts; all where None.
    """

    def __init__(
        self, model: SmallModel, tokens: Sequence[tuple[int, int, int]], rng: Numbers, answers: int | None = None
    ) -> None:
        self.model, self.tokens, self.rows = model, tokens, len(tokens)
        self.answers = self.rows if answers is None else answers
        width = model.shape.turned // (2 if model.shape.rotary == abi.PAIRS else 1)
        angles = rng.floats(self.rows * width, -3, 3)
        self.cosines, self.sines = floats([*map(math.cos, angles)]), floats([*map(math.sin, angles)])
        self.width, self.inputs = width, rng.floats(self.rows * HIDDEN, -2, 2)
        self.hidden, self.logits = floats(self.inputs), floats([math.nan] * (self.rows * VOCABULARY))
        self.queries = floats([math.nan] * (self.rows * HEADS * SIZE))  # between the halves of a layer

    def by(self, library: ctypes.CDLL) -> int:
        """The library's status; ``hidden`` and ``logits`` are its results."""
        return self._step(library, self.model.described, range(self.rows), self.rows)

    def in_halves(self, library: ctypes.CDLL, at_once: int) -> int:
        """The same, half a layer at a time over ``at_once`` rows after the others."""
        model, status = abi.Model.from_buffer_copy(self.model.described), 0
        model.layers = 1
        for layer in self.model.layers:
            model.layer = ctypes.pointer(layer.described)
            for half in (abi.STORING, abi.SEEING):
                for first in range(0, self.rows, at_once):
                    some = range(first, min(first + at_once, self.rows))
                    status = max(status, self._step(library, model, some, 0, half))
        model.layers = 0
        return max(status, self._step(library, model, range(self.rows), self.rows))

    def _step(self, library: ctypes.CDLL, model: abi.Model, rows: range, wanted: int, half: int = abi.BOTH) -> int:
        columns = zip(*self.tokens[rows.start : rows.stop])  # noqa: B905
        places = [(ctypes.c_int64 * len(rows))(*column) for column in columns]
        at = rows.start * ctypes.sizeof(ctypes.c_float)
        tokens = abi.Tokens(
            len(rows), *map(ctypes.addressof, places),
            *(ctypes.addressof(each) + at * self.width for each in (self.cosines, self.sines)),
            self.model.shape.groups * PLACES * SIZE, PLACES * SIZE, ctypes.addressof(self.hidden) + at * HIDDEN,
            ctypes.addressof(self.logits), wanted, max(0, self.answers - rows.start), half,
            None if half == abi.BOTH else ctypes.addressof(self.queries) + at * HEADS * SIZE,
        )  # fmt: skip
        memory = ctypes.create_string_buffer(library.glm_step_bytes(model, tokens, 2) + 64)
        return int(library.glm_step(model, tokens, -(-ctypes.addressof(memory) // 64) * 64, 2))

    def error(self) -> float:
        """The largest difference of a state or logit from plain Python's, as a share of the largest of its kind."""
        x = [self.inputs[at : at + HIDDEN] for at in range(0, len(self.inputs), HIDDEN)]
        for layer in self.model.layers:
            x = self._layer(layer, x)
        logits = [self.model.head.times(self.model.last(row)) for row in x]
        return max(self._share(self.hidden, x), self._share(self.logits, logits))

    @staticmethod
    def _share(found: Sequence[float], expected: list[Row]) -> float:
        flat = [value for row in expected for value in row]
        worst = max(abs(a - b) if a == a else math.inf for a, b in zip(found, flat))  # noqa: B905
        return worst / max(map(abs, flat))

    def _layer(self, layer: PlainLayer, x: list[Row]) -> list[Row]:
        x = self._block(layer.norms[0::2], lambda normed: self._attention(layer, normed), x)
        return self._block(layer.norms[1::2], lambda normed: [self._mlp(layer, row) for row in normed], x)

    def _block(self, norms: list[PlainNorm], work: Callable[[list[Row]], list[Row]], x: list[Row]) -> list[Row]:
        """What a norm and some work give, and the norm behind it if there is one, added to the residual."""
        normed, by = [norms[0](row) for row in x], self.model.shape.residual
        kept, added = normed if self.model.shape.residual_of_norm else x, work(normed)
        for norm in norms[1:]:
            added = [norm(row) for row in added]
        return [[k * by + a for k, a in zip(*rows)] for rows in zip(kept, added)]  # noqa: B905

    def _mlp(self, layer: PlainLayer, row: Row) -> Row:
        return layer.down.times(gated(self.model.shape, layer.up.times(row)))

    def _attention(self, layer: PlainLayer, normed: list[Row]) -> list[Row]:
        """Every row's keys and values are stored before any row looks."""
        queries = [self._store(layer, row, layer.qkv.times(x)) for row, x in enumerate(normed)]
        return [layer.dense.times(self._attend(layer, row, heads)) for row, heads in enumerate(queries)]

    def _store(self, layer: PlainLayer, row: int, mixed: Row) -> list[Row]:
        """Puts a row's keys and values away, and returns its queries."""
        shape, (sequence, place, _) = self.model.shape, self.tokens[row]
        heads = [mixed[at : at + SIZE] for at in range(0, len(mixed), SIZE)]
        if shape.within_heads:
            heads = heads[0::3] + heads[1::3] + heads[2::3]
        at = slice(row * self.width, (row + 1) * self.width)
        turn = [turned(shape, head, self.cosines[at], self.sines[at]) for head in heads[: HEADS + shape.groups]]
        for group in range(shape.groups):
            layer.keys[sequence, group, place] = turn[HEADS + group]
            layer.values[sequence, group, place] = heads[HEADS + shape.groups + group]
        return turn[:HEADS]

    def _attend(self, layer: PlainLayer, row: int, queries: list[Row]) -> Row:
        sequence, _, visible = self.tokens[row]
        out: Row = []
        for head, query in enumerate(queries):
            seen = [(sequence, head * self.model.shape.groups // HEADS, place) for place in range(visible)]
            out += mixture(query, [layer.keys[at] for at in seen], [layer.values[at] for at in seen])
        return out
