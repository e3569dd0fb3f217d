"""The command line as a process: exit statuses, what goes where, and every kind of bad input in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

QUICK = ("--only", "system.cpu")


def glmdoctor(*arguments: str, stdin: bytes | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **variables}
    command = [sys.executable, "-m", "glmdoctor", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=120)
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    return subprocess.CompletedProcess(command, done.returncode, out, err)


def one_line(words: str) -> bool:
    return words.startswith("glmdoctor: ") and words.count("\n") == 1


def loaded_after(*arguments: str) -> set[str]:
    """The modules that a command leaves loaded in its own process."""
    script = f"""import sys
from glmdoctor.cli import main
try:
    main({list(arguments)!r})
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)"""
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr.split())


def test_help_loads_no_command() -> None:
    modules = loaded_after("--help")
    assert "glmdoctor.cli.application" in modules
    assert not modules & {"glmdoctor.cli.check", "glmdoctor.checks", "glmdoctor.host", "rich", "elftools"}


def test_check_in_a_pipe_loads_neither_torch_nor_rich() -> None:
    modules = loaded_after("check")
    assert "glmdoctor.checks" in modules
    assert not modules & {"torch", "cpm_kernels", "transformers", "rich"}


def test_every_command_has_help() -> None:
    from glmdoctor.cli.application import COMMANDS

    overview = glmdoctor("--help").stdout
    assert all(f"  {name}" in overview for name in COMMANDS)
    for name in COMMANDS:
        done = glmdoctor(name, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"Usage: glmdoctor {name}"), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("chek",), "did you mean check"),
        (("check", "--only", "cuda.libcuda-lnk"), "did you mean cuda.libcuda-link"),
        (("check", "--skip", "no-such-thing-at-all"), "glmdoctor list"),
        (("check", "--python", "/no/such/python"), "/no/such/python"),
        (("check", "--python", "/bin/ls"), "/bin/ls"),
        (("check", "--python", "/etc/passwd"), "/etc/passwd"),
        (("check", "--format", "pdf"), "pdf"),
        (("check", "--lang", "fr"), "fr"),
        (("check", "--snapshot", "/no/such/file"), "/no/such/file"),
        (("check", "--snapshot", "/etc/passwd"), "snapshot"),
        (("check", "--snapshot", "/etc/passwd", "--model", "x"), "--snapshot"),
        (("snapshot", "-o", "/"), "folder"),
        (("explain", "/no/such/log"), "/no/such/log"),
        (("explain", "/"), "cannot read /"),
        (("run",), "COMMAND"),
        (("check", "--nonsense"), "--nonsense"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: tuple[str, ...], words: str) -> None:
    done = glmdoctor(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert one_line(done.stderr) and words in done.stderr


def test_a_model_path_that_does_not_exist_is_a_failure() -> None:
    done = glmdoctor("check", "--json", "--only", "model-path-wrong", "--model", "/no/such/model")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["verdict"] == "broken"
    assert [f["problem"] for f in report["findings"] if f["status"] == "fail"] == ["model-path-wrong"]


def test_json_goes_to_standard_output_alone() -> None:
    done = glmdoctor("check", "--json")
    assert json.loads(done.stdout)["schema_version"] == 1 and done.stderr == ""


def test_the_exit_status_stays_the_reports_when_the_reader_has_gone() -> None:
    command = [sys.executable, "-m", "glmdoctor", "check", *QUICK, "--format", "html"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    words = process.stderr.read()
    assert process.wait() == 0 and words == b""


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "glmdoctor", "list"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and one_line(done.stderr) and "No space left" in done.stderr


def test_a_report_that_standard_output_cannot_take_is_a_failure() -> None:
    """A job with a closed standard output must not take silence for health."""
    command = f"exec {sys.executable} -m glmdoctor check --only system.cpu >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and one_line(done.stderr) and "standard output is closed" in done.stderr


def test_an_interrupt_is_one_line_and_status_130() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "glmdoctor", "explain", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(1.0)  # it reads its input by now, and waits for more
    process.send_signal(signal.SIGINT)
    _, words = process.communicate()
    assert process.returncode == 130 and words.strip() == "glmdoctor: interrupted"


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_an_output_that_cannot_print_chinese_gets_english(encoding: str) -> None:
    done = glmdoctor("check", *QUICK, "--lang", "zh", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and one_line(done.stderr) and "Chinese" in done.stderr
    assert "healthy" in done.stdout


def test_chinese_by_the_locale_and_by_option() -> None:
    assert "正常" in glmdoctor("check", *QUICK, LC_ALL="", LANG="zh_CN.UTF-8", PYTHONUTF8="1").stdout
    assert "正常" in glmdoctor("check", *QUICK, "--lang", "zh").stdout
    assert json.loads(glmdoctor("check", *QUICK, "--lang", "zh", "--json", PYTHONIOENCODING="ascii").stdout)


def test_no_home_and_no_cache_do_not_stop_a_check(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = glmdoctor("check", HOME=str(blocked), XDG_CACHE_HOME=str(blocked), XDG_DATA_HOME=str(blocked))
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr and "checks" in done.stdout
    bare = [sys.executable, "-m", "glmdoctor", "check", *QUICK]
    assert subprocess.run(bare, env={}, capture_output=True).returncode == 0


def test_a_snapshot_replays_as_the_machine_it_was_taken_on(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    assert glmdoctor("snapshot", "-o", str(file)).returncode == 0
    here = json.loads(glmdoctor("check", "--json").stdout)
    there = json.loads(glmdoctor("check", "--json", "--snapshot", str(file)).stdout)

    def verdicts(report: dict[str, list[dict[str, str]]]) -> list[tuple[str, str]]:
        return [(f["id"], f["status"]) for f in report["findings"]]

    assert verdicts(there) == verdicts(here)
    assert list(tmp_path.iterdir()) == [file]


def test_a_snapshot_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    done = glmdoctor("snapshot", "-o", str(tmp_path / "none" / "x.json"))
    assert done.returncode == 1 and one_line(done.stderr) and not list(tmp_path.iterdir())


def test_github_writes_the_job_summary(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    done = glmdoctor("check", *QUICK, "--format", "github", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0 and summary.read_text(encoding="utf-8").startswith("## glmdoctor")


def test_run_gives_the_commands_own_status_and_words() -> None:
    done = glmdoctor("run", "--", sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "--help", "-x")
    assert done.returncode == 7 and done.stdout == "['--help', '-x']\n"


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_run_says_what_cannot_be_started(command: str, status: int) -> None:
    done = glmdoctor("run", "--", command)
    assert done.returncode == status and done.stdout == "" and f"cannot start {command}" in done.stderr


def test_chat_stops_with_the_remedy_where_a_check_fails() -> None:
    done = glmdoctor("chat", "--model", "/no/such/model", "--once", "hello")
    assert done.returncode == 1 and done.stdout == ""
    assert "/no/such/model" in done.stderr and "--anyway" in done.stderr


def test_list_names_checks_and_problems() -> None:
    catalogue = json.loads(glmdoctor("list", "--json").stdout)
    assert {"cuda.libcuda-link", "kernel.build"} <= {check["id"] for check in catalogue["checks"]}
    assert len(catalogue["problems"]) >= 86
    assert "libcuda-not-in-cuda-path" in glmdoctor("list").stdout


def on_terminal(columns: int, *arguments: str, **variables: str) -> str:
    """What a command shows on a terminal of that width."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **variables}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None) if name not in variables else None
    process = subprocess.Popen([sys.executable, "-m", "glmdoctor", *arguments], stdout=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # Linux answers EIO when the last writer has closed
            break
        if not block:
            break
        shown += block
    os.close(master)
    assert process.wait() == 0
    return shown.decode("utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_terminal_gets_colours_and_its_own_width(language: str) -> None:
    import re

    from rich.cells import cell_len

    shown = on_terminal(50, "check", *QUICK, "--lang", language)
    rows = [re.sub(r"\x1b\[[0-9;]*m", "", row) for row in shown.splitlines()]
    assert "\x1b[" in shown and max(cell_len(row) for row in rows) <= 50
    assert "\x1b[3" not in on_terminal(50, "check", *QUICK, NO_COLOR="1")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is needed")
def test_the_first_build_is_said_on_a_pipe_and_once(tmp_path: Path) -> None:
    """Seconds in which nothing else is to be seen; standard output stays the report's own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "glmdoctor", "check", "--only", "kernel.build", "--json"]
    first, second = (subprocess.run(command, capture_output=True, text=True, env=environment) for _ in range(2))
    assert first.stderr == "glmdoctor: building the CPU kernel, once; this takes a few seconds\n"
    assert json.loads(first.stdout)["findings"][0]["evidence"]["cached"] is False
    assert second.stderr == "" and json.loads(second.stdout)["findings"][0]["evidence"]["cached"] is True


@pytest.mark.parametrize(
    "arguments",
    [["\x1b[2Jx"], ["explain", "/\x1b[2Jx"], ["run", "\x1b]0;x\x07"], ["check", "--only", "\x1b[2J\nx"],
     ["check", "--snapshot", "\x1b[2Jx"], ["check", "--python", "\x1b[2Jx"], ["explain", "x" * 100_000]],
)  # fmt: skip
def test_an_argument_does_not_drive_the_terminal(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    from glmdoctor.cli import main

    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capfd.readouterr()
    assert left.value.code in (1, 2, 127) and not out
    assert "internal" not in err and err.endswith("\n") and err[:-1].isprintable() and len(err) < 5000, err
