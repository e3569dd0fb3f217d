"""What ``glmcore infer`` is asked for, held against what the engine was compiled for. Pure, imports no torch.

The closed tool chain takes these options as given and fails somewhere inside where they are wrong; an engine's lengths,
rows and devices are fixed, so whatever contradicts its manifest is refused here, with both values.
"""

from __future__ import annotations

from dataclasses import dataclass

from glmcore.compiled.manifest import Manifest
from glmcore.errors import GlmError
from glmcore.plan import NUMBERED, format_size

GIB = 2**30


@dataclass(frozen=True)
class Wishes:
    """None, or nothing, where the engine's own is to be taken. ``limits`` are GiB, one for each device."""

    base_length: int | None = None
    static_batch: int | None = None
    total_len: int | None = None
    devices: tuple[str, ...] = ()
    limits: tuple[float, ...] = ()
    strategy: str | None = None


def rows_of(manifest: Manifest, wishes: Wishes) -> int:
    """The rows of a call, after all that is asked for has been found to be the engine's.

    Errors: GlmError("usage") for the first that is not, with both values, and for an engine of one role alone.
    """
    for role in ("prefill", "decode"):
        if role not in manifest.roles:
            raise GlmError("usage", f"the engine has no {role} graph", hint="put it together with one: glmcore combine")
    lengths = manifest.lengths("prefill")
    if wishes.base_length is not None and wishes.base_length not in lengths:
        raise contradiction("--base-length", wishes.base_length, " or ".join(map(str, lengths)))
    least, most = manifest.batch
    rows = wishes.static_batch or least
    if not least <= rows <= most:
        raise contradiction("--static-batch-size", rows, str(least) if least == most else f"{least} to {most}")
    if wishes.total_len not in (None, manifest.total_len):
        raise contradiction("--total-len", wishes.total_len, manifest.total_len)
    _check_devices(manifest, wishes)
    return rows


def _check_devices(manifest: Manifest, wishes: Wishes) -> None:
    held = [device for device in manifest.plan["devices"] if device["pieces"]]
    names = tuple(device["name"] for device in held)
    if wishes.devices and wishes.devices != names:
        raise contradiction("--device", ",".join(wishes.devices), ",".join(names))
    if wishes.limits and len(wishes.limits) != len(names):
        raise contradiction("--multi-dev-dram-limit", f"{len(wishes.limits)} limits", f"{len(names)} devices")
    for limit, device in zip(wishes.limits, held, strict=False):
        if device["total_bytes"] > limit * GIB:
            taken = f"{format_size(device['total_bytes'])} on {device['name']}"
            raise contradiction("--multi-dev-dram-limit", f"{limit:g} GiB", taken)
    strategy = NUMBERED.get(wishes.strategy or "", wishes.strategy)
    # On one device every strategy gives the same engine.
    if len(names) > 1 and strategy not in (None, manifest.plan["strategy"]):
        raise contradiction("--split-strategy", strategy, manifest.plan["strategy"])


def contradiction(option: str, asked: object, own: object) -> GlmError:
    return GlmError(
        "usage", f"{option} asks for {asked}, the engine was compiled for {own}",
        hint=f"leave {option} away, or compile an engine for it",
    )  # fmt: skip


def device_names(text: str) -> tuple[str, ...]:
    """ "0,1" → ("cuda:0", "cuda:1"), as the document numbers its cards; names are taken as they are."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(f"cuda:{part}" if part.isdecimal() else "cuda:0" if part == "cuda" else part for part in parts)
