"""The settings by which huggingface_hub would reach the hub: read, and tried no further than this machine."""

from __future__ import annotations

import ipaddress
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

from glmdoctor.host.facts import Hub
from glmdoctor.host.io import IO

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
TRUE = ("1", "on", "yes", "true")
PROXIES = ("HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def hub(io: IO, model: str | None) -> Hub:
    environ = io.env()
    proxies = dict(_proxies(environ))
    return Hub(
        endpoint=environ.get("HF_ENDPOINT"),
        offline=tuple(name for name in OFFLINE if environ.get(name, "").lower() in TRUE),
        proxies={name: _shown(value) for name, value in proxies.items()},
        silent=tuple(name for name, value in proxies.items() if _is_silent(io, value)),
        cached=_cached(io, model),
        own_names_through_proxy=tuple(_own_names(environ)),
    )


def _proxies(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in PROXIES:
        value = environ.get(name.lower()) or environ.get(name)
        if value:
            yield name, value


def _own_names(environ: Mapping[str, str]) -> Iterator[str]:
    """Names of this machine that programs would ask a proxy for; https_proxy does not matter for them."""
    if not any(environ.get(name) or environ.get(name.lower()) for name in ("HTTP_PROXY", "ALL_PROXY")):
        return
    entries = [part.strip() for part in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")]
    for name in LOOPBACK[:2]:
        if not any(entry in (name, "*") or _holds(entry, name) for entry in entries):
            yield name


def _holds(network: str, name: str) -> bool:
    try:
        return "/" in network and ipaddress.ip_address(name) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _parts(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        parts.port  # noqa: B018 (raises where it is no number)
    except ValueError:
        return None
    return parts


def _shown(value: str) -> str:
    """Without user, password and the names of other machines; "" where it is no address."""
    parts = _parts(value)
    if parts is None or not parts.hostname:
        return ""
    host = parts.hostname if parts.hostname in LOOPBACK else "…"
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _is_silent(io: IO, value: str) -> bool:
    """Does nothing listen at a proxy of this machine? False where the kernel's table cannot be read."""
    parts = _parts(value)
    if parts is None or parts.hostname not in LOOPBACK or not parts.port:
        return False
    tables = [text for name in ("tcp", "tcp6") if (text := io.text_or_none(f"/proc/net/{name}"))]
    ports = {port for table in tables for port in _listening(table)}
    return bool(tables) and parts.port not in ports


def _listening(table: str) -> Iterator[int]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == LISTENING:
            yield int(fields[1].rpartition(":")[2], 16)


def _cached(io: IO, model: str | None) -> bool | None:
    if model is None or not NAME.fullmatch(model) or io.exists(os.path.abspath(model)):
        return None
    folder = posixpath.join(cache(io), "models--" + model.replace("/", "--"), "snapshots")
    return bool(io.names(folder))


def cache(io: IO) -> str:
    """As huggingface_hub chooses it."""
    environ = io.env()
    above = environ.get("XDG_CACHE_HOME") or posixpath.join(environ.get("HOME") or os.path.expanduser("~"), ".cache")
    home = environ.get("HF_HOME") or posixpath.join(above, "huggingface")
    return environ.get("HF_HUB_CACHE") or posixpath.join(home, "hub")
