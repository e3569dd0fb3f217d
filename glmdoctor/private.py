"""What tells who and where somebody is, in any text: credentials, identities of hardware, addresses, names of hosts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

NAMED_SO = r"(?:api[_-]?key|access[_-]?key|token|secret|passw(?:or)?d|passphrase|credentials?|authorization|signature)"
SECRET = re.compile(
    rf"(?i)([\w-]{{0,64}}{NAMED_SO}[\"']?\s*[=:]\s*(?:(?:bearer|basic|token)\s+)?|--[\w-]{{0,64}}{NAMED_SO}\s+)"
    r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s'\",;&]+)"
)
TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_|sk-|gh[oprsu]_|github_pat_|glpat-|nvapi-|pypi-|AKIA|AIza|xox[abeprs]-)[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
)
# Of signed addresses.
SIGNED = re.compile(r"(?i)(?<=[?&])((?:sig|key|code|auth|x-(?:amz|goog)-[\w-]+)=)[^\s&'\"#]+")
LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
# Of cards (CUDA_VISIBLE_DEVICES may shorten them) and their parts, of machines, disks and sessions.
CARD = re.compile(
    r"(?<![\w-])((?:GPU|MIG)-(?:GPU-)?)(?=[0-9a-fA-F-]*\d)[0-9a-fA-F]{4,}(?:-[0-9a-fA-F]+)*(?:/\d+/\d+)?(?![\w-])"
)
UUID = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-fA-F])")
SERIAL = re.compile(
    r"(?i)\b((?:serial|asset|machine[ _-]?id|board[ _-]?id)(?:[ _-]?(?:number|num|no|tag))?\.?\s*[:=]\s*)"
    r"(?=[\w-]*\d)[\w-]{5,}"
)
PCI_SERIAL = re.compile(r"(?<![\w-])(?:[0-9a-fA-F]{2}-){5,7}[0-9a-fA-F]{2}(?![\w-])")
# What starts with a figure is a version (python@3.11) unless it ends as a domain does.
EMAIL = re.compile(r"(?<![\w.+%<>-])[\w.+%<>-]+@(?:[A-Za-z][\w-]*(?:\.[\w-]+)*|\d[\w-]*\.(?:[\w-]+\.)*[A-Za-z]{2,}\b)")
REMOTE = re.compile(EMAIL.pattern + r":(?!\d+\b)[^\s'\"<>),;]+")  # git@host:team/project.git
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
PUBLIC_HOST = re.compile(
    r"(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com|modelscope\.cn|github\.com|pypi\.org|pytorch\.org|nvidia\.com"
    r"|microsoft\.com|python\.org"
    r"|(?:download|docs)\.pytorch\.org|(?:docs|developer|developer\.download)\.nvidia\.com|conda\.anaconda\.org)"
)
URL = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]{0,30})://([^\s/'\"<>)\]]*)([^\s'\"<>)\]]*)")
# Elsewhere the end of a name tells a machine from a module or a file.
MACHINE = re.compile(
    r"(?<![\w./-])(?:[\w-]+\.)+(?:com|net|org|edu|gov|cn|internal|local|localdomain|lan|corp|intranet)(?![\w/-]|\.\w)"
)
# Names that tell nothing about anybody, and occur in every report.
COMMON_NAME = re.compile(
    r"root|user|admin|ubuntu|debian|nobody|localhost|cuda|nvidia|python|torch|linux|windows|conda|docker|jovyan"
    r"|chat|glm|chatglm|glmdoctor|glmcore|model|models|gpu|cpu|test|data|dev|app|work|ai|ml|llm|is|in|of|on|to|no|at|it"
    r"|an|as|be|by|do|go|he|if|me|my|or|so|up|us|we|en|zh|cc|py|sh|os|ip|id|io|db|ui|tf|nn|fp|pt|bf|gb|mb|kb|ld|cu|lib"
)
NEAR = 60  # characters to each side that tell a version from an address
LARGEST_VERSION = 31  # of the first number: no package or driver of four numbers has a larger one


def redacted(text: str, own: Callable[[str], str]) -> str:
    """Without all of this, and without what ``own`` takes out: the folders and names of this very machine.

    ``own`` comes when addresses are gone, whose parts may be names, and before what only looks like a machine's name.
    """
    text = without_urls(without_identities(without_credentials(text)))
    return without_machines(own(without_addresses(text)))


def without_credentials(text: str) -> str:
    """Keys, passwords and tokens become ``[secret]``; the login of a URL goes."""
    text = SIGNED.sub(r"\1[secret]", SECRET.sub(r"\1[secret]", text))
    return LOGIN.sub("", TOKEN.sub("[secret]", text))


def without_identities(text: str) -> str:
    """What is one card's, machine's or disk's alone becomes ``[id]``; that it is a card's stays to be seen."""
    text = UUID.sub("[id]", CARD.sub(r"\1[id]", text))
    return PCI_SERIAL.sub("[id]", SERIAL.sub(r"\1[id]", text))


def without_urls(text: str) -> str:
    """Of addresses only those of the well-known public hosts stay. To be called before ``without_addresses``."""
    return URL.sub(_url, text)


def without_machines(text: str) -> str:
    """Names of machines become ``[address]``. To be called after ``without_addresses``."""
    return MACHINE.sub(_machine, text)


def _url(match: re.Match[str]) -> str:
    scheme, host, path = match.groups()
    if scheme == "file":
        return f"file:{path}"
    return match.group() if PUBLIC_HOST.fullmatch(host) else f"{scheme}://[address]"


def _machine(match: re.Match[str]) -> str:
    return match.group() if PUBLIC_HOST.fullmatch(match.group()) else "[address]"


def within(name: str) -> re.Pattern[str]:
    """``name`` as a word, or as a part of a name that is put together: cuda-NAME, NAME_env."""
    return re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)


def telling(names: Iterable[str]) -> list[str]:
    """The names that tell something, the longest first. One letter alone is a word of every report."""
    found = {name for name in names if len(name) > 1 and not COMMON_NAME.fullmatch(name.lower())}
    return sorted(found, key=lambda name: (-len(name), name))


def without_addresses(text: str) -> str:
    """E-mail addresses and those of machines become ``[address]``; versions stay."""
    text = EMAIL.sub("[address]", REMOTE.sub("[address]", text))
    text = NETWORK.sub("[address]", text)
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
