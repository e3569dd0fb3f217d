"""Links inside a fake root stay inside it; commands end in time; a recorded machine answers as a real one."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmdoctor.host.io import RealIO, resolve
from glmdoctor.host.recorded import Link, RecordedIO


def test_an_absolute_link_is_followed_inside_the_root(root):
    root.file("/usr/lib/libcuda.so.535", b"inside")
    root.link("/usr/lib/libcuda.so.1", "/usr/lib/libcuda.so.535")
    root.link("/lib", "usr/lib")
    io = root.io()
    assert io.read_text("/lib/libcuda.so.1") == "inside"
    assert io.realpath("/lib/libcuda.so.1") == "/usr/lib/libcuda.so.535"
    assert io.place("/lib/libcuda.so.1") == f"{root.path}/usr/lib/libcuda.so.535"


def test_a_link_cannot_leave_the_root(root):
    root.link("/etc/passwd", "../../../../../../etc/passwd")
    root.link("/up", "/../../..")
    io = root.io()
    assert not io.exists("/etc/passwd")
    assert io.realpath("/up") == "/"
    assert io.names("/up") == ["etc", "up"]


def test_a_loop_of_links_ends_in_an_error(root):
    root.link("/a", "b")
    root.link("/b", "/a")
    io = root.io()
    with pytest.raises(OSError) as caught:
        io.stat("/a")
    assert caught.value.errno == errno.ELOOP
    assert io.readlink("/a") == "b"


def test_a_bound_folder_is_that_of_the_running_system(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("running system")
    root.link("/opt", str(outside))
    assert root.io().text_or_none(f"{outside}/x") is None
    io = root.io().bound(str(outside))
    assert io.read_text(f"{outside}/x") == "running system"
    assert io.read_text("/opt/x") == "running system"


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    start = time.monotonic()
    assert RealIO("/").text_or_none(str(tmp_path / "pipe")) is None
    assert time.monotonic() - start < 1


def test_a_command_that_hangs_is_ended():
    done = RealIO("/").run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.3)
    assert done.code == 124


def test_a_command_that_is_not_there_has_the_shells_status():
    assert RealIO("/").run(["/no/such/program"], 1).code == 127


def test_which_takes_the_first_program_of_the_path(root):
    root.file("/bin/gcc", b"not executable")
    root.program("/usr/bin/gcc")
    io = RealIO(str(root.path), environ={"PATH": "/bin:/usr/bin"})
    assert io.which("gcc") == "/usr/bin/gcc"
    assert io.which("clang") is None


def test_the_environment_variable_names_the_root(tmp_path):
    assert RealIO(environ={"GLMDOCTOR_ROOT": str(tmp_path)}).root == str(tmp_path)
    assert RealIO(environ={}).root == "/"


def test_a_recorded_machine_follows_links_and_lists_folders():
    io = RecordedIO(
        {"/usr/lib/libcuda.so.1": b"\x7fELF", "/usr/lib/libcuda.so": Link("libcuda.so.1"), "/lib": Link("usr/lib")}
    )
    assert io.read_bytes("/lib/libcuda.so") == b"\x7fELF"
    assert io.realpath("/lib/libcuda.so") == "/usr/lib/libcuda.so.1"
    assert io.names("/lib") == ["libcuda.so", "libcuda.so.1"]
    assert not io.exists("/lib64")


def test_a_recorded_windows_machine_keeps_its_listing_order():
    io = RecordedIO({"C:\\b\\z.dll": b"", "C:\\b\\a.dll": b""}, system="Windows", machine="AMD64")
    assert io.listdir("C:\\b\\") == ["z.dll", "a.dll"]
    assert io.is_folder("C:\\b")


@given(
    st.lists(st.sampled_from(["a", "b", "..", ".", ""]), max_size=6),
    st.dictionaries(
        st.sampled_from(["/a", "/b", "/a/a", "/a/b", "/b/a"]),
        st.sampled_from(["a", "/b", "../a", "/", "..", "b/a"]),
        max_size=5,
    ),
)
def test_resolving_gives_a_path_without_links_inside_the_root(tmp_path_factory, parts, links):
    base = Path(os.path.realpath(tmp_path_factory.mktemp("tree")))
    (base / "a").mkdir()
    (base / "b").mkdir()
    for path, target in links.items():
        place = base / path.lstrip("/")
        if place.parent.is_dir() and not place.exists() and not place.is_symlink():
            place.symlink_to(target)
    io = RealIO(str(base))
    path = "/" + "/".join(parts)
    try:
        found = io.realpath(path)
    except OSError:
        return
    assert resolve(found, lambda p: os.readlink(str(base) + p) if os.path.islink(str(base) + p) else None) == found
    assert found.startswith("/") and ".." not in found
