"""The hand-over to the chat: which program is started, with which arguments and variables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from glmcore import programs
from glmdoctor.cli import launch
from glmdoctor.cli.application import application
from glmdoctor.cli.chat import found_kernel, value_of
from glmdoctor.host.facts import KernelBuild, Unknown

BUILT = KernelBuild(True, "done", "/cache/kernel.so", "gcc", "avx2", True, True, "", 0.0)


class Started(Exception):
    """Stands for the program that has taken this process over."""


@pytest.fixture()
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def execute(file: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        calls.append((list(command), dict(environment)))
        raise Started

    monkeypatch.setattr(launch.os, "execvpe", execute)
    return calls


def test_all_arguments_are_passed_on(started: list[tuple[list[str], dict[str, str]]]) -> None:
    done = CliRunner().invoke(application, ["chat", "--anyway", "--once", "hi there", "--temperature=0", "-x"])
    assert isinstance(done.exception, Started)
    command = started[0][0]
    assert command[:6] == programs.with_packages(sys.executable, "-m", "glmcore", "chat")
    assert command[6:10] == ["--once", "hi there", "--temperature=0", "-x"]


def test_the_chat_loads_no_library_of_the_current_folder(
    started: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/opt/lib` leaves an empty entry, which means the current folder."""
    monkeypatch.setenv("LD_LIBRARY_PATH", ":/opt/lib:.")
    CliRunner().invoke(application, ["chat", "--anyway"])
    assert started[0][1].get("LD_LIBRARY_PATH") == "/opt/lib"


def test_a_kernel_that_the_user_names_is_left_alone(started: list[tuple[list[str], dict[str, str]]]) -> None:
    CliRunner().invoke(application, ["chat", "--anyway", "--kernel-file", "/no/such/kernel.so"])
    assert started[0][0].count("--kernel-file") == 1


def test_values_of_another_programs_options() -> None:
    assert value_of("--model", ("--once", "x", "--model", "m")) == "m"
    assert value_of("--model", ("--model=m",)) == "m"
    assert value_of("--model", ("--models", "m")) is None
    assert value_of("--model", ("--model",)) is None


@pytest.mark.parametrize(
    ("build", "named", "expected"),
    [
        (BUILT, None, ["--kernel-file", "/cache/kernel.so"]),
        (BUILT, "/mine.so", []),
        (Unknown("no compiler"), None, []),
    ],
)
def test_the_kernel_found_is_handed_over(build: KernelBuild | Unknown, named: str | None, expected: list[str]) -> None:
    assert found_kernel(SimpleNamespace(kernel_build=build, kernel_file=named)) == expected


def test_an_empty_variable_is_taken_away(
    monkeypatch: pytest.MonkeyPatch, started: list[tuple[list[str], dict[str, str]]]
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/stray")
    monkeypatch.setenv("KEPT_EMPTY", "")
    with pytest.raises(Started):
        launch.start(["true"], {"LD_LIBRARY_PATH": "", "CUDA_PATH": "/x"})
    environment = started[0][1]
    assert "LD_LIBRARY_PATH" not in environment and environment["CUDA_PATH"] == "/x" and environment["KEPT_EMPTY"] == ""
