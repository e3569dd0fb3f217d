"""The README's commands, run as printed and in order in a clone; its session, run anew; the options that it names.

A fenced command has to be classified here: a new one fails until it is.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What a command of a plain fence is given on standard input, or the reason why it is not run here.
RUN = {"bash scripts/start.sh": "What does 'nvcc not found' mean?", ". .venv/bin/activate": ""}
# In a shell of its own while the others ask it.
SERVER, ASKED = "glmcore serve --port 8000", "curl -s http://127.0.0.1:8000/"
NOT_RUN = {"bash scripts/test.sh": "it runs this very suite"}
NEEDS = {"/models/chatglm2-6b-int4", "/models/chatglm3-6b"}  # 6B checkpoints, for which the demo model stands here
DEMO = ROOT / "glmcore" / "demo" / "model"


def fences(language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(README) if kind == language]


def plain_commands() -> list[str]:
    lines = (line for text in fences("") if not text.startswith("$ ") for line in text.splitlines())
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def ids(text: str) -> list[str]:
    """Of a session: findings by check and problem, how many checks there are and failed, verdicts, what was mended."""
    telling = (
        r"\[([\w.-]+(?:, [\w-]+)?)\]|^(\d+ checks): |(\d+ failed)|^(broken|healthy): |^\d\. (repaired)|(/\S+\.so\.1)$"
    )
    return ["".join(found) for found in re.findall(telling, text, re.MULTILINE)]


def outside_environment(**more: str) -> dict[str, str]:
    """Of a shell in which no environment is active and the programs are not on PATH."""
    clean = [folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "glmdoctor").exists()]
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {**kept, "PATH": os.pathsep.join(clean), **more}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files as they are, with a .venv that borrows the packages of the environment of the tests.

    A stand-in for pip's part alone, which takes a network and minutes; start.sh takes it for done by its stamp.
    """
    folder = tmp_path_factory.mktemp("clone") / "repository"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    environment = folder / ".venv"
    venv.create(environment, with_pip=False, symlinks=True)
    [site] = environment.glob("lib/python3*/site-packages")
    lent = [entry for entry in sys.path if "-packages" in entry]
    (site / "borrowed.pth").write_text("\n".join([str(folder), *lent]) + "\n")
    for program in ("glmdoctor", "glmcore"):
        script = f"#!{environment}/bin/python\nfrom {program}.cli import main\nmain()\n"
        (environment / "bin" / program).write_text(script)
        (environment / "bin" / program).chmod(0o755)
    decides = "setup.cfg pyproject.toml scripts/choose_torch.py glmdoctor/readings/torch_builds.py"
    stamp = f"cat {decides} | sha256sum >.venv/.installed-serve"
    subprocess.run(stamp, shell=True, cwd=folder, check=True)
    return folder


def test_every_command_is_classified() -> None:
    asked = [command for command in plain_commands() if command.startswith(ASKED)]
    assert asked and sorted(plain_commands()) == sorted([*RUN, *NOT_RUN, SERVER, *asked])


