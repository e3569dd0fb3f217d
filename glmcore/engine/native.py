"""The whole model as one call of the CPU kernel: no operator in between, threads woken once for all layers.

The modules stay what they are and hold the weights; this only tells the library where those lie. Where a module is not
what the library knows (an adapter, a hook, another device or type), the model runs through its modules as ever.
"""

from __future__ import annotations

import ctypes
import weakref

import torch
from torch import Tensor, nn

from glmcore.config import ModelConfig
from glmcore.engine.sweeps import Stretch
from glmcore.kernels import abi
from glmcore.kernels.load import Kernel
from glmcore.layout import layout
from glmcore.models import glm1, glm2
from glmcore.models.cache import KVCache
from glmcore.models.rope import rotation
from glmcore.quant.halves import HalfLinear
from glmcore.quant.linear import QuantLinear

CACHES = {torch.float32: abi.SINGLE, torch.bfloat16: abi.BRAIN}
FLOATS = {torch.float16: 16, torch.bfloat16: 17, torch.float32: 32}
LAYERS = (glm1.Layer, glm2.Layer)
ROTARY = {"halves": abi.HALVES, "pairs": abi.PAIRS}
AFTER = ("post_self_attn_layernorm", "post_mlp_layernorm")
NORMS = (nn.LayerNorm, glm2.RMSNorm)
# Rows up to which unquantised matrices are read row by row here; for more, torch's matrix product is faster.
FEW_FLOAT_ROWS = 8
# The library's attention has room for the scores of so many queries that share a key.
MOST_QUERIES = 64
MOST_SIZE = 256  # of a head (MOST_SIZE in cpu/attention.h)
LANES = 16  # of the widest vectors, which heads have to fill
ALIGNMENT = 64
# Tokens of a prompt at a time: as many share an unpacked tile of weights, and more would only take more workspace.
CHUNK = 128
# A prompt of so few tokens keeps what answers keep: of many, small errors even out (PRECISE_ROWS in cpu/glm.h).
SHORT_PROMPT = 16


class Unsuited(Exception):
    """Why a model has to run through its modules."""


