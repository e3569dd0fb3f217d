"""Checks of other packages: the documents' own example installed in a folder, and some that crash."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), re.DOTALL)


def install(folder: Path, module: str, source: str, entry: str) -> None:
    """What pip leaves: the module, and its metadata with the entry points."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[glmdoctor.checks]\n{entry}\n")


def doctor(site: Path, *arguments: str, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "LANG": "C.UTF-8"}
    if root:
        environ["GLMDOCTOR_ROOT"] = str(root)
    command = [sys.executable, "-m", "glmdoctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=site, check=False)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    assert EXAMPLE
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "glmdoctor_kestrel", EXAMPLE[1], "kestrel = glmdoctor_kestrel:CHECKS")
    return folder


def test_the_example_of_the_documents(site: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev" / "kestrel0").write_text("")
    assert findings(doctor(site, "check", "--json", "--only", "kestrel.card"))["kestrel.card"]["status"] == "skipped"
    done = doctor(site, "check", "--json", "--only", "kestrel.card", root=root)
    found = findings(done)["kestrel.card"]
    assert (found["status"], found["problem"], done.returncode) == ("warn", "kestrel-no-firmware", 0)
    assert found["evidence"]["nodes"] == ["/dev/kestrel0"] and found["remedies"] == []
    assert "kestrel.card" in doctor(site, "list").stdout
    assert "Kestrel card has no firmware" in doctor(site, "check", "--only", "kestrel.card", root=root).stdout


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError"),
        ("raise SystemExit(9)", "SystemExit: 9"),
        ("CHECKS = ('no check',)", "TypeError"),
        ("CHECKS = 7", "TypeError"),
        ("from glmdoctor.checks import ALL\nCHECKS = ALL[:1]", "there is a check"),
    ],
)
def test_a_plugin_that_is_broken_is_one_crashed_finding(site: Path, source: str, words: str) -> None:
    install(site, "broken_plugin", source, "broken = broken_plugin:CHECKS")
    chosen = ("--only", "plugin.broken", "--only", "system.cpu", "--only", "kestrel.card")
    done = doctor(site, "check", "--json", *chosen)
    found = findings(done)
    assert (found["plugin.broken"]["status"], done.returncode) == ("crashed", 3), done.stderr
    assert words in found["plugin.broken"]["evidence"]["error"]
    assert found["system.cpu"]["status"] == "ok" and "kestrel.card" in found


def test_a_check_that_raises_or_leaves(site: Path) -> None:
    source = (
        "import sys\nfrom glmdoctor.checks import Check\nfrom glmdoctor.messages import Text\n"
        "CHECKS = (Check('bad.raises', Text('A'), lambda host: 1 / 0), Check('bad.leaves', Text('B'), sys.exit))\n"
    )
    install(site, "raising_plugin", source, "raising = raising_plugin:CHECKS")
    done = doctor(site, "check", "--json", "--only", "bad.raises", "--only", "bad.leaves")
    assert {f["status"] for f in findings(done).values()} == {"crashed"} and done.returncode == 3
    assert len(findings(done)) == 2


def test_a_plugins_reading_is_kept_in_snapshots() -> None:
    from glmdoctor.host.facts import Unknown
    from glmdoctor.host.host import Host
    from glmdoctor.host.recorded import RecordedIO

    host = Host(RecordedIO({"/dev/kestrel0": ""}))
    assert host.reading("kestrel", lambda io: {"nodes": io.names("/dev")}) == {"nodes": ["kestrel0"]}
    assert isinstance(host.reading("broken", lambda io: 1 / 0), Unknown)
    again = Host.from_snapshot(json.loads(json.dumps(host.to_snapshot())))
    assert again.reading("kestrel", lambda io: 1 / 0) == {"nodes": ["kestrel0"]}
    assert isinstance(again.reading("other", lambda io: {}), Unknown)