def test_the_commands_run_as_printed_and_in_order(clone: Path) -> None:
    """In one shell without the programs on PATH; at its end both are there, and the server's packages with them."""
    lines = ["set -e"]
    for command in filter(RUN.__contains__, plain_commands()):
        lines.append(f"{command} <<'END'\n{RUN[command]}\nEND" if RUN[command] else command)
    lines += ["command -v glmdoctor glmcore", "glmcore serve --help >/dev/null && echo served"]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], cwd=clone, capture_output=True, text=True, timeout=200,
                          env=outside_environment(PIP_NO_INDEX="1"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    *answer, doctor, core, served = done.stdout.splitlines()
    assert "".join(answer).strip() and served == "served"
    assert [doctor, core] == [f"{clone}/.venv/bin/glmdoctor", f"{clone}/.venv/bin/glmcore"]
    assert f". {clone}/.venv/bin/activate" in done.stderr


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_server_answers_as_printed(clone: Path) -> None:
    """At a port that is free here in place of the printed one; Ctrl-C ends it."""
    if shutil.which("curl") is None:
        pytest.skip("curl is needed")
    port, environment = f"{free_port()}", outside_environment()
    begin = f". .venv/bin/activate && exec {SERVER.replace('8000', port)}"
    with subprocess.Popen(["bash", "-c", begin], cwd=clone, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            serving = f"Serving on http://127.0.0.1:{port}; Ctrl-C ends it.\n"
            assert any(line == serving for line in server.stdout)
            for command in plain_commands():
                if command.startswith(ASKED):
                    done = subprocess.run(["bash", "-c", command.replace(":8000/", f":{port}/")], capture_output=True,
                                          cwd=clone, env=environment, timeout=60)  # fmt: skip
                    answer = json.loads(done.stdout)["choices"][0]["message"]["content"]
                    assert done.returncode == 0 and "gcc" in answer
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=30) == 0
        finally:
            server.kill()


def test_the_session_is_as_a_run_gives_it() -> None:
    """Timings, sizes and names of this machine apart."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("the session's machine is made by root on Linux")
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        session = importlib.import_module("readme_session")
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    printed = session.BLOCK.search(README).group(1)
    try:
        made = session.block(session.outputs())
    except (RuntimeError, FileNotFoundError) as error:
        pytest.skip(f"no machine can be made here: {error}")
    commands = [[line for line in text.splitlines() if line.startswith("$ ")] for text in (printed, made)]
    assert commands[0] == commands[1]
    assert ids(printed) == ids(made) and len(ids(made)) > 10, made
    told = [text.partition("$ glmcore chat")[2].partition("$ glmdoctor undo")[0] for text in (printed, made)]
    assert told[0] == told[1]


def test_the_programs_run_as_printed() -> None:
    """Each in its order, with the demo model in place of 6B checkpoints that are not here."""
    code = "\n".join(fences("python"))
    for path in NEEDS:
        assert path in code
        code = code.replace(path, str(DEMO))
    assert "/models/" not in code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "decode_tokens_per_s" in done.stdout


def test_every_command_and_option_that_is_named_exists() -> None:
    named = re.findall(r"`(glmdoctor|glmcore) ([a-z]+)([^`]*)`", README)
    assert len(named) > 15
    wrong = []
    for program, name, rest in named:
        command = getattr(importlib.import_module(f"{program}.cli.{name}"), {"list": "list_catalogue"}.get(name, name))
        assert isinstance(command, click.Command)
        if isinstance(command, click.Group):
            command = command.commands[rest.split()[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        own = rest.partition(" -- ")[0]
        wrong += [f"{program} {name} {option}" for option in re.findall(r"--[a-z][\w-]*", own) if option not in options]
    assert not wrong


# Of the table of commands, in this order: those that need neither root, a network nor a terminal, and what they print.
TABLE = [
    ("glmdoctor explain log.txt", "libcuda"),
    ("glmdoctor list", "python.packages"),
    ("glmdoctor snapshot -o machine.json", ""),
    ("glmdoctor check --snapshot machine.json", "checks: "),
    ("glmcore info MODEL", "v2"),
    ("glmcore plan MODEL --device cuda:0=8GiB --device cpu=16GiB", "cuda:0"),
    ("glmcore quantize MODEL --quant int4 -o DIR", ""),
    ("glmcore bench DIR --generate 4 --prompt 16", "decode"),
    ("glmcore chat --model DIR --once hello --max-new-tokens 4", ""),
]


def test_the_commands_of_the_table_run(tmp_path: Path) -> None:
    """With the demo model as MODEL; DIR is what `quantize` wrote."""
    (tmp_path / "log.txt").write_text(
        "OSError: libcuda.so.1: cannot open shared object file: No such file or directory\n"
    )
    for command, words in TABLE:
        program, name, *rest = command.split()
        assert f"`{program} {name}" in README
        given = [{"MODEL": str(DEMO), "DIR": "made"}.get(word, word) for word in rest]
        done = subprocess.run([sys.executable, "-m", program, name, *given], cwd=tmp_path, text=True,
                              capture_output=True, timeout=99, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        # 1: the machine that runs the tests, or the log, has something to say.
        assert done.returncode in ((0, 1) if program == "glmdoctor" else (0,)), (command, done.stderr)
        assert words in done.stdout, (command, done.stdout)
