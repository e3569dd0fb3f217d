"""The original code's reference tensors as stages of a dump (tests/golden/README.md says what each of them is).

A file holds several runs. Each is a prompt with what it computed and, under another name, the tokens that followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from glmcore.golden.dump import Row, Stage, invalid

FILE = "golden.safetensors"
# A prompt's name → that of the tokens after it.
RUNS = {"prompt": "greedy", "batch": "batch_greedy", "mask": "mask_greedy"}
LAYER = re.compile(r"layer(?P<layer>\d+)\.(?P<kind>key|value|out)", re.ASCII)


def runs(path: Path, tensors: Mapping[str, Tensor]) -> list[list[Stage]]:
    """The stages of each run that ``path`` holds, at least one.

    Errors: GlmError("dump-invalid"), also where the tensors have not the shapes of the original code's.
    """
    held = {prompt: tokens for prompt, tokens in RUNS.items() if _names(prompt, tokens) <= tensors.keys()}
    if not held:
        raise invalid(path, f"it holds no run of the original code: {', '.join(sorted(_names('prompt', 'greedy')))}")
    try:
        return [_stages(tensors, prompt, tokens) for prompt, tokens in held.items()]
    except (IndexError, ValueError):
        raise invalid(path, "its tensors have not the shapes of the original code's") from None


def _names(prompt: str, tokens: str) -> set[str]:
    first = {f"{prompt}.{name}" for name in ("input_ids", "position_ids", "logits")}
    return first | {f"{tokens}.{name}" for name in ("tokens", "query_position_ids", "logits")}


def _stages(tensors: Mapping[str, Tensor], prompt: str, tokens: str) -> list[Stage]:
    ids = tensors[f"{prompt}.input_ids"]
    lengths = tensors.get(f"{prompt}.lengths", ids.new_full((len(ids),), ids.shape[1])).tolist()
    first = Stage(0, "prompt", [_prompt(tensors, prompt, row, own) for row, own in enumerate(lengths)])
    chosen, logits = tensors[f"{tokens}.tokens"], tensors[f"{tokens}.logits"]
    positions = tensors[f"{tokens}.query_position_ids"]

    def step(row: int, number: int) -> Row:
        """The token that the step before chose goes in; ``positions`` and ``logits`` are those of its own step."""
        fed = chosen[row, number - 1 : number]
        return {"ids": fed, "positions": positions[row, ..., number : number + 1], "logits": logits[row, number]}

    later = [
        Stage(0, f"token {number}", [step(row, number) for row in range(len(ids))])
        for number in range(1, chosen.shape[1])
    ]
    return [first, *later]


def _prompt(tensors: Mapping[str, Tensor], prompt: str, row: int, own: int) -> Row:
    """A prompt's row without the padding, which stands on its left."""
    whole = {
        "ids": tensors[f"{prompt}.input_ids"][row, -own:],
        "positions": tensors[f"{prompt}.position_ids"][row][..., -own:],
        "logits": tensors[f"{prompt}.logits"][row, -1],
    }
    for name, tensor in tensors.items():
        if match := LAYER.fullmatch(name.removeprefix(f"{prompt}.")):
            whole[f"layer.{match['layer']}.{match['kind']}"] = tensor[row]
    return whole
