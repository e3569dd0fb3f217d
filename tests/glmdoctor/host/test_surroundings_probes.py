"""What lies around the driver: modules on the disk, Secure Boot and SELinux, Docker; in fake roots."""

from __future__ import annotations

import subprocess

import pytest

from glmdoctor.host.facts import Containers, Guards, ModuleFile
from glmdoctor.host.host import Host
from glmdoctor.host.probes import modules

KERNEL = "6.1.0-18-amd64"
EFI = "/sys/firmware/efi/efivars"
GLOBAL, SHIM = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "605dab50-e046-4300-abb6-3dd810dd8b23"
SIGNED = b"~Module signature appended~\n"


@pytest.fixture
def module(tmp_path) -> bytes:
    """A relocatable file with the .modinfo section of nvidia.ko."""
    lines = "".join(
        f'.asciz "{entry}"\n' for entry in ("version=535.183.01", f"vermagic={KERNEL} SMP preempt mod_unload ")
    )
    source = tmp_path / "module.s"
    source.write_text(f'.section .modinfo,"a"\n{lines}')
    subprocess.run(["gcc", "-c", str(source), "-o", str(tmp_path / "nvidia.ko")], check=True)
    return (tmp_path / "nvidia.ko").read_bytes()


@pytest.mark.parametrize(
    ("path", "index"),
    [
        (f"/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko", None),
        (f"/lib/modules/{KERNEL}/kernel/nvidia-535/nvidia.ko", "kernel/nvidia-535/nvidia.ko: kernel/drivers/x.ko\n"),
    ],
)
def test_a_module_says_what_it_is(root, module, path, index):
    root.file("/proc/sys/kernel/osrelease", KERNEL + "\n")
    root.file(path, module + SIGNED)
    if index:
        root.file(f"/lib/modules/{KERNEL}/modules.dep", "kernel/nvidia-535/nvidia-drm.ko: x.ko\n" + index)
    driver = Host(root.io()).kernel_driver
    assert driver.modules == (ModuleFile(path, "535.183.01", KERNEL, True),)
    assert driver.installed_versions == ("535.183.01",) and driver.other_kernels == ()
    root.file(path, module)
    assert Host(root.io()).kernel_driver.modules[0].signed is False


@pytest.mark.parametrize(("name", "content"), [("nvidia.ko.zst", b"\x28\xb5"), ("nvidia.ko", b"\x7fELF cut")])
def test_a_module_that_cannot_be_read_is_there_all_the_same(root, name, content):
    root.file("/proc/sys/kernel/osrelease", KERNEL)
    root.file(f"/lib/modules/{KERNEL}/extra/nvidia/{name}", content)
    [found] = Host(root.io()).kernel_driver.modules
    assert found.path.endswith(name) and found.version is None and found.kernel is None and not found.signed


def test_other_kernels_are_those_with_a_module(root):
    root.file("/proc/sys/kernel/osrelease", KERNEL)
    root.file("/lib/modules/6.1.0-17-amd64/updates/dkms/nvidia.ko", b"x")
    root.file("/lib/modules/6.1.0-16-amd64/kernel/drivers/video/fbdev/nvidia/nvidiafb.ko", b"x")
    root.file("/lib/modules/6.1.0-16-amd64/modules.dep", "kernel/drivers/video/fbdev/nvidia/nvidiafb.ko:\n")
    root.file("/var/lib/dkms/nvidia-current/535.183.01/6.1.0-15-amd64/x86_64/module/nvidia-current.ko", b"x")
    root.folder("/var/lib/dkms/nvidia-current/535.183.01/source/kernel")
    root.file("/var/lib/dkms/zfs/2.1.11/6.1.0-14-amd64/x86_64/module/zfs.ko", b"x")
    driver = Host(root.io()).kernel_driver
    assert driver.other_kernels == ("6.1.0-15-amd64", "6.1.0-17-amd64") and driver.modules == ()
    assert driver.installed_versions == ("535.183.01",)


