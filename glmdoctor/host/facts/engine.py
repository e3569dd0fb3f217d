"""The compiled engine that the user names in place of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from glmdoctor.host.facts.base import Fact, Facts


@dataclass(frozen=True)
class EngineFile:
    """A file that an engine consists of, and what is wrong with it."""

    path: str
    size: int  # bytes that it should have
    sha256: str  # that it should have
    fault: str | None = None  # "missing", "has 10 bytes of 20", "has changed", "cannot be read: …"
    found: int | None = None  # bytes that it has in place of ``size``
    hashed: bool = False  # whether its content was looked at, or its size alone


@dataclass(frozen=True)
class Engine:
    """What the manifest of an engine says, and how its files are; nothing of it is loaded."""

    path: str
    fault: str | None = None  # why the manifest cannot be read; all that follows is then empty
    name: str = ""
    generation: str = ""
    graphs: tuple[str, ...] = ()
    total_len: int = 0
    device: str = ""  # "cpu", "cuda"
    capability: str = ""  # of the card that it was compiled for: "9.0"
    instructions: tuple[str, ...] = ()  # CPU flags that its code takes
    torch: str = ""  # "2.13.0+cpu"
    kernel: str = ""  # the hash of the sources of quantised products; "" where it has none
    kernel_here: str = ""  # that of the glmcore that examines
    files: tuple[EngineFile, ...] = ()  # weights by their sizes alone, which is what can be told at once


class EngineFacts(Facts):
    engine = Fact(Engine, "engine.engine")
    # Its files whose hashes take longer, with what is wrong with their content.
    engine_weights = Fact(tuple[EngineFile, ...], "engine.engine_weights", slow=True)
