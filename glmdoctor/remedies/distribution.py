"""Packages of the system, in the words of its package manager."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.answer import Commands, root

FAMILIES = {
    "debian": ("debian", "ubuntu", "linuxmint", "pop", "raspbian", "kali", "deepin", "uos"),
    "fedora": ("fedora", "rhel", "centos", "rocky", "almalinux", "ol", "amzn", "openeuler", "anolis"),
    "suse": ("opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles", "suse"),
    "arch": ("arch", "manjaro", "endeavouros"),
    "alpine": ("alpine",),
}
INSTALL = {
    "debian": "apt-get install {}",
    "fedora": "dnf install {}",
    "suse": "zypper install {}",
    "arch": "pacman -S {}",
    "alpine": "apk add {}",
}
REMOVE = {"debian": "apt-get remove", "fedora": "dnf remove", "suse": "zypper remove", "arch": "pacman -R"}


def family(host: Machine) -> str:
    """The package manager's kind, by the distribution's id; "" where it is not known."""
    os = maybe(host.os)
    ids = {name: kind for kind, names in FAMILIES.items() for name in names}
    return ids.get(os.distribution, "") if os and os.system == "Linux" else ""


def install(host: Machine, packages: Mapping[str, str]) -> Commands:
    kind = family(host)
    return root(INSTALL[kind].format(packages[kind])) if kind in packages else ()


def remove_packages(host: Machine, packages: Iterable[str]) -> Commands:
    names = " ".join(shlex.quote(name) for name in dict.fromkeys(packages))
    return root(f"{REMOVE[family(host)]} {names}") if names and family(host) in REMOVE else ()
