"""Interpreters by their metadata: the doctor's own, others, broken ones."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glmdoctor.host.facts import Interpreter, Torch, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes.python import packages, torch
from glmdoctor.host.recorded import RecordedIO


def python(executable: str | Path) -> Interpreter | Unknown:
    return Host(interpreter=str(executable)).interpreter


@pytest.fixture(scope="module")
def venv(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "Cpm_Kernels-1.0.9.dist-info").mkdir()
    (site / "zope.interface-5.0-py3.11.egg-info").touch()
    (site / "torch").mkdir()
    (site / "torch" / "version.py").write_text(
        "from typing import Optional\n__all__ = ['x']\n__version__ = '2.1.2+cu121'\ncuda: Optional[str] = '12.1'\n"
        "git_version = 'a8e7c98'\nhip: Optional[str] = None\n"
    )
    (site / "torch" / "__init__.py").write_text("raise SystemExit('the doctor imported its patient')")
    return folder


def test_the_doctors_own_packages_as_importlib_has_them():
    found = python(sys.executable)
    assert isinstance(found, Interpreter)
    real = {
        dist.metadata["Name"].lower().replace("_", "-").replace(".", "-"): dist.version
        for dist in reversed(list(importlib.metadata.distributions()))
    }
    assert {name: version for name, version in found.packages.items() if name in real} == real


def test_another_interpreter_is_asked_in_a_child(venv):
    found = python(venv / "bin/python")
    assert isinstance(found, Interpreter)
    assert found.executable == str(venv / "bin/python")
    assert found.prefix == str(venv)
    assert found.version.split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert (found.packages["cpm-kernels"], found.packages["zope-interface"]) == ("1.0.9", "5.0")
    assert found.site_folders == (str(next(venv.glob("lib/python*/site-packages"))),)


def test_torch_is_read_and_not_imported(venv):
    found = Host(interpreter=str(venv / "bin/python")).torch
    assert isinstance(found, Torch)
    assert (found.version, found.cuda, found.hip, found.bundled) == ("2.1.2+cu121", "12.1", None, ())
    assert found.path.endswith("site-packages/torch")


def test_pythonpath_counts(venv, tmp_path):
    (tmp_path / "extra-3.2.dist-info").mkdir()
    machine = RealIO("/", environ={**os.environ, "PYTHONPATH": str(tmp_path)})
    found = Host(machine, interpreter=str(venv / "bin/python")).interpreter
    assert isinstance(found, Interpreter) and found.packages["extra"] == "3.2"


def test_paths_that_are_no_python(tmp_path):
    text = tmp_path / "text"
    text.write_text("hello")
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    script.chmod(0o755)
    assert "no program that can be run" in python(tmp_path / "none").reason
    assert "no program that can be run" in python(text).reason
    assert "no program that can be run" in python(tmp_path).reason
    assert "broken (exit status 3)" in python(script).reason
    assert "did not answer" in python("/bin/true").reason


def test_an_interpreter_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr("glmdoctor.host.probes.nvml.TIME_LIMIT", 0.5)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    found = python(script)
    assert isinstance(found, Unknown) and "no answer within" in found.reason


def test_facts_that_build_on_an_unknown_interpreter_are_unknown_too(tmp_path):
    host = Host(interpreter=str(tmp_path / "none"))
    assert isinstance(host.torch, Unknown) and isinstance(host.interpreter, Unknown)
    assert not isinstance(host.cpm, Unknown), "the rules of the newest release are replayed"


def test_the_first_folder_of_the_path_wins():
    machine = RecordedIO(
        {"/a/torch-2.1.0.dist-info/METADATA": "", "/b/torch-1.0.dist-info/METADATA": "", "/b/~orch-9.dist-info/x": ""}
    )
    assert packages(machine, ["/a", "/b", "/none"]) == {"torch": "2.1.0"}


@pytest.mark.parametrize("source", ["", "__version__ = (", "\0", "__version__ = compute()", "x = 1"])
def test_a_version_file_without_a_version(source):
    machine = RecordedIO({"/site/torch/version.py": source})
    found = torch(machine, Interpreter("p", "3.11", "/", "linux_x86_64", {}, ("/site",)))
    assert isinstance(found, Unknown) and "names no version" in found.reason


def test_no_torch():
    found = torch(RecordedIO({}), Interpreter("p", "3.11", "/", "linux_x86_64", {}, ("/site",)))
    assert isinstance(found, Unknown) and "not installed" in found.reason


def test_what_the_wheels_themselves_ask_for(root):
    from glmdoctor.host.probes.python import requirements

    metadata = (
        "Metadata-Version: 2.1\nName: transformers\nRequires-Python: >=3.8.0\nRequires-Dist: filelock\n"
        "Requires-Dist: tokenizers (<0.20,>=0.19)\nRequires-Dist: torch ; extra == 'torch'\n"
        "Requires-Dist: accelerate >=0.21.0 ; extra == 'all'\n\nRequires-Dist: a word of the description\n"
    )
    root.file("/site/transformers-4.44.2.dist-info/METADATA", metadata)
    root.file("/site/click-8.1.dist-info/METADATA", "Name: click\nRequires-Python: >=3.9\n")
    assert requirements(root.io(), ["/site"]) == {
        "transformers": ("python>=3.8.0", "filelock", "tokenizers (<0.20,>=0.19)", "torch; extra == 'torch'")
    }
