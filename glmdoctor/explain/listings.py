"""What a listing must say besides the words that a signature names: a figure at its limit, a name that is not there.

Each check is given the plain text, in lower case and as one line, and where the signature's words begin in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

AROUND = 700  # characters of a listing before and after the words
DEGREES = re.compile(r"gpu (current|slowdown|max operating) temp : (\d{1,3}) c")
SHAPES = re.compile(r"\((\d{1,9})x(\d{1,9}) and (\d{1,9})x\d{1,9}\)")
POINTER = re.compile(r" 1[2-4]\d [a-z0-9: -]{6,30} \S{1,200}\.(?:safetensors|bin)\b")
LONG = re.compile(r"'max_position_embeddings': (\d{1,9})")


def _around(text: str, start: int) -> str:
    return text[max(0, start - AROUND) : start + AROUND]


def temperature_at_limit(text: str, start: int) -> bool:
    """`nvidia-smi -q`: the current temperature has reached the one where the card slows itself down."""
    degrees = {name: int(value) for name, value in reversed(DEGREES.findall(text[start : start + AROUND]))}
    current = degrees.pop("current", 0)
    return any(0 < limit <= current for limit in degrees.values())


def without_libcuda(text: str, start: int) -> bool:
    """`ls /usr/lib/wsl/lib`: Windows gave its graphics libraries, and no NVIDIA driver's."""
    return "libcuda" not in _around(text, start).replace("libcuda*", "")


def packed_shapes(text: str, start: int) -> bool:
    """A product with packed weights: they have half the rows that it takes, or all their numbers in one."""
    shapes = SHAPES.search(text, start, start + AROUND)
    if shapes is None:
        return False
    columns, rows = int(shapes[2]), int(shapes[3])
    return rows == 1 or columns == 2 * rows


def long_glm_config(text: str, start: int) -> bool:
    """config.json of a GLM-4-9B in the hf layout that reads 128 thousand tokens or more."""
    config = text[max(0, start - 3 * AROUND) : start + 3 * AROUND]
    length = LONG.search(config)
    return length is not None and int(length[1]) >= 1 << 17 and ("glmforcausallm" in config or "'glm'" in config)


def size_of_a_pointer(text: str, start: int) -> bool:
    """`ls -l`: a file of weights is as long as three lines of text, which name it in git-lfs."""
    return POINTER.search(text, start, start + AROUND) is not None


CHECKS: Mapping[str, Callable[[str, int], bool]] = {
    "temperature-at-limit": temperature_at_limit,
    "without-libcuda": without_libcuda,
    "packed-shapes": packed_shapes,
    "size-of-a-pointer": size_of_a_pointer,
    "long-glm-config": long_glm_config,
}
