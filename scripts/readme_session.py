"""The README's session, run anew on a broken machine of tests/lab: prints its block, or puts it into README.md.

    python scripts/readme_session.py [--write]

Needs root and what the lab needs; the lab's files go again afterwards. It is cut where ``[…]`` stands, and wrapped.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "lab"))

import driver_machines  # noqa: E402
from machine import Machine, make_patient  # noqa: E402

README = ROOT / "README.md"
CHAPTER = "## A broken machine, repaired\n"
BLOCK = re.compile(rf"(?<={CHAPTER}).*?^```\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
PYTHON = "/usr/local/chat"
COMMANDS = (
    f"glmdoctor check --python {PYTHON}/bin/python",
    f"glmdoctor fix --symlink --yes --python {PYTHON}/bin/python",
    f"glmdoctor check --python {PYTHON}/bin/python",
    "glmcore chat --temperature 0 --once \"what does 'Library cuda is not initialized' mean?\"",
    "glmcore chat --temperature 0 --once 我没有gcc怎么办",
    "glmdoctor undo",
)
WIDTH = 120
CUT = "[…]"


def outputs() -> list[str]:
    """Standard output of each command; RuntimeError where no machine can be made here."""
    lab = Path(tempfile.mkdtemp(prefix="glmdoctor-lab-"))
    try:
        (lab / "stubs").mkdir()
        machine = Machine(lab / "machine", lab / "stubs")
        machine.remove_toolkits()
        driver_machines.two_versions(machine)
        make_patient(machine.folder / PYTHON.removeprefix("/"), lab / "stubs")
        return [ran(machine, command) for command in COMMANDS]
    finally:
        shutil.rmtree(lab)


def ran(machine: Machine, command: str) -> str:
    done = machine.run(*shlex.split(command))
    if done.stderr.startswith(("unshare:", "mount:")):
        raise RuntimeError(done.stderr.strip())
    return done.stdout.rstrip("\n")


def block(texts: list[str]) -> str:
    """The session as the README has it: the first report without what was skipped, of a later one the end alone."""
    parts: list[str] = []
    for number, (command, text) in enumerate(zip(COMMANDS, texts, strict=True)):
        lines = text.split("\n")
        if " check" in command:
            lines = [CUT, *lines[-2:]] if number else shortened(lines)
        parts.append("\n".join([f"$ {command}", *map(wrapped, lines)]))
    return "\n\n".join(parts) + "\n"


def shortened(lines: list[str]) -> list[str]:
    well = next(i for i, line in enumerate(lines) if line.startswith("✓"))
    names = ", ".join(lines[well].split(", ")[:3])
    return [*lines[:well], f"{names}, {CUT}", *lines[-3:]]


def wrapped(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())] + "  "
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False)) or line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put it into README.md")
    session = block(outputs())
    if not parser.parse_args().write:
        print(session, end="")
        return
    text = README.read_text(encoding="utf-8")
    found = BLOCK.search(text)
    assert found, "the README has no such chapter any more"
    README.write_text(text[: found.start(1)] + session + text[found.end(1) :], encoding="utf-8")


if __name__ == "__main__":
    main()
