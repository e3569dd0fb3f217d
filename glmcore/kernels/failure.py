"""Why there is no usable kernel."""

from __future__ import annotations

from glmcore.errors import GlmError


class KernelError(GlmError):
    """No usable kernel; ``log``: what the tools said.

    ``stage``: cache (nowhere to keep it), compiler, compile, load, symbols, crash or verify.
    """

    def __init__(self, code: str, what: str, *, stage: str, log: str = "", where: str = "", hint: str = "") -> None:
        super().__init__(code, what, where=where, hint=hint)
        self.stage, self.log = stage, log
