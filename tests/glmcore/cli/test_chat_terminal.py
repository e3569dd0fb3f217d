"""The interactive chat in a real pseudo-terminal, and the chat in pipes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from safetensors.torch import load_file, save_file

GOLDEN = Path(os.environ.get("GLM_GOLDEN", Path(__file__).resolve().parents[4] / "shared" / "golden"))
GLMCORE = [sys.executable, "-m", "glmcore"]
PROMPT = "you> "
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden data at {GOLDEN}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the real vocabulary: its answers are gibberish in many scripts, and long."""
    folder = tmp_path_factory.mktemp("tiny")
    for source in (*(GOLDEN / "v2" / "e2e").iterdir(), *(GOLDEN / "v2" / "tokenizer").iterdir()):
        shutil.copy(source, folder / source.name)
    return folder


@pytest.fixture(scope="module")
def endless(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but greedy answers never end: the end token's row is zero, and others are always above that."""
    folder = tmp_path_factory.mktemp("endless")
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.output_layer.weight"][2] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def chat(tiny: Path, tmp_path: Path):
    """A chat on a terminal of 80 columns, ended with the test."""
    arguments = ["-m", "glmcore", "chat", "--model", str(tiny), "--temperature", "0", "--max-new-tokens", "24"]
    environment = {**os.environ, "LANG": "C.UTF-8", "HOME": str(tmp_path), "TERM": "xterm"}
    child = pexpect.spawn(
        sys.executable, arguments, env=environment, encoding="utf-8", timeout=60, dimensions=(24, 80), cwd=str(tmp_path)
    )
    child.expect_exact("Type a question, or /help.")
    child.expect_exact(PROMPT)
    yield child
    child.close(force=True)


def say(chat: pexpect.spawn, line: str) -> str:
    """Send a line and return what came before the next prompt."""
    chat.sendline(line)
    chat.expect_exact(PROMPT)
    return chat.before


def test_commands_and_turns(chat: pexpect.spawn, tmp_path: Path) -> None:
    assert "/system TEXT" in say(chat, "/help")
    assert "no answer yet" in say(chat, "/stats")
    first = say(chat, "你好 👋")
    assert "glm> " in first and "\ufffd" not in first
    stats = say(chat, "/stats")
    assert "prefill" in stats and "decode" in stats and "time to first token" in stats
    say(chat, "继续")
    assert "from the cache" in say(chat, "/stats")
    say(chat, f"/save {tmp_path / 'talk.json'}")
    saved = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert [message["role"] for message in saved] == ["user", "assistant", "user", "assistant"]
    assert saved[0]["content"] == "你好 👋" and saved[1]["content"] in first.replace("\r", "")
    assert "(system: be brief)" in say(chat, "/system be brief")
    assert "empty" in say(chat, "/clear")
    assert "There is no /nonsense" in say(chat, "/nonsense")
    assert "error[write-failed]" in say(chat, "/save /nonexistent/talk.json")
    chat.sendline("/exit")
    chat.expect(pexpect.EOF)
    chat.close()
    assert chat.exitstatus == 0


def test_end_of_input_leaves(chat: pexpect.spawn) -> None:
    chat.sendeof()
    chat.expect(pexpect.EOF)
    chat.close()
    assert chat.exitstatus == 0


def test_interrupt_stops_the_answer_and_keeps_the_chat(endless: Path) -> None:
    arguments = ["-m", "glmcore", "chat", "--model", str(endless), "--temperature", "0", "--max-new-tokens", "30000"]
    chat = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=60, env={**os.environ, "LANG": "C.UTF-8"})
    try:
        chat.expect_exact(PROMPT)
        chat.sendline("What is 2+2?")
        chat.expect_exact("glm> ")
        chat.expect(".{20}")
        chat.sendintr()
        chat.expect_exact("(stopped)")
        chat.expect_exact(PROMPT)
        chat.sendintr()
        chat.expect_exact("Ctrl-D or /exit leaves")
        chat.expect_exact(PROMPT)
        assert "tokens/s" in say(chat, "/stats")
    finally:
        chat.close(force=True)


def test_piped_text_is_answered_once(tiny: Path) -> None:
    command = [*GLMCORE, "chat", "--model", str(tiny), "--temperature", "0", "--max-new-tokens", "8"]
    settings = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 120}
    piped = subprocess.run(command, input="你好", **settings)
    once = subprocess.run([*command, "--once", "你好"], stdin=subprocess.DEVNULL, **settings)
    assert piped.returncode == once.returncode == 0, piped.stderr + once.stderr
    assert piped.stdout == once.stdout and piped.stdout.strip()
    assert piped.stderr == ""


def test_same_seed_same_answer(tiny: Path) -> None:
    command = [*GLMCORE, "chat", "--model", str(tiny), "--once", "hello", "--max-new-tokens", "12", "--seed"]
    answers = {subprocess.run([*command, seed], capture_output=True, timeout=120).stdout for seed in ("7", "7", "8")}
    assert len(answers) == 2


def test_closed_pipe_is_quiet(endless: Path) -> None:
    command = [
        *GLMCORE,
        "chat",
        "--model",
        str(endless),
        "--once",
        "hello",
        "--temperature",
        "0",
        "--max-new-tokens",
        "20000",
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stderr
    child.stdout.read(10)
    child.stdout.close()
    child.wait(timeout=120)
    assert child.returncode == 141 and child.stderr.read() == b""


def test_interrupt_of_a_single_answer_is_one_line(endless: Path) -> None:
    command = [*GLMCORE, "chat", "--model", str(endless), "--once", "hello", "--temperature", "0"]
    with subprocess.Popen(
        [*command, "--max-new-tokens", "30000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.read(10)
        child.send_signal(signal.SIGINT)
        try:
            _, complaint = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130 and complaint.strip() == b"glmcore: interrupted"


def test_output_that_cannot_show_chinese_has_marks(tiny: Path) -> None:
    command = [*GLMCORE, "chat", "--model", str(tiny), "--once", "你好", "--temperature", "0", "--max-new-tokens", "8"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"?" in done.stdout


@pytest.mark.parametrize(
    "arguments, status, code",
    [
        (["chat", "--once", "x", "--model", "/nonexistent"], 1, "model-path"),
        (["chat", "--once", "x", "--model", "/etc/hostname"], 1, "model-path"),
        (["chat", "--once", ""], 2, "usage"),
        (["chat", "--once", "x", "--max-new-tokens", "0"], 2, "usage"),
        (["chat", "--once", "x", "--plan", "/nonexistent", "--model", "TINY"], 1, "plan-invalid"),
        (["chat", "--once", "x", "--temperature", "-1", "--model", "TINY"], 2, "usage"),
        (["chat", "--once", "x", "--kernel-file", "/etc/hostname", "--model", "TINY"], 1, "kernel-file"),
        (["chat", "--once", "x " * 40000, "--model", "TINY"], 1, "context-full"),
        (["nonsense"], 2, "usage"),
        (["chat", "--quant", "int3"], 2, "usage"),
    ],
)
def test_bad_input_is_one_line(tiny: Path, arguments: list[str], status: int, code: str) -> None:
    command = [*GLMCORE, *(str(tiny) if argument == "TINY" else argument for argument in arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(f"glmcore: error[{code}]: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
