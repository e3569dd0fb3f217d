"""What tells who and where somebody is, in any text: credentials, e-mail and network addresses."""

from __future__ import annotations

import re

NAMED_SO = r"(?:api[_-]?key|access[_-]?key|token|secret|passw(?:or)?d|credentials?|authorization)"
SECRET = re.compile(
    rf"(?i)([\w-]{{0,64}}{NAMED_SO}[\"']?\s*[=:]\s*(?:(?:bearer|basic|token)\s+)?|--[\w-]{{0,64}}{NAMED_SO}\s+)"
    r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s'\",;&]+)"
)
TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_|sk-|gh[oprsu]_|github_pat_|glpat-|nvapi-|pypi-|AKIA|AIza|xox[abeprs]-)[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
)
LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
# What starts with a figure is a version (python@3.11) unless it ends as a domain does.
EMAIL = re.compile(r"(?<![\w.+%<>-])[\w.+%<>-]+@(?:[A-Za-z][\w-]*(?:\.[\w-]+)*|\d[\w-]*\.(?:[\w-]+\.)*[A-Za-z]{2,}\b)")
NETWORK = re.compile(
    r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"  # of a network card
    r"|(?<![\w:])(?:(?=[0-9a-fA-F:]*[0-9a-fA-F]{3})[0-9a-fA-F]{1,4}:(?:[0-9a-fA-F]{0,4}:){2,6}"
    r"|(?:[23][0-9a-fA-F]{3}|[fF][c-fC-F][0-9a-fA-F]{2}):(?:[0-9a-fA-F]{0,4}:)+)[0-9a-fA-F]{0,4}(?![\w:])"
)
PRIVATE = re.compile(r"(?:10|127|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01])|100\.(?:6[4-9]|[7-9]\d|1[01]\d))\.")
FOUR_NUMBERS = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\d|\.\d)")
# Versions of four numbers are rife with drivers and wheels, and look like addresses: 8.9.2.26 of cuDNN.
VERSION_BEFORE = re.compile(r"(?:[=!~<>]=|[-_+<>])\s*$")
ADDRESS_BEFORE = re.compile(
    r"(?i)(?:://|[@\[(]|(?<![=!~<>])=|\b(?:at|to|from|via|on|by|host|hostname|ip|inet|addr|address|server|peer|client"
    r"|proxy|endpoint|connect|listen|nameserver|dns)[:=]?)\s*$"
)
VERSIONED = re.compile(r"(?i)nvidia|cuda|cudnn|cublas|nccl|driver|version|kernel|torch|wheel|release")
NEAR = 60  # characters to each side that tell a version from an address
LARGEST_VERSION = 31  # of the first number: no package or driver of four numbers has a larger one


def without_credentials(text: str) -> str:
    """Keys, passwords and tokens become ``[secret]``; the login of a URL goes."""
    return LOGIN.sub("", TOKEN.sub("[secret]", SECRET.sub(r"\1[secret]", text)))


def without_addresses(text: str) -> str:
    """E-mail addresses and those of machines become ``[address]``; versions stay."""
    text = NETWORK.sub("[address]", EMAIL.sub("[address]", text))
    return FOUR_NUMBERS.sub(lambda match: match.group() if _is_version(match) else "[address]", text)


def _is_version(match: re.Match[str]) -> bool:
    numbers, text, start, end = match.group(), match.string, match.start(), match.end()
    before, around = text[max(0, start - NEAR) : start], text[max(0, start - NEAR) : end + NEAR]
    if numbers == text or any(int(number) > 255 for number in numbers.split(".")):
        return True
    if PRIVATE.match(numbers) and not VERSION_BEFORE.search(before):
        return False
    if re.match(r":\d", text[end : end + 2]):  # a port
        return False
    if VERSION_BEFORE.search(before) or re.match(r"[-+_]\w", text[end : end + 2]):
        return True
    small = int(numbers.partition(".")[0]) <= LARGEST_VERSION
    return small and bool(VERSIONED.search(around)) and not ADDRESS_BEFORE.search(before)
