"""What the models of a generation have in common and no ``config.json`` says: one row each. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rounds:
    """A prompt that is one text of numbered rounds, as of models that were trained without roles and tools."""

    first: int  # the number of the first round
    gap: str  # between a round's head, question and answer, and between rounds
    bare_question: bool = False  # without a history the question stands alone, without a round


@dataclass(frozen=True)
class Traits:
    """How a generation computes and talks, beside the sizes and switches of its configuration."""

    modules: str = "glm2"  # the module of ``models`` that computes it
    files: str = "glm2"  # how its files spell configuration and tensors: as the original's "glm1" or "glm2", or "hf"
    sandwich: bool = False  # attention and MLP have a norm behind them, too
    causal: bool = True  # a token sees the tokens before it alone; else a prompt sees itself both ways up to <sop>
    gated: bool = True  # the MLP multiplies by a gate (SwiGLU: two halves); else it is GELU's tanh form
    rotary: str = "pairs"  # what turns together: "pairs" of neighbours, or a head's (or part's) two "halves"
    squeezes_positions: bool = False  # rope_ratio divides the positions; else it multiplies the base of the angles
    angles_in_half: bool = False  # in float16 the angles are float16 too
    # The residual's factor. ChatGLM-6B's code never passes its number of layers on, so it is that of 28 layers for
    # every model (`alpha = (2 * 28) ** 0.5` of GLMBlock).
    residual_scale: float = 1.0
    scales_in_float32: bool = False  # its quantiser divides by the largest value in float32, not in the weight's type
    framed: bool = True  # [gMASK] and <sop> stand around every input
    knows_tools: bool = True
    python_calls: bool = False  # a call is written as tool_call(name=value), else as a JSON object
    mends_blanks: bool = False  # its decoder takes away blanks before punctuation, as transformers once did
    thinks: bool = False  # an answer begins within <think>; its tools are introduced as by ChatGLM
    sampling: tuple[float, float] = (0.8, 0.8)  # temperature and top_p of the original chat()
    rounds: Rounds | None = None  # how its prompts are numbered; None: each message begins with its role's token
    wide_punctuation: bool = False  # its tokenizer writes Chinese punctuation in half width, which answers mend


TRAITS = {
    "v1": Traits(
        modules="glm1", files="glm1", causal=False, gated=False, rotary="halves", angles_in_half=True,
        residual_scale=(2 * 28) ** 0.5, scales_in_float32=True, sampling=(0.95, 0.7),
        knows_tools=False, rounds=Rounds(first=0, gap="\n", bare_question=True), wide_punctuation=True,
        mends_blanks=True,
    ),
    "v2": Traits(
        squeezes_positions=True, angles_in_half=True, knows_tools=False, rounds=Rounds(first=1, gap="\n\n"),
        mends_blanks=True,
    ),
    "v3": Traits(python_calls=True, mends_blanks=True),
    "glm4": Traits(),
    # Those that transformers computes by classes of its own, from files of its own spelling.
    "glm4-hf": Traits(files="hf"),
    "glm-edge": Traits(files="hf", framed=False, knows_tools=False),
    "glm4-0414": Traits(files="hf", sandwich=True),
    "glm-z1": Traits(files="hf", sandwich=True, thinks=True, sampling=(0.6, 0.95)),
}  # fmt: skip
ORIGINAL = tuple(name for name, row in TRAITS.items() if row.files != "hf")
