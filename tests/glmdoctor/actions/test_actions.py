"""Each action does what it says in one rename, and its inverse gives back exactly what was there."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pkgutil import iter_modules

import pytest

from glmdoctor import actions
from glmdoctor.actions import Action, FetchFile, MakeFolder, PlaceLink, RefreshLinkerCache, WriteFile, digest
from glmdoctor.actions.disk import Disk
from glmdoctor.actions.packages import InstallPackages
from glmdoctor.repair import records

ACTIONS = [
    PlaceLink("/a/b", "c"),
    MakeFolder("/a"),
    RefreshLinkerCache(),
    WriteFile("/a", "b", None),
    InstallPackages("/usr/bin/python3", ("a==2",), ("a==1",), ("--index-url", "https://c")),
    FetchFile("/a", "a", "THUDM/chatglm2-6b", "0" * 64),
]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    for name in ("lib/libcuda.so.535", "etc/x", "var/cache/ldconfig/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return Disk(str(tmp_path))


Snapshot = Callable[[str], dict[str, str]]


def do(action: Action, disk: Disk) -> actions.Changes:
    changes = {path: actions.change_of(path, disk, "RUN", number) for number, path in enumerate(action.paths)}
    assert action.obstacle({path: change.before for path, change in changes.items()}, disk) is None
    action.apply(disk, changes)
    return changes


def take_back(action: Action, changes: actions.Changes, disk: Disk) -> None:
    for restore in action.inverse(changes):
        restore.apply(disk)


def put_nothing(path: Path) -> None: ...


def put_link(path: Path) -> None:
    path.symlink_to("libcuda.so.470")
    os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)


def put_file(path: Path) -> None:
    path.write_text("somebody's own")
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))


@pytest.mark.parametrize("put", [put_nothing, put_link, put_file])
def test_a_link_replaces_what_is_there_and_gives_it_back(
    disk: Disk, put: Callable[[Path], None], snapshot: Snapshot
) -> None:
    put(Path(disk.root) / "lib" / "libcuda.so.1")
    before = snapshot(disk.root)
    action = PlaceLink("/lib/libcuda.so.1", "libcuda.so.535")
    changes = do(action, disk)
    assert os.readlink(disk.root + "/lib/libcuda.so.1") == "libcuda.so.535"
    assert not [name for name in os.listdir(disk.root + "/lib") if name.endswith(".new")]
    take_back(action, changes, disk)
    assert snapshot(disk.root) == before


def test_a_regular_file_is_kept_beside_it_out_of_the_loaders_sight(disk: Disk) -> None:
    put_file(Path(disk.root) / "lib" / "libcuda.so.1")
    changes = do(PlaceLink("/lib/libcuda.so.1", "libcuda.so.535"), disk)
    kept = changes["/lib/libcuda.so.1"].kept
    assert kept is not None and Path(disk.root + kept).read_text() == "somebody's own"
    assert os.path.basename(kept).startswith(".glmdoctor-")  # ldconfig takes up names that begin with "lib" or "ld-"


def test_a_folder_is_never_replaced(disk: Disk) -> None:
    action = PlaceLink("/lib", "/etc")
    assert action.obstacle({"/lib": disk.node("/lib")}, disk)


def test_a_link_to_nothing_is_refused(disk: Disk) -> None:
    action = PlaceLink("/lib/libcuda.so.1", "libcuda.so.999")
    assert action.obstacle({"/lib/libcuda.so.1": disk.node("/lib/libcuda.so.1")}, disk)


def test_a_folder_is_made_and_removed(disk: Disk, snapshot: Snapshot) -> None:
    before, action = snapshot(disk.root), MakeFolder("/home")
    changes = do(action, disk)
    assert disk.node("/home").kind == "folder"
    take_back(action, changes, disk)
    assert snapshot(disk.root) == before


def test_links_of_a_root_are_followed_inside_it(disk: Disk) -> None:
    os.symlink("/lib", disk.root + "/usr-local-cuda")  # absolute: means the root's own lib
    assert disk.canonical("/usr-local-cuda/libcuda.so") == "/lib/libcuda.so"
    do(PlaceLink("/usr-local-cuda/libcuda.so", "/lib/libcuda.so.535"), disk)
    assert os.path.islink(disk.root + "/lib/libcuda.so") and not os.path.lexists("/lib/libcuda.so.535")


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ldconfig", path="/sbin:/usr/sbin"), reason="ldconfig -r needs root"
)
def test_the_linker_cache_is_rebuilt_without_touching_a_link(disk: Disk, snapshot: Snapshot) -> None:
    (Path(disk.root) / "lib" / "libdangling.so.1").symlink_to("gone.so")  # plain ldconfig would delete it
    (Path(disk.root) / "etc" / "ld.so.cache").write_text("the old cache")
    before, action = snapshot(disk.root), RefreshLinkerCache()
    changes = do(action, disk)
    assert (Path(disk.root) / "etc" / "ld.so.cache").read_bytes().startswith(b"glibc-ld.so.cache")
    assert os.path.islink(disk.root + "/lib/libdangling.so.1")
    take_back(action, changes, disk)
    assert snapshot(disk.root) == before


def test_a_journal_can_name_every_action() -> None:
    modules = (importlib.import_module(f"glmdoctor.actions.{found.name}") for found in iter_modules(actions.__path__))
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    written = {each for each in classes if hasattr(each, "as_shell") and each is not Action}
    assert written == set(actions.ACTIONS) == {type(action) for action in ACTIONS}


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_survive_the_journal(action: Action, disk: Disk) -> None:
    assert records.action_from_json(json.loads(json.dumps(records.action_to_json(action)))) == action
    change = actions.change_of("/lib/libcuda.so.535", disk, "RUN", 1)
    assert records.change_from_json("/lib/libcuda.so.535", records.change_to_json(change)) == change


@pytest.mark.parametrize("put", [put_nothing, put_link, put_file])
def test_a_file_is_rewritten_and_given_back(disk: Disk, put: Callable[[Path], None], snapshot: Snapshot) -> None:
    place = Path(disk.root) / "lib" / "start"
    (Path(disk.root) / "lib" / "libcuda.so.470").write_text("led to")
    put(place)
    before = snapshot(disk.root)
    action = WriteFile("/lib/start", "new\n", digest(place.read_text()) if place.exists() else None)
    changes = do(action, disk)
    assert place.read_text() == "new\n" and not place.is_symlink()
    assert disk.node("/lib/start").same(action.results(changes)["/lib/start"])
    assert place.stat().st_mode & 0o777 == (0o640 if put is put_file else 0o644)
    take_back(action, changes, disk)
    assert snapshot(disk.root) == before


def test_a_file_that_changed_since_it_was_read_is_not_rewritten(disk: Disk) -> None:
    path = "/lib/libcuda.so.535"
    obstacle = WriteFile(path, "new", digest("what the plan saw")).obstacle({path: disk.node(path)}, disk)
    assert obstacle and "has changed" in str(obstacle)