class NativeModel:
    """A model in the CPU's memory as the library wants it, with the workspace of its passes. Raises ``Unsuited``."""

    def __init__(self, model: nn.Module, config: ModelConfig) -> None:
        self.model, self.config = model, config
        size = config.head_dim
        if config.num_heads // config.num_kv_heads > MOST_QUERIES or size % LANES or size > MOST_SIZE:
            raise Unsuited("heads of an unusual shape")
        self.kernel = kernel_of(model)
        self.held: list[Tensor] = []  # what the library reads that no module holds: scales and biases in float32
        self.layers = (abi.Layer * config.num_layers)(*map(self._layer, model.layers))
        self.description = self._model()
        self.quantised = all(layer.qkv.bits < 16 for layer in self.layers)
        self.pointed: weakref.ref[Tensor] | None = None  # the first layer's keys, where the layers point to their cache
        self.memory = torch.empty(0, dtype=torch.uint8)

    def takes(self, rows: int) -> bool:
        """Whether this is the faster way for so many tokens."""
        return self.quantised or rows <= FEW_FLOAT_ROWS

    def __call__(self, ids: Tensor, cache: KVCache, *, prompt: int = 0) -> Tensor:
        """Logits [V] after ``ids`` [1, S], which go on top of the cache's first row. See ``reading``."""
        if self.model.prefix is not None:
            self.model.prefix.before(cache)
        reading = self.reading(ids, cache, 0, cache.length, prompt=prompt)
        reading.run()
        cache.advance(ids.shape[1])
        return reading.logits[0]

    def reading(
        self, ids: Tensor, cache: KVCache, row: int, start: int, position_ids: Tensor | None = None, context: int = 0,
        *, prompt: int = 0,
    ) -> Pass:  # fmt: skip
        """The pass of ``ids`` [1, S], which stand behind the first ``start`` tokens of a row; logits after the last.

        prompt: the length of the whole prompt that ``ids`` are a part of, 0 if they are an answer's. What is kept of
        their activations depends on it, and not on how the prompt is cut: it comes out the same to the bit.
        position_ids: as the model takes them, needed by ChatGLM-6B alone. context: how many tokens at the row's
        beginning see each other both ways. The cache's length is the caller's.
        """
        count = ids.shape[1]
        places = torch.arange(start, start + count) + cache.prefix
        return Pass(
            self, cache, ids[0], torch.full((count,), row), places,
            (places + 1).clamp_min(cache.prefix + context),
            (places - cache.prefix)[None] if position_ids is None else position_ids,
            wanted=1, answers=0 if prompt > SHORT_PROMPT else count,
        )  # fmt: skip

    def together(self, ids: Tensor, sequence: Tensor, places: Tensor, cache: KVCache, position_ids: Tensor) -> Tensor:
        """Logits [S, V] after the tokens ``ids`` [S] of answers, in one pass.

        sequence, places: int64 [S], each token's row of the cache and its place there; it sees what stands before it,
        tokens of this pass too. position_ids: as the model takes them, [1, S] or [1, 2, S]. The cache's length is the
        caller's. A row's bits do not depend on the other rows.
        """
        step = Pass(
            self, cache, ids, sequence, places, places + 1, position_ids, wanted=len(ids), answers=len(ids)
        )  # fmt: skip
        step.run()
        return step.logits

    def both(
        self, ids: Tensor, sequence: Tensor, places: Tensor, cache: KVCache, piece: Tensor, row: int, start: int,
        *, prompt: int, last: bool,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """``together`` and the ``reading`` of a few tokens ``piece`` [P] in one pass, so that weights are read once.

        Of causal models. Logits [S, V] and, where ``piece`` is the ``last`` of its prompt, [V]: to the bit those of
        two passes.
        """
        count, own = len(ids), torch.arange(start, start + len(piece))
        places = torch.cat([places, own])
        seen = places + cache.prefix
        step = Pass(
            self, cache, torch.cat([ids, piece]), torch.cat([sequence, torch.full_like(own, row)]), seen, seen + 1,
            places[None], wanted=0, answers=count if prompt > SHORT_PROMPT else len(places),
        )  # fmt: skip
        step.run()
        return self.head(step.hidden[:count]), self.head(step.hidden[-1:])[0] if last else None

    def head(self, states: Tensor) -> Tensor:
        """Logits [S, V] of states [S, hidden size] in float32 that the last layer left, as a step of S rows does it."""
        logits, nothing = torch.empty(len(states), self.config.vocab_size), torch.zeros(len(states), dtype=torch.int64)
        states = states.contiguous()
        tokens = abi.Tokens(
            len(states), *[nothing.data_ptr()] * 5, 0, 0, states.data_ptr(), logits.data_ptr(), len(states), len(states)
        )
        description = abi.Model.from_buffer_copy(self.description)
        description.layers = 0
        self.kernel.step(description, tokens, self._workspace(tokens))
        return logits

    def trial(self, cache: KVCache, rows: int, context: int) -> None:
        """A step over a token of each of so many sequences, every one after ``context`` tokens, for its time alone."""
        places = torch.full((rows,), context)
        positions = torch.stack([places, torch.ones_like(places)]) if self.config.position_2d else places
        self.together(torch.arange(5, 5 + rows), torch.arange(rows), places, cache, positions[None]).argmax(-1)

    @property
    def one_precision(self) -> bool:
        """Whether prompts keep what answers keep, so that a token's bits are the same in both."""
        return self.quantised and self.kernel.precision != "fast"

    def run(self, tokens: abi.Tokens, cache: KVCache, layers: range) -> None:
        """Some of the layers over ``tokens``."""
        self._point_to(cache)
        description = self.description
        if len(layers) < self.config.num_layers:
            description = abi.Model.from_buffer_copy(description)
            description.layers = len(layers)
            description.layer = ctypes.pointer(self.layers[layers.start])
        self.kernel.step(description, tokens, self._workspace(tokens))

    def _point_to(self, cache: KVCache) -> None:
        """Tell the layers where their keys and values are; a cache that grew lies elsewhere."""
        if self.pointed is not None and self.pointed() is cache.keys[0]:
            return
        self.description.cache = CACHES[cache.keys[0].dtype]
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            layer.keys, layer.values = keys.data_ptr(), values.data_ptr()
        self.pointed = weakref.ref(cache.keys[0])  # a cache that nobody has any more is not held here

    def _workspace(self, tokens: abi.Tokens) -> int:
        """The address of enough memory, which is kept from call to call."""
        needed = self.kernel.step_bytes(self.description, tokens) + ALIGNMENT
        if len(self.memory) < needed:
            self.memory = torch.empty(needed, dtype=torch.uint8)
        return -(-self.memory.data_ptr() // ALIGNMENT) * ALIGNMENT

    def _model(self) -> abi.Model:
        config, model, traits = self.config, self.model, self.config.traits
        last, head = model.final_norm, model.lm_head
        return abi.Model(
            layers=config.num_layers, hidden=config.hidden_size, heads=config.num_heads, groups=config.num_kv_heads,
            size=config.head_dim, ffn=config.ffn_hidden_size, within_heads=not config.multi_query,
            rotary=ROTARY[traits.rotary], turned=config.turned, parts=2 if config.position_2d else 1,
            gate=abi.SWIGLU if traits.gated else abi.GELU, precision=self.kernel.precision_number,
            residual_of_norm=config.residual_post_norm, residual=traits.residual_scale,
            epsilon=config.norm_eps, layer=self.layers, last=abi.Norm() if absent(last) else self._norm(last),
            head=abi.Matrix() if absent(head) else self._matrix(head),
        )  # fmt: skip

    def _layer(self, layer: nn.Module) -> abi.Layer:
        if type(plain(layer)) not in LAYERS:
            raise Unsuited(f"a layer is a {type(layer).__name__}")
        traits = self.config.traits
        attention = plain(getattr(layer, layout(self.config).attention))
        mlp = plain(layer.mlp)
        return abi.Layer(
            self._norm(layer.input_layernorm), self._norm(layer.post_attention_layernorm),
            *(self._norm(getattr(layer, name)) if traits.sandwich else abi.Norm() for name in AFTER),
            self._matrix(attention.query_key_value), self._matrix(attention.dense),
            self._matrix(mlp.dense_h_to_4h), self._matrix(mlp.dense_4h_to_h),
        )  # fmt: skip

    def _norm(self, module: nn.Module) -> abi.Norm:
        if type(plain(module)) not in NORMS:
            raise Unsuited(f"a norm is a {type(module).__name__}")
        if module.weight.dtype != torch.float32:
            raise Unsuited(f"it computes in {module.weight.dtype}")
        bias = getattr(module, "bias", None)
        return abi.Norm(self._floats(module.weight), None if bias is None else self._floats(bias))

    def _floats(self, vector: Tensor) -> int:
        """The address of a vector in float32."""
        if vector.device.type != "cpu":
            raise Unsuited(f"something lies on {vector.device}")
        kept = vector.detach().float().contiguous()
        self.held.append(kept)
        return kept.data_ptr()

    def _matrix(self, linear: nn.Module) -> abi.Matrix:
        """A linear's weight, in place, and its vectors."""
        if type(plain(linear)) not in (QuantLinear, HalfLinear, nn.Linear):
            raise Unsuited(f"a linear is a {type(linear).__name__}")
        weight = linear.weight
        if weight.device.type != "cpu" or not weight.is_contiguous():
            raise Unsuited("a weight lies elsewhere")
        packed = isinstance(linear, QuantLinear)
        return abi.Matrix(
            linear.bits if packed else FLOATS[weight.dtype], weight.data_ptr(),
            self._floats(linear.weight_scale) if packed else None,
            None if linear.bias is None else self._floats(linear.bias),
            linear.out_features, linear.in_features,
        )  # fmt: skip


class Pass:
    """Some tokens on their way through the layers; ``logits`` [wanted, V] at the end.

    The logits are of the last rows; the first ``answers`` rows keep an answer's precision. hidden: [S, hidden size] in
    float32, which is written to, of tokens that have been through layers elsewhere.
    """

    def __init__(
        self, native: NativeModel, cache: KVCache, ids: Tensor, sequence: Tensor, places: Tensor, visible: Tensor,
        position_ids: Tensor, *, wanted: int, answers: int, hidden: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.native, self.cache, self.wanted, self.answers = native, cache, wanted, answers
        cosines, sines = rotation_rows(native.config, position_ids)
        self.rows = (sequence, places, visible, cosines, sines)
        self.hidden = native.model.embedding(ids).float().contiguous() if hidden is None else hidden
        self.queries: Tensor | None = None  # [S, heads x size] of tokens between the halves of a layer
        self.logits = torch.empty(wanted, native.config.vocab_size)

    def run(self) -> None:
        """All of them through all layers."""
        self.native.run(self._tokens(slice(None), self.wanted), self.cache, range(self.native.config.num_layers))

    def run_some(self, stretch: Stretch) -> None:
        """Some of them through half a layer."""
        if self.queries is None:
            self.queries = torch.empty(len(self.hidden), self.native.config.num_heads * self.native.config.head_dim)
        rows = slice(stretch.first, stretch.last)
        tokens = self._tokens(rows, 0)
        tokens.half, tokens.queries = stretch.half, self.queries[rows].data_ptr()
        self.native.run(tokens, self.cache, range(stretch.layer, stretch.layer + 1))

    def finish(self) -> Tensor:
        """The logits, of tokens that went some at a time."""
        self.logits = self.native.head(self.hidden[len(self.hidden) - self.wanted :])
        return self.logits

    def _tokens(self, rows: slice, wanted: int) -> abi.Tokens:
        keys, hidden = self.cache.keys[0], self.hidden[rows]
        return abi.Tokens(
            len(hidden), *(tensor[rows].data_ptr() for tensor in self.rows), keys.stride(0), keys.stride(1),
            hidden.data_ptr(), self.logits.data_ptr(), wanted, max(0, self.answers - (rows.start or 0)),
        )  # fmt: skip


def native_model(model: nn.Module, config: ModelConfig) -> NativeModel | None:
    """The model for the library, where it computes in float32 and the library knows all of its parts."""
    try:
        return NativeModel(model, config)
    except Unsuited:
        return None


def kernel_of(model: nn.Module) -> Kernel:
    """The kernel that the model's linears were given. Errors: Unsuited where they have none."""
    for module in model.modules():
        if isinstance(module, (QuantLinear, HalfLinear)) and module.kernel is not None:
            return module.kernel
    raise Unsuited("there is no kernel")


def absent(module: nn.Module | None) -> bool:
    """Whether the model has no such part: its own, or that of a stage which another one has."""
    return module is None or isinstance(module, nn.Identity)


def plain(module: nn.Module) -> nn.Module:
    """The module itself. Errors: Unsuited where something hooks into it."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise Unsuited(f"something hooks into a {type(module).__name__}")
    return module


def rotation_rows(config: ModelConfig, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, D'] in float32, one row for each position, the parts of a head side by side.

    position_ids: [1, S], or [1, 2, S] where they have two parts.
    """
    parts = [part[0, 0] for part in rotation(config, position_ids, torch.float32)]
    return torch.cat(parts[0::2], dim=-1), torch.cat(parts[1::2], dim=-1)
