"""From the command line's options to a loaded engine, with progress on standard error."""

from __future__ import annotations

import sys
import time
from typing import Any


def load_engine(
    *,
    model: str | None,
    adapter: str | None = None,
    quant: str | None,
    dtype: str | None,
    plan_file: str | None,
    kernel_file: str | None,
    precision: str = "fast",
    cache: str | None = None,
    threads: int | None,
    **serving: Any,
):
    """The engine for ``model`` (the demo model where None)."""
    import glmcore

    progress = Progress(sys.stderr) if sys.stderr.isatty() else None
    return glmcore.load(
        model,
        adapter=adapter,
        plan=plan_file,
        quantize=quant,
        dtype=dtype,
        kernel_file=kernel_file,
        precision=precision,
        cache=cache,
        threads=threads,
        progress=progress,
        **serving,
    )


class Progress:
    """A bar with rate and remaining time; called with (bytes done, bytes in all) as tensors arrive."""

    WIDTH = 30

    def __init__(self, stream, label: str = "loading") -> None:
        self.stream, self.label, self.started, self.shown = stream, label, time.monotonic(), 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self.shown < 0.1:
            return
        self.shown = now
        elapsed = max(now - self.started, 1e-6)
        if done >= total:
            self.stream.write("\r\033[K")
        else:
            filled = round(self.WIDTH * done / total)
            left = (total - done) * elapsed / max(done, 1)
            bar = "#" * filled + "." * (self.WIDTH - filled)
            self.stream.write(f"\r{self.label} [{bar}] {done / 1e9:.1f}/{total / 1e9:.1f} GB, {left:.0f} s left")
        self.stream.flush()
