"""Addresses to serve on. Imports nothing heavy: what is wrong with one is said at once."""

from __future__ import annotations

import ipaddress
import re
import socket

from glmcore.errors import GlmError


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own by its spelling."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A socket on that address; it takes no connections yet. Errors: GlmError("address-unusable")."""
    where = f"{host} port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GlmError("address-unusable", f"there is no such address: {error.strerror}", where=where) from error
    try:
        # As servers do: a port whose last connections have just ended may be taken again.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A client whose machine has vanished says so to nobody; the system finds out.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        bound.bind(address)
        bound.set_inheritable(False)
    except OSError as error:
        bound.close()
        hint = "end the other program, or give another --port (0 takes a free one)"
        raise GlmError("address-unusable", f"cannot serve here: {error.strerror}", where=where, hint=hint) from error
    return bound


def as_host(name: str) -> str:
    """A host name or address as a Host header has it. Errors: GlmError("usage") for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", name):
        hint = "a name without scheme and port, for example host.docker.internal"
        raise GlmError("usage", f"{name!r} is no host name", where="--allowed-host", hint=hint)
    return name


def url_of(bound: socket.socket) -> str:
    host, port, *_ = bound.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
