"""Windows' leave to make symbolic links: machines replayed, and what the check says of each."""

from __future__ import annotations

import pytest

from glmdoctor.checks import ALL
from glmdoctor.findings import Finding
from glmdoctor.host.facts import Interpreter, Links, Unknown
from glmdoctor.host.io import Result
from glmdoctor.host.probes.links import DEVELOPER, PRIVILEGES, links
from glmdoctor.host.recorded import RecordedIO

VALUE = "AllowDevelopmentWithoutDevLicense"
KEY = "\r\nHKEY_LOCAL_MACHINE\\SOFTWARE\\…\\AppModelUnlock\r\n    " + VALUE + "    REG_DWORD    {}\r\n\r\n"
USERS = "SeShutdownPrivilege           Shut down the system                 Disabled\r\n"
ADMINS = USERS + "SeCreateSymbolicLinkPrivilege Create symbolic links                Disabled\r\n"


def machine(key: Result, privileges: str) -> RecordedIO:
    return RecordedIO({}, {}, {DEVELOPER: key, PRIVILEGES: Result(0, privileges, "")}, system="Windows")


NO_KEY = Result(1, "", "ERROR: The system was unable to find the specified registry key or value.")
ON, OFF = Result(0, KEY.format("0x1"), ""), Result(0, KEY.format("0x0"), "")


@pytest.mark.parametrize(
    ("key", "privileges", "expected"),
    [
        (NO_KEY, USERS, Links(False, False)),
        (OFF, USERS, Links(False, False)),
        (ON, USERS, Links(True, False)),
        (NO_KEY, ADMINS, Links(False, True)),
    ],
)
def test_what_allows_links(key: Result, privileges: str, expected: Links) -> None:
    assert links(machine(key, privileges)) == expected


def test_unknown_on_linux_and_without_an_answer() -> None:
    assert isinstance(links(RecordedIO({})), Unknown)
    assert isinstance(links(RecordedIO({}, system="Windows")), Unknown)


@pytest.mark.parametrize(
    ("allowed", "hub", "problem"),
    [
        (Links(False, False), "0.9.1", "windows-symlink-privilege"),
        (Links(False, False), "0.10.0", None),
        (Links(True, False), "0.9.1", None),
        (Links(False, True), "0.9.1", None),
        (Links(False, False), None, None),
    ],
)
def test_the_check(allowed: Links, hub: str | None, problem: str | None) -> None:
    packages = {"huggingface-hub": hub} if hub else {}

    class Windows:
        links = allowed
        interpreter = Interpreter("C:\\py\\python.exe", "3.11.7", "C:\\py", "win_amd64", packages, ())

    check = next(check for check in ALL if check.id == "hub.links")
    found: list[Finding] = list(check.run(Windows()))  # type: ignore[arg-type]
    assert [f.problem for f in found] == [problem]
