"""The driver's reports of faults in the kernel's log (Xids): which card each is of, and what it speaks of."""

from __future__ import annotations

import re

from glmdoctor.knowledge import versions


def place(pci: str) -> str:
    """A card's address, of NVML ("00000000:01:00.0") and of the log ("0000:01:00"), in one form; "" where unknown."""
    found = re.fullmatch(r"(?:[0-9a-f]*?([0-9a-f]{1,4}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.\d)?", pci.lower())
    return f"{int(found[1] or '0', 16):04x}:{found[2]}:{found[3]}" if found else ""


def kind(number: int) -> str:
    """What an Xid speaks of: "program", "driver", "memory", "card", "lost" or "unknown"."""
    rows = versions()["xid"]["rows"]
    return next((str(row["kind"]) for row in rows if number in row["numbers"]), "unknown")
