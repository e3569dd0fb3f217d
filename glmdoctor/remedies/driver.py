"""The kernel module, its nodes and what keeps programs from them."""

from __future__ import annotations

import shlex

from glmdoctor.findings import Finding, Nodes
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.answer import Answer, Commands, Shell, as_root, by_host, root, shell
from glmdoctor.remedies.distribution import family, install

INITRAMFS = {
    "debian": "update-initramfs -u",
    "fedora": "dracut --force",
    "suse": "dracut --force",
    "arch": "mkinitcpio -P",
}
DRIVER = {"debian": "nvidia-driver", "fedora": "akmod-nvidia", "suse": "nvidia-open-driver-G06", "arch": "nvidia"}
HEADERS = {
    "debian": "linux-headers-{}",
    "fedora": "kernel-devel-{}",
    "suse": "kernel-default-devel",
    "arch": "linux-headers",
}


def driver(host: Machine) -> Commands:
    """The driver; in a container it comes from outside."""
    os = maybe(host.os)
    if os and os.container:
        return (Shell("docker run --gpus all …"),)
    if os and os.distribution == "ubuntu":
        return root("ubuntu-drivers install")
    return install(host, DRIVER)


def headers(host: Machine) -> Commands:
    os, kind = maybe(host.os), family(host)
    return install(host, {kind: HEADERS[kind].format(os.kernel)}) if os and kind in HEADERS else ()


def load_module(host: Machine) -> Commands:
    return (*root("modprobe nvidia"), *headers(host), *root("dkms autoinstall"))


def blacklist_nouveau(host: Machine) -> Commands:
    lines, file = r"blacklist nouveau\noptions nouveau modeset=0\n", "/etc/modprobe.d/blacklist-nouveau.conf"
    write = shlex.join(["sh", "-c", f"printf '{lines}' > {file}"])
    return root(write, *filter(None, [INITRAMFS.get(family(host))]), "reboot")


def enrol_key(host: Machine) -> Commands:
    """Ubuntu's DKMS signs with a key of its own place; a reboot then asks for the password at the console."""
    os = maybe(host.os)
    ubuntu = os is not None and os.distribution in ("ubuntu", "linuxmint", "pop")
    key = "/var/lib/shim-signed/mok/MOK.der" if ubuntu else "/var/lib/dkms/mok.pub"
    return root("mokutil --sb-state", f"mokutil --import {key}", "reboot")


def open_nodes(finding: Finding, host: Machine) -> Commands:
    closed = finding.payload
    names = [shlex.quote(path) for path in closed.paths] if isinstance(closed, Nodes) else ["/dev/nvidia*"]
    return root('usermod -aG video "$USER"', f"chmod 0666 {' '.join(names)}")


def build_module(host: Machine) -> Commands:
    return (*headers(host), *root("dkms autoinstall", "reboot"))


ANSWERS = {
    "nvml-not-found": Answer(advice=by_host(driver)),
    "no-nvidia-driver": Answer(advice=by_host(driver)),
    "driver-not-loaded": Answer(advice=by_host(load_module)),
    "kernel-module-mismatch": Answer(advice=by_host(build_module)),
    "nouveau-in-the-way": Answer(advice=by_host(blacklist_nouveau)),
    "secure-boot-module-rejected": Answer(advice=by_host(enrol_key)),
    "cuda-unknown-error-999": Answer(advice=as_root("modprobe nvidia_uvm", "nvidia-modprobe -u -c=0")),
    "uvm-hmm-cuinit-fails": Answer(
        advice=as_root(
            "sh -c 'echo options nvidia_uvm uvm_disable_hmm=1 >/etc/modprobe.d/uvm.conf'",
            "modprobe -r nvidia_uvm",
            "modprobe nvidia_uvm",
        )
    ),
    "device-node-permission": Answer(advice=open_nodes),
    "selinux-blocks-gpu": Answer(advice=as_root("setsebool -P container_use_devices on")),
    "invalid-device-ordinal": Answer(advice=shell("unset CUDA_VISIBLE_DEVICES")),
    "no-cuda-gpu-visible": Answer(advice=shell("unset CUDA_VISIBLE_DEVICES")),
}
