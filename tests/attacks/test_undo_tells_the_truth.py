"""A thousand random damages of the journal and of what it kept: undo neither crashes, hangs, nor says what is not so.

The damages come from a seed; each meets a fresh copy of one small repaired tree. ``undo`` runs in a child whose memory
and time are bounded. No act of it may start a program.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from glmdoctor.actions import Action, PlaceLink, WriteFile, digest
from glmdoctor.actions.disk import Disk
from glmdoctor.actions.packages import InstallPackages
from glmdoctor.cli.undo import take_back
from glmdoctor.messages import text
from glmdoctor.remedies import Plan
from glmdoctor.repair import chain, executor
from glmdoctor.repair.executor import Outcome, Treatment, prepare
from glmdoctor.repair.recovery import Refused

STATE, RUN = "/state", "20260101T000000Z-0000"
JOURNAL = f"{STATE}/runs/{RUN}.jsonl"
LAST = f"{STATE}/runs/{RUN}.last"
DAMAGES, MEMORY, PATIENCE = 1000, 1 << 30, 300  # the last in seconds, for all of one kind of journal
ACTIONS: tuple[Action, ...] = (
    PlaceLink("/lib/libcuda.so.1", "/lib/libcuda.so.535"),  # in place of a link
    PlaceLink("/lib/libcuda.so", "/lib/libcuda.so.1"),  # of a file
    WriteFile("/home/.bashrc", "old\nnew\n", digest("old\n")),
    PlaceLink("/data/cuda/lib64/libcuda.so", "/lib/libcuda.so.1"),  # of nothing, in folders that are not there
)
Tree = dict[str, str]


class Idle(Disk):
    """Starts nothing."""

    def run(self, argv: object, timeout: float = 0) -> str:
        raise AssertionError(f"undo started {argv}")


def machine(root: Path) -> None:
    for folder in ("lib", "home", "other"):
        (root / folder).mkdir(parents=True)
    for version in ("470", "535"):
        (root / "lib" / f"libcuda.so.{version}").write_text(version)
    (root / "lib" / "libcuda.so.1").symlink_to("libcuda.so.470")
    (root / "lib" / "libcuda.so").write_text("somebody's own")
    (root / "home" / ".bashrc").write_text("old\n")
    (root / "other" / "precious").write_text("not the repair's")


def tree(root: Path) -> Tree:
    """Path → what lies there, but for the doctor's own state."""
    found = {}
    for path in sorted(root.rglob("*")):
        name, mode = "/" + str(path.relative_to(root)), path.lstat().st_mode
        if name.startswith(STATE):
            continue
        what = os.readlink(path) if path.is_symlink() else ""
        if stat.S_ISREG(mode):  # a file that was made enormous is told by its size
            with path.open("rb") as file:
                what = f"{path.stat().st_size} {hashlib.sha256(file.read(1 << 20)).hexdigest()}"
        found[name] = f"{stat.filemode(mode)} {what}" if not path.is_symlink() else f"link {what}"
    return found


def repaired(root: Path) -> tuple[Tree, list[str]]:
    """Make and repair the machine; its former tree, and every name that the journal names."""
    machine(root)
    before, disk = tree(root), Idle(str(root))
    with executor.locked(disk, STATE) as store, Treatment(store, RUN) as treatment:
        [prepared] = prepare([Plan("mend", text("Mend"), (), ACTIONS)], disk, RUN)
        assert treatment.carry_out(prepared, lambda p: True, lambda p: True).outcome is Outcome.REPAIRED
    changes = [item for _, found in prepared.steps for item in found.items()]
    return before, [name for path, change in changes for name in (path, change.temporary, change.kept) if name]


def finished(content: bytes) -> bytes:
    return content


def killed(content: bytes) -> bytes:
    """The run died before it could write its last two records."""
    return b"\n".join(content.split(b"\n")[:-4])


def old(content: bytes) -> bytes:
    """As the journals of format 1 were: no checksums, no plans."""
    records = [json.loads(line) for line in content.split(b"\n") if line]
    plain = [{k: v for k, v in record.items() if k != "sum"} for record in records if record["record"] != "plan"]
    plain[0]["format"] = 1
    return b"".join(b"\n" + json.dumps(record, sort_keys=True).encode() + b"\n" for record in plain)


def rewrite(root: Path, kind: Callable[[bytes], bytes]) -> None:
    """The journal as ``kind`` has it, with what stands beside it then."""
    journal, last = root / JOURNAL[1:], root / LAST[1:]
    content = kind(journal.read_bytes())
    journal.write_bytes(content)
    if kind is old:
        last.unlink()
    else:
        last.write_bytes(re.findall(rb'"sum": "(\w+)"', content)[-1])


