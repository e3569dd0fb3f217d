"""flash-attn in the examined interpreter: for which torch its wheel was built. It is never imported.

Its wheels are told apart by their names alone ("+cu12torch2.5cxx11abiFALSE"), which pip keeps in direct_url.json where
an address or a file was given to it.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

from glmcore.reading import parse_json
from glmdoctor.host.facts import FlashAttention, Interpreter, Unknown
from glmdoctor.host.io import IO

FOLDER = re.compile(r"flash_attn-(.+)\.dist-info", re.IGNORECASE)
FOR_TORCH = re.compile(r"torch(\d+\.\d+)", re.IGNORECASE)


def flash_attention(io: IO, interpreter: Interpreter | Unknown) -> FlashAttention | Unknown:
    if isinstance(interpreter, Unknown):
        return interpreter
    io = io.bound(*interpreter.site_folders)
    for site in interpreter.site_folders:
        for name in io.names(site):
            if match := FOLDER.fullmatch(name):
                wheel = _wheel(io.text_or_none(f"{site}/{name}/direct_url.json"))
                release = FOR_TORCH.search(wheel) or FOR_TORCH.search(match[1])
                return FlashAttention(match[1], wheel, release[1] if release else None)
    return Unknown("flash-attn is not installed in the examined interpreter")


def _wheel(record: str | None) -> str:
    try:
        told = parse_json(record or "")
        url = told.get("url") if isinstance(told, dict) else None
        return unquote(posixpath.basename(urlsplit(url).path)) if isinstance(url, str) else ""
    except ValueError:
        return ""
