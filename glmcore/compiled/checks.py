"""Whether an engine may be opened here: its manifest against this machine, and its files against its manifest.

All of it is decided before any code of the engine is loaded. Imports no torch: the doctor asks the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from glmcore.compiled.manifest import MANIFEST, Built, Manifest, Weights, invalid, manifest_from_json
from glmcore.digest import FileSum, sum_of
from glmcore.errors import GlmError
from glmcore.folders import is_root, who_else
from glmcore.kernels.isa import cpu_features
from glmcore.reading import JSON_LIMIT, read_bytes

ANEW = "compile it anew on this machine: glmcore compile"
AGAIN = "copy the engine again, or compile it anew"
KERNELS = Path(__file__).parent.parent / "kernels"
# What computes a graph's quantised products, beside the kernel's own sources.
OPERATORS = (
    *(Path(__file__).with_name(name) for name in ("operators.py", "products.c", "products.py")),
    KERNELS / "abi.py",
    KERNELS / "cuda" / "fused.py",
)


@dataclass(frozen=True)
class Here:
    """What an engine meets: torch's version, the kernel's hash, CPU flags, and the capability of each card."""

    torch: str
    kernel: str
    instructions: frozenset[str]
    capabilities: tuple[str, ...] = ()


def kernel_hash() -> str:
    """Of the sources of what multiplies packed matrices; an engine's numbers depend on them."""
    digest = hashlib.sha256()
    for path in (*sorted((KERNELS / "cpu").glob("*.[ch]")), *OPERATORS):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


def here(torch: str, capabilities: tuple[str, ...] = ()) -> Here:
    """This interpreter on this machine. torch: its ``__version__``, whose local part ("+cu130") the package's metadata
    may lack; capabilities: of its cards, "9.0", which torch knows."""
    return Here(torch, kernel_hash(), cpu_features(), capabilities)


def foreign(built: Built, machine: Here) -> GlmError | None:
    """Why code that was compiled for something else must not run here; None where it may. Pure."""
    lacking = sorted(set(built.instructions) - machine.instructions)
    if lacking:
        return _foreign(f"the engine takes instructions that this CPU lacks: {', '.join(lacking)}")
    if built.torch != machine.torch:
        return GlmError(
            "engine-foreign",
            f"the engine was compiled by torch {built.torch}, and torch {machine.torch} is here",
            hint=f"install torch {built.torch.partition('+')[0]}, or {ANEW}",
        )  # fmt: skip
    if built.kernel not in ("", machine.kernel):
        return _foreign(f"the engine was compiled for the kernel {built.kernel}, this glmcore has {machine.kernel}")
    if built.device == "cuda" and built.capability not in machine.capabilities:
        cards = ", ".join(machine.capabilities) or "none"
        return _foreign(f"the engine was compiled for a card of capability {built.capability}, here are: {cards}")
    return None


def _foreign(what: str) -> GlmError:
    return GlmError("engine-foreign", what, hint=ANEW)


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of the engine in ``folder``. Errors: GlmError("model-path", "engine-invalid")."""
    path = Path(folder, MANIFEST)
    if not os.path.isdir(folder):
        there = os.path.exists(folder)
        what = "an engine is a folder, and this is a file" if there else "the engine's folder does not exist"
        hint = "give its folder" if there else "give a folder that glmcore compile or combine made"
        raise GlmError("model-path", what, where=str(folder), hint=hint)
    try:
        text = read_bytes(path, JSON_LIMIT)
    except FileNotFoundError:
        hint = "give a folder that glmcore compile or combine made"
        raise invalid(f"there is no {MANIFEST}: this is no engine", folder, hint) from None
    except OSError as error:
        raise invalid(f"{MANIFEST} cannot be read: {error.strerror}", folder, readable(error, AGAIN)) from error
    return manifest_from_json(text, str(path))


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file is there and what it was. Errors: GlmError("engine-damaged") with the first that is not."""
    for name, wanted in manifest.files.items():
        check_file(folder / name, wanted, AGAIN)
    for part in manifest.weights:
        check_file(path_of(folder, part), FileSum(part.size, part.sha256), hint_of(part))


def damaged(what: str, where: Path, hint: str = "") -> GlmError:
    return GlmError("engine-damaged", what, where=str(where), hint=hint)


def path_of(folder: Path, part: Weights) -> Path:
    """Where a file of weights lies: a mapped one where it was, or beside the engine where that was copied."""
    own = folder / os.path.basename(part.file)
    return own if part.how == "inside" or (not os.path.exists(part.file) and own.exists()) else Path(part.file)


def hint_of(part: Weights) -> str:
    if part.how == "inside":
        return AGAIN
    return (
        f"bring the checkpoint's {os.path.basename(part.file)} back there or into the engine's folder, or compile anew"
    )


def check_file(path: Path, wanted: FileSum, hint: str) -> None:
    """GlmError("engine-damaged") where a file is missing, cut, or changed."""
    try:
        size = os.stat(path).st_size
        found = sum_of(path) if size == wanted.size else FileSum(size, "")
    except FileNotFoundError:
        raise damaged(f"{path.name} is missing", path.parent, hint) from None
    except OSError as error:
        what = f"{path.name} cannot be read: {error.strerror}"
        raise damaged(what, path.parent, readable(error, hint)) from error
    if found == wanted:
        return
    changed = (
        f"has {found.size} bytes of {wanted.size}" if found.size != wanted.size else "has changed (its hash differs)"
    )
    raise damaged(f"{path.name} {changed}", path.parent, hint)


def readable(error: OSError, hint: str) -> str:
    """What to do about a file that cannot be read: ``hint`` where its permissions are not why."""
    return "let this user read it" if error.errno == errno.EACCES else hint


def check_owner(path: Path) -> None:
    """GlmError("engine-damaged") where root would run what others could change."""
    if is_root() and (doubt := who_else(os.path.realpath(path))):
        what = f"root runs no engine that others could change: {doubt}"
        raise damaged(what, path, "copy it into a folder of root's")
