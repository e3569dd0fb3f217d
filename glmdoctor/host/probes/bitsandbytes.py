"""bitsandbytes in the examined interpreter: which binaries it brings. It is never imported."""

from __future__ import annotations

import re

from glmdoctor.host.facts import Bitsandbytes, Interpreter, Unknown
from glmdoctor.host.io import IO

BINARY = re.compile(r"libbitsandbytes_(cpu|cuda\d+|rocm\d+|xpu)(?:_nocublaslt\d*)?\.(?:so|dll|dylib)")


def bitsandbytes(io: IO, interpreter: Interpreter | Unknown) -> Bitsandbytes | Unknown:
    if isinstance(interpreter, Unknown):
        return interpreter
    version = interpreter.packages.get("bitsandbytes")
    io = io.bound(*interpreter.site_folders)
    for site in interpreter.site_folders if version else ():
        folder = f"{site}/bitsandbytes"
        if io.is_folder(folder):
            found = (BINARY.fullmatch(name) for name in io.names(folder))
            return Bitsandbytes(version or "", folder, tuple(dict.fromkeys(match[1] for match in found if match)))
    return Unknown("bitsandbytes is not installed in the examined interpreter")