# Damages: each changes one file


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 1, 3, 30))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def halve(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_from_the_midst(path: Path, chance: random.Random) -> None:
    content, start = path.read_bytes(), chance.randrange(path.stat().st_size)
    path.write_bytes(content[:start] + content[start + chance.randrange(1, 400) :])


def lines_of(change: Callable[[list[bytes], random.Random], None]) -> Callable[[Path, random.Random], None]:
    def damage(path: Path, chance: random.Random) -> None:
        lines = [line for line in path.read_bytes().split(b"\n") if line]
        change(lines, chance)
        path.write_bytes(b"".join(b"\n" + line + b"\n" for line in lines))

    return damage


def swap(lines: list[bytes], chance: random.Random) -> None:
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]


def repeat(lines: list[bytes], chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))


def lose(lines: list[bytes], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def lose_the_end(lines: list[bytes], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines)) :]


def nest(lines: list[bytes], chance: random.Random) -> None:
    depth = chance.choice((900, 100_000))
    lines.insert(chance.randrange(len(lines) + 1), chance.choice((b"[", b'{"a":')) * depth)


def another_run(lines: list[bytes], chance: random.Random) -> None:
    lines[:] = [line.replace(RUN.encode(), b"20250101T000000Z-ffff") for line in lines]


def foreign_step(lines: list[bytes], chance: random.Random) -> None:
    """A step that would remove what is not the repair's, or run a program, without a right checksum."""
    before = {"kind": "absent", "target": "", "mode": 0, "uid": 0, "gid": 0, "mtime_ns": 0, "size": 0, "sha256": ""}
    names = {"temporary": "/other/precious", "kept": None}
    actions: list[dict[str, object]] = [
        {"kind": "make-folder", "path": "/other/precious"},
        {"kind": "place-link", "path": "/other/precious", "target": "x"},
        {"kind": "install-packages", "python": "/bin/false", "pins": ["a==1"], "former": [], "options": []},
        {"kind": "fetch-file", "path": 5, "name": [], "repository": None, "sha256": {}},
    ]
    changes = {"/other/precious": {"before": before, **names}}
    record = {"record": "intent", "step": 9, "plan": "x", "action": chance.choice(actions), "changes": changes}
    lines.insert(chance.randrange(1, len(lines) + 1), json.dumps(record).encode() + b"}")


def fill(content: bytes) -> Callable[[Path, random.Random], None]:
    return lambda path, chance: void(path.write_bytes(content))


def noise(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.choice((1, 100, 100_000))))


def huge(path: Path, chance: random.Random) -> None:
    os.truncate(path, 40 << 30)  # of zeros, and none of it on the disk


def gone(path: Path, chance: random.Random) -> None:
    path.unlink()


