"""Whether others could have Ray execute what they send: it does that for whoever reaches its ports."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from glmcore.server.address import is_loopback


def exposed(addresses: Iterable[str], authenticated: bool) -> str | None:
    """A warning where Ray listens on another address than this machine's own and asks for no token."""
    open_to = sorted({address for address in addresses if not is_loopback(address)})
    if authenticated or not open_to:
        return None
    more = f" and {len(open_to) - 1} more" if len(open_to) > 1 else ""
    return (
        f"Ray listens on {open_to[0]}{more} without its token authentication: whoever reaches its ports runs programs "
        "as its user; start it with RAY_AUTH_MODE=token, and let no other network reach it (docs/cluster.md)"
    )


def authenticated() -> bool:
    """Whether this program speaks to Ray with a token (Ray 2.52 and later can)."""
    raylet = import_module("ray._raylet")
    mode = getattr(raylet, "get_authentication_mode", None)
    return mode is not None and mode() == raylet.AuthenticationMode.TOKEN
