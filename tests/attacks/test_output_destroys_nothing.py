"""What an output option names is never turned into something else, and a disk that fills up leaves no part behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from glmcore.errors import GlmError
from glmcore.output import write_text


def test_a_pipe_stays_a_pipe_and_carries_the_text(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text")
    received = os.read(reader, 100)
    os.close(reader)
    assert received == b"text" and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GlmError, match="could not write"):
        write_text(tmp_path / "pipe", "text")
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a longer text from before")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


def test_standard_output_by_its_name_is_written_where_it_stands(tmp_path: Path) -> None:
    """/dev/stdout is such a link; one of the test's own is all that a failure could destroy."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1" if sys.platform == "linux" else "/dev/fd/1")
    code = (
        "import sys; from glmcore.output import write_text\nprint('before')\n"
        "write_text(sys.argv[1], 'between\\n')\nprint('after')"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "stdout")], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_text() == "before\nbetween\nafter\n"
    assert sorted(os.listdir(tmp_path)) == ["out", "stdout"] and (tmp_path / "stdout").is_symlink()


def test_a_full_disk_keeps_the_file_from_before_and_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("from before")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from glmcore.output import write_text\nfrom glmcore.errors import GlmError\n"
        "try: write_text(sys.argv[1], 'x' * 5000)\nexcept GlmError as error: sys.exit(error.line())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "kept")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "write-failed" in done.stderr
    assert os.listdir(tmp_path) == ["kept"] and (tmp_path / "kept").read_text() == "from before"


def test_permissions_are_the_old_ones_or_what_the_umask_allows(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    (tmp_path / "old").chmod(0o604)
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "old", "x")
        write_text(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("old", "new")] == [0o604, 0o640]


def test_half_a_character_in_the_text_is_written_as_json_has_it(tmp_path: Path) -> None:
    write_text(tmp_path / "talk", '"\udc80"')
    assert (tmp_path / "talk").read_text() == '"\\udc80"'


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    """As root `snapshot -o /dev/null` made a file of it; the node here is another one of the same device."""
    node = tmp_path / "null"
    try:
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        node.write_bytes(b"")
    except OSError as error:
        pytest.skip(f"no device can be made here: {error}")
    write_text(node, "swallowed")
    assert stat.S_ISCHR(node.lstat().st_mode) and os.listdir(tmp_path) == ["null"]
    for command in (["plan", "chatglm2-6b", "--device", "cpu=64GiB", "-o"], ["-m", "glmdoctor", "snapshot", "-o"]):
        program = ["-m", "glmcore", *command] if command[0] == "plan" else command
        done = subprocess.run([sys.executable, *program, str(node)], capture_output=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert stat.S_ISCHR(node.lstat().st_mode) and os.listdir(tmp_path) == ["null"]


@pytest.mark.parametrize("output", [">&-", ">/dev/full"])
@pytest.mark.parametrize(
    "program",
    ["glmcore plan chatglm2-6b --device cpu=64GiB", "glmcore info .",
     "glmcore chat --once x --max-new-tokens 1 --model .",
     "glmdoctor check --json --only system.cpu", "glmdoctor list", "glmdoctor snapshot"],
)  # fmt: skip
def test_an_answer_that_cannot_be_written_is_a_failure_in_one_line(model: Path, program: str, output: str) -> None:
    """Standard output that was closed, or lies on a full disk."""
    script = f"exec {sys.executable} -m {program} {output}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=model, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "internal" not in last and ("closed" in last or "No space left" in last), done.stderr
