"""Secure Boot, the kernel's lockdown and SELinux, by the files in which they show themselves."""

from __future__ import annotations

import re

from glmdoctor.host.facts import Guards, Unknown
from glmdoctor.host.io import IO

EFI = "/sys/firmware/efi/efivars"
ATTRIBUTES = 4  # bytes before a variable's value
SECURE_BOOT = f"{EFI}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
NOT_VALIDATED = f"{EFI}/MokSBStateRT-{SHIM}"  # 1: shim was told to verify nothing
ENROLLED = ("/sys/firmware/efi/mok-variables/MokListRT", f"{EFI}/MokListRT-{SHIM}")
# The certificates with which DKMS signs what it builds.
OWN_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")
LOCKDOWN = "/sys/kernel/security/lockdown"
SIGNATURES = "/sys/module/module/parameters/sig_enforce"
SELINUX = "/sys/fs/selinux/enforce"
LABEL = "/proc/self/attr/current"


def guards(io: IO) -> Guards | Unknown:
    if io.system != "Linux":
        return Unknown(f"Secure Boot and SELinux are asked about on Linux; this is {io.system}")
    enforcing = io.text_or_none(SELINUX)
    return Guards(
        secure_boot=_secure_boot(io),
        signatures_required=_signatures_required(io),
        key_enrolled=_key_enrolled(io),
        selinux_enforcing=enforcing == "1" if enforcing else None,
        selinux_type=_selinux_type(io),
    )


def _secure_boot(io: IO) -> bool | None:
    value = _bytes(io, SECURE_BOOT)[ATTRIBUTES:]
    if not value:
        return None
    return value[0] == 1 and _bytes(io, NOT_VALIDATED)[ATTRIBUTES:] != b"\1"


def _signatures_required(io: IO) -> bool | None:
    lockdown, enforced = io.text_or_none(LOCKDOWN), io.text_or_none(SIGNATURES)
    if enforced == "Y" or re.search(r"\[(integrity|confidentiality)\]", lockdown or ""):
        return True
    return None if lockdown is None else False


def _key_enrolled(io: IO) -> bool | None:
    enrolled = b"".join(_bytes(io, path) for path in ENROLLED)
    keys = [key for path in OWN_KEYS if (key := _bytes(io, path))]
    return any(key in enrolled for key in keys) if keys and enrolled else None


def _selinux_type(io: IO) -> str | None:
    """The third part of "system_u:system_r:container_t:s0:c1,c2"; AppArmor writes its profiles to the same file."""
    label = (io.text_or_none(LABEL) or "").rstrip("\0").split(":")
    return label[2] if len(label) >= 4 else None


def _bytes(io: IO, path: str) -> bytes:
    """What is in a small file; nothing where it cannot be read."""
    try:
        return io.read_bytes(path)
    except OSError:
        return b""
