"""May this user make symbolic links on Windows? Asked of the registry and of the session; none is made."""

from __future__ import annotations

from glmdoctor.host.facts import Links, Unknown
from glmdoctor.host.io import IO

DEVELOPER = (
    "reg", "query", r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\AppModelUnlock",
    "/v", "AllowDevelopmentWithoutDevLicense",
)  # fmt: skip
PRIVILEGES = ("whoami", "/priv")
TIME_LIMIT = 5.0  # seconds


def links(io: IO) -> Links | Unknown:
    """Developer mode lets everybody make them; else those whose session holds the privilege."""
    if io.system != "Windows":
        return Unknown("only Windows asks for a privilege to make a symbolic link")
    mode, held = io.run(DEVELOPER, TIME_LIMIT), io.run(PRIVILEGES, TIME_LIMIT)
    if held.code != 0:
        return Unknown("whoami does not tell this session's privileges")
    developer = mode.code == 0 and mode.out.split()[-1:] == ["0x1"]
    return Links(developer_mode=developer, privilege="SeCreateSymbolicLinkPrivilege" in held.out)
