"""The repairable machines: repaired, re-checked, and taken back to the exact former tree."""

from __future__ import annotations

import pytest
from case import failures, root_causes
from cuda_machines import dangling_chain, empty_library, looping_chain, no_toolkit_libraries
from driver_machines import MODULE, OTHER, gpu_machine, two_versions
from machine import LIB, Machine
from model_machines import code_on_the_hub, rope_lost_in_the_conversion

CONTAINER = "/usr/local/nvidia/lib64"


def driver_in_a_folder_of_its_own(machine: Machine) -> None:
    """As container runtimes mount it: the loader finds libcuda.so.1 by LD_LIBRARY_PATH, cpm_kernels finds nothing."""
    machine.card()
    machine.module(MODULE)
    machine.driver_libraries(MODULE, folder=CONTAINER)
    machine._upper(f"{CONTAINER}/libcuda.so").unlink()
    machine.default_toolkit(machine.toolkit())
    machine.environment["LD_LIBRARY_PATH"] = CONTAINER


def wrong_version_in_toolkit(machine: Machine) -> None:
    """Somebody copied a link by hand: lib64/libcuda.so leads to a version that is not the module's."""
    gpu_machine(machine)
    machine.library(f"{LIB}/libcuda.so.{OTHER}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12040")
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{LIB}/libcuda.so.{OTHER}")


REPAIRABLE = {
    driver_in_a_folder_of_its_own: "libcuda-not-in-cuda-path",
    dangling_chain: "libcuda-link-broken",
    looping_chain: "libcuda-link-broken",
    no_toolkit_libraries: "cpm-toolkit-libs-missing",
}


@pytest.mark.parametrize("build", REPAIRABLE, ids=lambda build: build.__name__)
@pytest.mark.parametrize("as_root", [True, False], ids=["root", "user"])
def test_repair_holds_and_can_be_taken_back(machine: Machine, request, build, as_root: bool) -> None:
    # A home that is open to others is not root's own: root would write to the real one.
    user = None if as_root else request.getfixturevalue("plain_user")
    build(machine)
    assert root_causes(machine.check(user=user)) == [REPAIRABLE[build]]
    before = machine.tree()

    planned = machine.glmdoctor("fix", "--symlink", "--dry-run", "--python", machine.python, user=user)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert machine.tree() == before

    fixed = machine.glmdoctor("fix", "--symlink", "--yes", "--python", machine.python, user=user)
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr
    assert machine.tree() != before
    proof = machine.glmdoctor(
        "run", "--python", machine.python, "--", "glmdoctor", "check", "--json", "--python", machine.python, user=user
    )
    assert REPAIRABLE[build] not in proof.stdout

    undone = machine.glmdoctor("undo", user=user)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    after = {path: what for path, what in machine.tree().items() if ".local" not in path}
    assert after == before
    assert root_causes(machine.check(user=user)) == [REPAIRABLE[build]]


@pytest.mark.parametrize("build", [code_on_the_hub, rope_lost_in_the_conversion], ids=lambda build: build.__name__)
def test_words_of_a_checkpoint_are_corrected_and_taken_back(machine: Machine, build) -> None:
    build(machine)
    [problem] = root_causes(machine.check())
    folder = machine.folder / "home" / "model"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    fixed = machine.glmdoctor("fix", "--only", problem, "--model", str(folder), "--yes", "--python", machine.python)
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr
    assert root_causes(machine.check()) == []
    changed = {name for name, content in before.items() if (folder / name).read_bytes() != content}
    assert changed and changed <= {"config.json", "tokenizer_config.json"}

    undone = machine.glmdoctor("undo")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_link_never_leads_to_another_version(machine: Machine) -> None:
    wrong_version_in_toolkit(machine)
    fixed = machine.glmdoctor("fix", "--symlink", "--yes", "--python", machine.python)
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr
    where = machine.run("readlink", "-f", "/usr/local/cuda/lib64/libcuda.so").stdout.strip()
    assert where == f"{LIB}/libcuda.so.{MODULE}"


def test_regular_file_in_the_way_is_kept(machine: Machine) -> None:
    """A copy in place of a link (as WSL and hand-made repairs leave it) is moved aside, and undo brings it back."""
    gpu_machine(machine)
    machine._upper("/usr/local/cuda-12.2/lib64/libcuda.so").unlink()
    machine.write("/usr/local/cuda-12.2/lib64/libcuda.so", b"not a library, but somebody's file")
    before = machine.tree()
    fixed = machine.glmdoctor("fix", "--symlink", "--yes", "--python", machine.python)
    kept = [what for what in machine.tree().values() if what in before.values()]
    assert len(kept) == len(before), fixed.stdout
    machine.glmdoctor("undo")
    assert {path: what for path, what in machine.tree().items() if ".local" not in path} == before


def test_nothing_right_to_link_to_is_advice_only(machine: Machine) -> None:
    empty_library(machine)
    before = machine.tree()
    fixed = machine.glmdoctor("fix", "--symlink", "--yes", "--python", machine.python)
    assert fixed.returncode == 1
    assert {path: what for path, what in machine.tree().items() if ".local" not in path} == before


def test_healthy_machine_has_nothing_to_repair(machine: Machine) -> None:
    gpu_machine(machine)
    before = machine.tree()
    fixed = machine.glmdoctor("fix", "--yes", "--python", machine.python)
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr
    assert {path: what for path, what in machine.tree().items() if ".local" not in path} == before
    assert failures(machine.check()) == []


def test_two_versions_are_advice_that_names_the_files(machine: Machine) -> None:
    two_versions(machine)
    fixed = machine.glmdoctor("fix", "--symlink", "--yes", "--python", machine.python)
    assert MODULE in fixed.stdout and OTHER in fixed.stdout
