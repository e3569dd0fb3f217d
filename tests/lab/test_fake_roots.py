"""The same machines without mounts and without root: folders that stand for "/", named by GLMDOCTOR_ROOT."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cuda_machines as cuda
import driver_machines as driver
import pytest
from case import root_causes
from machine import LIB, Machine, make_patient


class FakeRoot(Machine):
    """A machine as plain files below one folder; it has no devices, and its NVML is asked by path."""

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def _upper(self, path: str) -> Path:
        target = self.root / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def run(self, *command: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**self._environment(None), "GLMDOCTOR_ROOT": str(self.root)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)

    def refresh_linker_cache(self) -> None:
        self._upper("/etc/ld.so.conf").write_text("/usr/lib/x86_64-linux-gnu\ninclude /etc/ld.so.conf.d/*.conf\n")
        done = subprocess.run(["/sbin/ldconfig", "-r", str(self.root)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def lay_out(self) -> None:
        for kind, folder in (("driver", "/proc/driver"), ("module", "/sys/module"), ("pci", "/sys/bus/pci")):
            for name, content in self.files[kind].items():
                self.write(f"{folder}/{name}", content)
            for name, target in self.links.get(kind, {}).items():
                self.link(f"{folder}/{name}", target)
        for name in self.plain_files_in_dev:
            self.write(f"/dev/{name}")
        if self.release:
            self.write("/proc/sys/kernel/osrelease", self.release + "\n")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux" or not Path("/sbin/ldconfig").exists():
        pytest.skip("fake roots are those of Linux with glibc")
    return tmp_path_factory.mktemp("fake")


@pytest.fixture
def fake(tmp_path: Path, shared: Path) -> Iterator[FakeRoot]:
    python = shared / "venv" / "bin" / "python"
    made = FakeRoot(tmp_path / "machine", shared, str(python) if python.exists() else make_patient(shared / "venv", shared))  # fmt: skip # noqa: E501
    for folder in (LIB, "/sys/bus/pci/devices", "/etc/ld.so.conf.d", "/dev"):
        (made.root / folder.removeprefix("/")).mkdir(parents=True)
    made.write("/etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    made.refresh_linker_cache()
    yield made


def no_fabric_manager(machine: Machine) -> None:
    """A machine with NVSwitch, after an upgrade that left the fabric manager behind."""
    driver.gpu_machine(machine)
    machine.plain_files_in_dev.append("nvidia-nvswitchctl")


def docker_without_toolkit(machine: Machine) -> None:
    driver.gpu_machine(machine)
    machine.write("/usr/bin/dockerd", "", 0o755)


def docker_with_toolkit(machine: Machine) -> None:
    docker_without_toolkit(machine)
    machine.write("/etc/docker/daemon.json", '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}')
    machine.write("/usr/bin/nvidia-container-runtime", "", 0o755)


def docker_after_the_toolkit_was_removed(machine: Machine) -> None:
    docker_with_toolkit(machine)
    machine.discard("/usr/bin/nvidia-container-runtime")


def container_under_selinux(machine: Machine) -> None:
    driver.nvml_answers(4, "Insufficient Permissions")(machine)
    machine.write("/run/.containerenv")
    machine.write("/proc/self/attr/current", "system_u:system_r:container_t:s0:c57,c300\0")
    machine.plain_files_in_dev.append("nvidia-caps")  # the container was given something


def module_of_another_kernel(machine: Machine) -> None:
    driver.module_of_another_kernel(machine)
    machine.link("/lib/modules", "../usr/lib/modules")


def module_without_signature(machine: Machine) -> None:
    """Secure Boot is on, and nobody signed what the installer built; the log is not there for this user."""
    driver.module_not_loaded(machine)
    machine.release = driver.KERNEL
    machine.write(f"/lib/modules/{driver.KERNEL}/kernel/drivers/video/nvidia.ko", b"\x7fELF without a signature")
    machine.write("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\1")
    machine.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")


def module_with_a_signature(machine: Machine) -> None:
    module_without_signature(machine)
    path = f"/lib/modules/{driver.KERNEL}/kernel/drivers/video/nvidia.ko"
    machine.write(path, b"\x7fELF ~Module signature appended~\n")


BUILDS: dict[Callable[[Machine], object], list[str]] = {
    driver.no_driver: ["no-nvidia-driver"],
    driver.nouveau: ["nouveau-in-the-way"],
    driver.module_not_loaded: ["driver-not-loaded"],
    driver.driver_without_card: ["no-gpu-hardware"],
    driver.upgraded_under_module: ["driver-library-mismatch"],
    driver.two_versions: ["driver-library-mismatch"],
    driver.stray_folder: ["driver-library-mismatch"],
    driver.no_nvml: ["nvml-not-found"],
    driver.nvml_answers(999, "blocked"): ["sandbox-blocks-gpu"],
    driver.hidden_cards: ["no-cuda-gpu-visible"],
    driver.wsl_without_card: ["wsl-no-adapter"],
    module_of_another_kernel: ["kernel-module-mismatch"],
    module_without_signature: ["secure-boot-module-rejected"],
    module_with_a_signature: ["driver-not-loaded"],
    docker_without_toolkit: ["docker-no-gpu-runtime"],
    docker_after_the_toolkit_was_removed: ["docker-no-gpu-runtime"],
    docker_with_toolkit: [],
    container_under_selinux: ["selinux-blocks-gpu"],
    no_fabric_manager: ["cuda-system-not-ready"],
    cuda.dangling_chain: ["libcuda-link-broken"],
    cuda.looping_chain: ["libcuda-link-broken"],
    cuda.empty_library: ["libcuda-link-broken"],
    cuda.link_to_another_version: ["libcuda-link-broken"],
    cuda.stub_first: ["libcuda-stub-loaded"],
    cuda.cuda_path_gone: ["cuda-path-wrong"],
    cuda.cache_names_what_is_gone: ["linker-cache-stale"],
    cuda.libcuda_out_of_the_loaders_way: ["libcuda-so-missing"],
    cuda.compat_older_than_the_driver: ["cuda-compat-lib-conflict"],
    driver.gpu_machine: [],
}


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_a_folder_is_examined_as_a_machine(fake: FakeRoot, build: Callable[[Machine], object]) -> None:
    build(fake)
    fake.lay_out()
    before = times(fake.root)
    assert root_causes(fake.check()) == BUILDS[build]
    assert times(fake.root) == before


def times(root: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in root.rglob("*")}


def test_links_of_a_folder_stay_inside(fake: FakeRoot) -> None:
    """An absolute link means the folder's own file, whatever lies at that place outside."""
    driver.gpu_machine(fake)
    fake.lay_out()
    inside = "/usr/local/cuda-12.2/lib64/libcuda.so"
    assert os.readlink(fake._upper(inside)).startswith("/usr/lib")
    [found] = [lib for lib in fake.check()["host"]["libraries"] if lib["path"] == inside.replace("-12.2", "")]
    assert found["chain"][-1] == f"{LIB}/libcuda.so.{driver.MODULE}" and found["fault"] is None
