"""Bad input in one line, and soon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from glmcore.cli import group
from glmcore.cli.failures import told
from glmcore.errors import GlmError

pytest.importorskip("ray", reason="pip install .[ray]")
pytest.importorskip("fastapi", reason="pip install .[ray]")


def refused(*arguments: str) -> GlmError:
    """What a command in this process is refused with."""
    with pytest.raises((GlmError, click.ClickException)) as caught:
        group.main(["cluster", *arguments], standalone_mode=False)
    return told(caught.value)


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--address", "127.0.0.1:1"], "cluster-unreachable"),
        (["--address", "nowhere"], "usage"),
        (["--address", "127.0.0.1:99999"], "usage"),
        (["--nodes", "2"], "usage"),
        (["--address", "local", "--plan", "x.json"], "usage"),
        (["--address", "local", "--adapter", "x", "--stages", "2"], "model-path"),
        (["--address", "local", "--model", "/nowhere"], "model-path"),
        (["--address", "local", "--nodes", "0"], "usage"),
        (["--stages", "many"], "usage"),
        (["--host", "0.0.0.0"], "usage"),
    ],
)
def test_what_makes_no_sense(arguments: list[str], code: str) -> None:
    assert refused("serve", "--port", "0", *arguments).code == code


def test_nobody_where_ray_ran_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the file that a cluster which was killed left behind."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert refused("plan").what == "no Ray was started on this machine"
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert refused("plan").what.startswith("nobody answers there")


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.stderr.count("\n") == 1 and done.stdout == "", done.stderr
    return done


def test_somebody_else_at_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = run("glmdoctor", "check", "--ray", address, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    assert done.returncode == 1 and "what answers there is not Ray" in done.stderr


def test_the_doctor_takes_what_is_for_one_machine_alone() -> None:
    assert run("glmdoctor", "check", "--ray", "auto", "--deep").returncode == 2
    assert run("glmdoctor", "check", "--ray", "auto", "--format", "junit").returncode == 2


@pytest.mark.parametrize(
    "program", [["glmcore", "cluster", "plan", "--address", "local"], ["glmdoctor", "check", "--ray", "auto"]]
)
def test_a_missing_extra_is_named(program: list[str], tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n")
    done = run(*program, PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert done.returncode == 1 and "ray is not installed" in done.stderr and "[ray]" in done.stderr
