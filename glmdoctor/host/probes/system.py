"""The operating system, its distribution, and the container or WSL around it."""

from __future__ import annotations

import os
import platform
import re

from glmdoctor.host.facts import Os
from glmdoctor.host.io import IO

# What a line of /proc/1/cgroup or /proc/self/cgroup says about the container, most telling first.
CGROUP_SIGNS = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "lxc": "lxc", "containerd": "docker"}


def operating_system(io: IO) -> Os:
    name, version, pretty = _distribution(io)
    return Os(
        system=io.system,
        kernel=io.text_or_none("/proc/sys/kernel/osrelease") or platform.release(),
        machine=io.machine,
        distribution=name,
        distribution_version=version,
        pretty_name=pretty,
        container=_container(io),
        wsl=_is_wsl(io),
        effective_uid=os.geteuid() if hasattr(os, "geteuid") else None,
        libc=_libc(io),
    )


def _distribution(io: IO) -> tuple[str, str, str]:
    """Id, version and full name by /etc/os-release, with distro's knowledge of the odd ones."""
    if io.system != "Linux":
        return "", platform.version(), f"{io.system} {platform.release()}"
    import distro

    known = distro.LinuxDistribution(
        include_lsb=False,  # would start lsb_release
        include_uname=False,
        include_oslevel=False,
        os_release_file=io.place("/etc/os-release"),
        root_dir=io.root if io.root != "/" else None,
    )
    return known.id(), known.version(), known.name(pretty=True)


def _container(io: IO) -> str | None:
    if io.env().get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if io.exists("/run/.containerenv"):
        return "podman"
    if io.exists("/.dockerenv"):
        return "docker"
    lines = f"{io.text_or_none('/proc/1/cgroup') or ''}\n{io.text_or_none('/proc/self/cgroup') or ''}"
    by_cgroup = next((name for sign, name in CGROUP_SIGNS.items() if sign in lines), None)
    return by_cgroup or io.text_or_none("/run/systemd/container") or None


def _is_wsl(io: IO) -> bool:
    release = (io.text_or_none("/proc/sys/kernel/osrelease") or "").lower()
    return "microsoft" in release or "wsl" in release


def _libc(io: IO) -> str:
    """The C library of the examined system: by its file names, since a fake root has its own."""
    for folder in ("/lib", f"/lib/{io.machine}-linux-gnu", f"/usr/lib/{io.machine}-linux-gnu", "/lib64", "/usr/lib64"):
        names = io.names(folder)
        if any(name.startswith("ld-musl-") for name in names):
            return "musl"
        if "libc.so.6" in names:
            return f"glibc {_glibc_version(io, f'{folder}/libc.so.6')}".strip()
    return ""


def _glibc_version(io: IO, path: str) -> str:
    by_link = re.search(r"libc-([\d.]+)\.so", io.realpath(path))
    if by_link:
        return by_link.group(1)
    # libc prints "GNU C Library (…) stable release version 2.36." when run; the text lies in its read-only data.
    by_text = re.search(rb"release version (\d+\.\d+)", io.read_bytes(path, limit=1 << 22))
    return by_text.group(1).decode() if by_text else ""