def leads_away(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(chance.choice(("/dev/zero", "/dev/tty", path.name, "../other/precious", "nowhere")))


def is_a_fifo(path: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def is_a_socket(path: Path, chance: random.Random) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name[-60:])
    os.rename(path.name[-60:], path.name)
    os.chdir(here)


def is_a_folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    (path / "within").mkdir(parents=True)


def void(_: object) -> None: ...


OF_ANY_FILE = [flip, cut, halve, noise, fill(b""), fill(b"garbage\n"), gone, leads_away, is_a_fifo, is_a_folder, huge]
OF_A_JOURNAL = [
    *([flip] * 4),
    *([cut] * 3),
    *(lines_of(change) for change in (swap, repeat, lose, lose_the_end, nest, another_run, foreign_step)),
    cut_from_the_midst,
    is_a_socket,
    *(fill(b"[" * 100_000), fill(b"null\n"), fill(b'{"record": "run"}\n'), fill(b"{}" * 5_000_000)),
    *OF_ANY_FILE,
]


def damage(root: Path, names: list[str], chance: random.Random) -> str:
    """Change one file, or two; what was done."""
    kept = [root / name[1:] for name in names if name.endswith(".kept")]
    done = []
    if chance.random() < 0.7:
        done.append((root / JOURNAL[1:], chance.choice(OF_A_JOURNAL)))
    last = root / LAST[1:]
    if last.exists() and chance.random() < 0.1:
        done.append((last, chance.choice(OF_ANY_FILE)))
    if not done or chance.random() < 0.2:
        done.append((chance.choice(kept), chance.choice(OF_ANY_FILE)))
    for path, change in done:
        change(path, chance)
    return ", ".join(f"{getattr(change, '__name__', change)} of {path.name}" for path, change in done)


def undo(root: Path) -> tuple[int, str]:
    """Exit status and every word, as the command has them."""
    said = root.parent / "said"
    with said.open("w") as file:
        out, err, sys.stdout, sys.stderr = sys.stdout, sys.stderr, file, file
        try:
            with executor.locked(Idle(str(root)), STATE) as store:
                status = take_back(store, None, "en")
        except Refused as refused:
            status = 1
            file.write(str(refused))
        finally:
            sys.stdout, sys.stderr = out, err
    return status, said.read_text()


def told_as_restored(words: str) -> set[str]:
    by_line = re.findall(r"^(?:glmdoctor: )?(/\S+) is as before$", words, re.MULTILINE)
    return {*by_line, *re.findall(r"^(/\S+)$", words, re.MULTILINE)}


def meet(root: Path, before: Tree, names: list[str], chance: random.Random, with_sums: bool) -> None:
    what = damage(root, names, chance)
    damaged, journal_there = tree(root), (root / JOURNAL[1:]).exists()
    status, words = undo(root)
    now = tree(root)
    changed = {path for path in {*damaged, *now} if damaged.get(path) != now.get(path)}
    assert changed <= set(names), (what, changed - set(names), words)
    untrue = {path for path in told_as_restored(words) if now.get(path) != before.get(path)}
    assert not untrue, (what, untrue, words)
    paths = [name for name in names if "/.glmdoctor-" not in name]
    if status == 0 and journal_there and with_sums:
        assert all(now.get(path) == before.get(path) for path in paths), (what, words)
    assert status in (0, 1) and (status == 0 or words), what
    assert "undone" in words or undo(root) == (0, "glmdoctor: there is nothing to take back\n"), (what, words)


def all_damages(pattern: Path, place: Path, before: Tree, names: list[str], kind: Callable[[bytes], bytes]) -> None:
    os.fsync = void  # type: ignore[assignment]  # no power is lost here
    rewrite(pattern, kind)
    for number in range(DAMAGES // 3 + 1):
        root = place / str(number) / "root"
        shutil.copytree(pattern, root, symlinks=True)
        meet(root, before, names, random.Random(f"{kind.__name__} {number}"), kind is not old)
        shutil.rmtree(root)


@pytest.mark.parametrize("kind", [finished, killed, old])
def test_no_damage_makes_undo_crash_hang_or_lie(tmp_path: Path, kind: Callable[[bytes], bytes]) -> None:
    before, names = repaired(tmp_path / "pattern")
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(PATIENCE)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            all_damages(tmp_path / "pattern", tmp_path / "each", before, names, kind)
            os._exit(0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_undamaged_journal_gives_everything_back(tmp_path: Path) -> None:
    """The attack's own ground: what it compares with is reached."""
    for kind in (finished, killed, old):
        root = tmp_path / kind.__name__ / "root"
        before, names = repaired(root)
        rewrite(root, kind)
        status, words = undo(root)
        assert (status, tree(root)) == (0, before), words
        assert told_as_restored(words) >= {name for name in names if "/.glmdoctor-" not in name}


def test_every_line_is_held_by_the_chain(tmp_path: Path) -> None:
    """No single bit of a whole journal can flip unseen; without its last line break the last line counts as cut."""
    repaired(tmp_path)
    content = (tmp_path / JOURNAL[1:]).read_bytes()
    whole = [record for record, _ in chain.records(content, RUN)]
    chance = random.Random(0)
    for place in chance.sample(range(len(content) - 1), 400):
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        try:
            assert [record for record, _ in chain.records(bytes(damaged), RUN)] == whole, place
        except chain.Broken:
            continue


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.chmod(0o666)], ids=["gone", "open to others"])
def test_a_journal_that_is_gone_or_was_open_to_others_is_said_once(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """It was passed over: "there is nothing to take back", exit 0, with the repair in place."""
    root = tmp_path / "root"
    repaired(root)
    after = tree(root)
    change(root / JOURNAL[1:])
    status, words = undo(root)
    assert status == 1 and f"{JOURNAL} cannot be followed" in words and ".damaged" in words, words
    assert tree(root) == after and undo(root) == (0, "glmdoctor: there is nothing to take back\n")


class Pip(Idle):
    """A double: an interpreter that has numpy, and installs nothing."""

    def run(self, argv: object, timeout: float = 0) -> str:
        return '[{"name": "numpy", "version": "2.0.0"}]'


def test_a_journal_that_lost_whole_records_is_not_followed(tmp_path: Path) -> None:
    """Cut between two records it looks like one of a killed run, and of a package step no file tells."""
    pattern = tmp_path / "pattern"
    machine(pattern)
    disk = Pip(str(pattern))
    pinned = InstallPackages(sys.executable, ("numpy==1.26.4",), ("numpy==2.0.0",))
    plans = [Plan(name, text("Mend"), (), (action,)) for name, action in (("link", ACTIONS[0]), ("packages", pinned))]
    with executor.locked(disk, STATE) as store, Treatment(store, RUN) as treatment:
        for prepared in prepare(plans, disk, RUN):
            assert treatment.carry_out(prepared, lambda p: True, lambda p: True).outcome is Outcome.REPAIRED
    lines = (pattern / JOURNAL[1:]).read_bytes().split(b"\n\n")
    assert len(lines) == 8  # run, two plans, each with intent and done, and the end
    for kept in range(1, len(lines)):
        root = tmp_path / str(kept) / "root"
        shutil.copytree(pattern, root, symlinks=True)
        (root / JOURNAL[1:]).write_bytes(b"\n\n".join(lines[:kept]) + b"\n")
        status, words = undo(root)
        assert status == 1 and f"{JOURNAL} cannot be followed" in words, (kept, words)
        assert tree(root) == tree(pattern) and not told_as_restored(words)