@pytest.mark.parametrize(
    "name", ["nvidia-drm.ko", "nvidia-uvm.ko", "nvidiafb.ko", "nvidia-current-uvm.ko", "nvidia-wmi-ec-backlight.ko"]
)
def test_companions_are_not_taken_for_the_module(name):
    assert not modules.NAME.fullmatch(name)


def guards(root) -> Guards:
    return Host(root.io()).guards


def test_nothing_is_known_of_a_machine_without_efi_and_selinux(root):
    root.folder("/")
    assert guards(root) == Guards(None, None, None, None, None)


@pytest.mark.parametrize(
    ("secure", "unvalidated", "expected"),
    [
        (b"\6\0\0\0\1", None, True),
        (b"\6\0\0\0\0", None, False),
        (b"\6\0\0\0\1", b"\6\0\0\0\1", False),
        (b"", None, None),
    ],
)
def test_secure_boot_by_the_firmwares_variables(root, secure, unvalidated, expected):
    root.file(f"{EFI}/SecureBoot-{GLOBAL}", secure)
    if unvalidated:
        root.file(f"{EFI}/MokSBStateRT-{SHIM}", unvalidated)
    assert guards(root).secure_boot is expected


@pytest.mark.parametrize(
    ("lockdown", "enforced", "expected"),
    [
        ("none [integrity] confidentiality", "N", True),
        ("[none] integrity confidentiality", "N", False),
        ("[none] integrity confidentiality", "Y", True),
        (None, "N", None),
    ],
)
def test_whether_signatures_are_required(root, lockdown, enforced, expected):
    root.file("/sys/module/module/parameters/sig_enforce", enforced + "\n")
    if lockdown:
        root.file("/sys/kernel/security/lockdown", lockdown + "\n")
    assert guards(root).signatures_required is expected


def test_whether_the_machines_own_key_is_enrolled(root):
    root.file("/var/lib/dkms/mok.pub", b"\x30\x82 my certificate")
    assert guards(root).key_enrolled is None
    root.file("/sys/firmware/efi/mok-variables/MokListRT", b"the distribution's")
    assert guards(root).key_enrolled is False
    root.file("/sys/firmware/efi/mok-variables/MokListRT", b"the distribution's, \x30\x82 my certificate")
    assert guards(root).key_enrolled is True


@pytest.mark.parametrize(
    ("label", "type_"),
    [
        ("system_u:system_r:container_t:s0:c57,c300\0", "container_t"),
        ("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023", "unconfined_t"),
        ("docker-default (enforce)", None),  # AppArmor's
        ("unconfined\n", None),
    ],
)
def test_the_label_of_selinux(root, label, type_):
    root.file("/proc/self/attr/current", label)
    root.file("/sys/fs/selinux/enforce", "1")
    assert (guards(root).selinux_type, guards(root).selinux_enforcing) == (type_, True)


def test_docker_and_its_ways_to_a_card(root):
    root.program("/usr/bin/dockerd")
    root.program("/usr/bin/nvidia-container-runtime")
    rows = '"nvidia": {"path": "nvidia-container-runtime"}, "kata": {"path": "/opt/kata"}, "odd": {"runtimeType": "x"}'
    root.file("/etc/docker/daemon.json", f'{{"runtimes": {{{rows}}}}}')
    root.file("/etc/cdi/nvidia.yaml", "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\n")
    root.file("/etc/cdi/intel.yaml", "kind: intel.com/gpu\n")
    program = "/usr/bin/nvidia-container-runtime"
    assert Host(root.io()).containers == Containers(
        "/usr/bin/dockerd", program, {"nvidia": program, "kata": None}, ("/etc/cdi/nvidia.yaml",)
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runtimes": []}', '{"runtimes": {"nvidia": 7}}', "[" * 100_000])
def test_a_daemon_json_of_any_content(root, text):
    root.file("/etc/docker/daemon.json", text)
    root.file("/run/docker.sock")
    assert Host(root.io()).containers == Containers("/run/docker.sock", None)
