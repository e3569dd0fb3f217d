"""The script that runs well-known clients: each has a program that reaches loopback alone, and no failure is lost."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("check_clients", ROOT / "scripts" / "check_clients.py")
assert _spec is not None and _spec.loader is not None
check_clients: Any = importlib.util.module_from_spec(_spec)
sys.modules["check_clients"] = check_clients
_spec.loader.exec_module(check_clients)


def test_each_client_has_its_program() -> None:
    programs = {path.stem.removeprefix("with_") for path in check_clients.PROGRAMS.glob("with_*.py")}
    assert programs == set(check_clients.PACKAGES)


def test_programs_reach_loopback_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "somebody's")
    env = check_clients.alone(tmp_path)
    assert "OPENAI_API_KEY" not in env and env["HOME"] == str(tmp_path)
    assert env["https_proxy"] == env["HTTP_PROXY"] == "http://127.0.0.1:9" and "127.0.0.1" in env["no_proxy"]


@pytest.mark.parametrize(
    "program, failed",
    [
        ("@call\ndef fine() -> None: ...\nmain()", []),
        ("@call\nasync def wrong() -> None: assert not MODEL\nmain()", ["wrong"]),
        ("@call\ndef fine() -> None: ...\nmain()\nraise SystemExit(3)", ["the program itself"]),
        ("main()", ["the program itself"]),
        ("import nowhere", ["the program itself"]),
    ],
)
def test_no_failure_is_passed_over(
    program: str, failed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(check_clients.PROGRAMS / "calls.py", tmp_path)
    (tmp_path / "with_openai.py").write_text(f"from calls import MODEL, call, main\n{program}\n", encoding="utf-8")
    monkeypatch.setattr(check_clients, "PROGRAMS", tmp_path)
    monkeypatch.setitem(check_clients.PACKAGES, "openai", ["pytest"])
    server = {"GLMCORE_URL": "http://127.0.0.1:9", "GLMCORE_MODEL": "m", "GLMCORE_KEY": "k"}
    results = check_clients.results_of("openai", Path(sys.executable), server, tmp_path)
    assert [result.call for result in results if result.error is not None] == failed
