"""The interactive chat in a real pseudo-terminal, and the chat in pipes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from golden_cases import REST, needs_rest
from safetensors.torch import load_file, save_file

GLMCORE = [sys.executable, "-m", "glmcore"]
PROMPT = "you> "
pytestmark = needs_rest


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the real vocabulary: its answers are gibberish in many scripts, and long."""
    folder = tmp_path_factory.mktemp("tiny")
    for source in (*(REST / "v2" / "e2e").iterdir(), *(REST / "v2" / "tokenizer").iterdir()):
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


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "LANG": "C.UTF-8", "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "TERM": "xterm"}


def begin(model: Path, home: Path, *more: str, encoding: str = "utf-8", **variables: str) -> pexpect.spawn:
    """A chat on a terminal of 80 columns."""
    arguments = ["-m", "glmcore", "chat", "--model", str(model), "--temperature", "0", "--max-new-tokens", "24", *more]
    child = pexpect.spawn(
        sys.executable, arguments, env={**environment(home), **variables}, encoding=encoding, timeout=60,
        dimensions=(24, 80), codec_errors="replace", cwd=str(home),
    )  # fmt: skip
    child.delaybeforesend = None
    child.logfile_read = io.StringIO()
    child.expect_exact("Type a question, or /help.")
    child.expect_exact(PROMPT)
    return child


@pytest.fixture
def chat(tiny: Path, tmp_path: Path):
    """A chat that ends with the test."""
    child = begin(tiny, tmp_path)
    yield child
    child.close(force=True)


def saved(chat: pexpect.spawn, folder: Path) -> list[dict[str, str]]:
    say(chat, "/save talk.json")
    return json.loads((folder / "talk.json").read_text(encoding="utf-8"))


def questions(chat: pexpect.spawn, folder: Path) -> list[str]:
    return [message["content"] for message in saved(chat, folder) if message["role"] == "user"]


def say(chat: pexpect.spawn, line: str) -> str:
    """Send a line and return what came before the next prompt."""
    chat.sendline(line)
    chat.expect_exact(PROMPT)
    return chat.before


def paste(chat: pexpect.spawn, text: str) -> None:
    """As a terminal does: between brackets where the program has asked for them, else as if it were typed."""
    shown = chat.logfile_read.getvalue()
    if shown.rfind("\x1b[?2004h") > shown.rfind("\x1b[?2004l"):
        chat.send(f"\x1b[200~{text}\x1b[201~")
    else:
        chat.send(text.replace("\n", "\r"))


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
    assert saved[0]["content"] == "你好 👋" and saved[1]["content"]
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


TRACEBACK = """\
Traceback (most recent call last):
  File "/usr/lib/python3/x.py", line 1, in <module>
    import cpm_kernels
  File "/usr/lib/python3/y.py", line 2
OSError: libcuda.so.1: cannot open shared object file"""


def test_a_paste_is_one_message(chat: pexpect.spawn, tmp_path: Path) -> None:
    paste(chat, TRACEBACK)
    assert say(chat, "").count("glm> ") == 1
    assert questions(chat, tmp_path) == [TRACEBACK]


def test_only_known_commands_are_commands(chat: pexpect.spawn, tmp_path: Path) -> None:
    path = "/usr/lib/x86_64-linux-gnu/libcuda.so.1: file too short"
    assert "glm> " in say(chat, path) and "glm> " in say(chat, "/etc/hosts") and "glm> " in say(chat, "/home it")
    assert "glm> " not in say(chat, "/nonsense")
    assert "Did you mean /regen?" in say(chat, "/regenn") and "Did you mean /save?" in say(chat, "/saved it")
    paste(chat, "/clear\nis a command")
    say(chat, "")
    assert questions(chat, tmp_path) == [path, "/etc/hosts", "/home it", "/clear\nis a command"]


def test_three_quotes_begin_and_end_a_long_message(chat: pexpect.spawn, tmp_path: Path) -> None:
    for line in ('"""What does', "/help", "", "do?"):
        chat.sendline(line)
        chat.expect_exact("...> ")
    assert "glm> " in say(chat, 'say it"""')
    assert "glm> " in say(chat, '"""/etc"""')
    chat.sendline('"""never mind')
    chat.expect_exact("...> ")
    chat.sendintr()
    chat.expect_exact(PROMPT)
    chat.sendline('"""nor this')
    chat.expect_exact("...> ")
    chat.sendeof()
    chat.expect_exact(PROMPT)
    assert questions(chat, tmp_path) == ["What does\n/help\n\ndo?\nsay it", "/etc"]


def test_a_backslash_goes_on_with_the_message(chat: pexpect.spawn, tmp_path: Path) -> None:
    chat.sendline("What does\\")
    chat.expect_exact("...> ")
    chat.sendline("this do\\")
    chat.expect_exact("...> ")
    assert "glm> " in say(chat, "here?")
    assert questions(chat, tmp_path) == ["What does\nthis do\nhere?"]


def test_settings_undo_and_another_answer(chat: pexpect.spawn, tmp_path: Path) -> None:
    shown = say(chat, "/set")
    assert "temperature        0 " in shown and "max_new_tokens     24" in shown and "seed               none" in shown
    assert "error[usage]: nothing has been asked yet" in say(chat, "/undo")
    assert "nothing has been asked yet" in say(chat, "/regen")
    for wrong, complaint in (
        ("temprature 1", "did you mean temperature?"), ("top_k 1.5", "top_k is a whole number, not 1.5"),
        ("temperature -1", "makes no sense"), ("temperature nan", "is a number, not nan"), ("top_p", "needs a value"),
        ("max_new_tokens 0", "above 0"), ("seed 99999999999999999999", "64 bits"), ("colour red", "temperature, top_p"),
    ):  # fmt: skip
        assert complaint in say(chat, f"/set {wrong}").replace("\r\n", ""), wrong
    assert "temperature        5 " in say(chat, "/set temperature=5") and "/undo" in say(chat, "/")
    assert max(map(len, say(chat, "/set").splitlines())) < 80
    assert "temperature" not in say(chat, "/set max_new_tokens 4") and "temperature        5 " in say(chat, "/set")
    say(chat, "first")
    say(chat, "second")
    [_, first, _, second] = [message["content"] for message in saved(chat, tmp_path)]
    again = say(chat, "/regen")
    assert "glm> " in again and "(cut at 4 tokens: /set max_new_tokens N allows more)" in again
    again = [message["content"] for message in saved(chat, tmp_path)]
    assert again[:3] == ["first", first, "second"] and again[3] not in ("", second)
    assert "(taken back: second)" in say(chat, "/undo") and len(saved(chat, tmp_path)) == 2
    assert "temperature        0.8 " in say(chat, "/set temperature default").replace("0.95", "0.8 ")


def test_files_and_conversations(chat: pexpect.spawn, tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("显存不够\n```\ncode\n```\n", encoding="gb18030")
    (tmp_path / "kernel.so").write_bytes(b"\x7fELF\2\0")
    (tmp_path / "talk.json").write_text("[1]")
    os.mkfifo(tmp_path / "pipe")
    for wrong, complaint in (
        ("/file kernel.so", "is no text"), ("/file", "has to be named"), ("/file nowhere", "read: No such file"),
        ("/file pipe", "not a regular file"), ("/load pipe", "not a regular file"),
        ("/load talk.json", "must be a dict"), ("/load my notes.txt", "is no JSON"),
        ("/file ~nobody-of-this-name/x", "error[usage]"),
    ):  # fmt: skip
        assert complaint in say(chat, wrong).replace("\r\n", ""), wrong
    assert "my notes.txt: " in say(chat, "/file my notes.txt")
    assert "(taken back: my notes.txt)" in say(chat, "/undo")
    assert saved(chat, tmp_path) == [] and "(loaded 0 messages" in say(chat, "/load talk.json")
    say(chat, "/file 'my notes.txt'")
    before = say(chat, "/tokens")
    say(chat, "What is it?")
    say(chat, "And then?")
    fenced = "my notes.txt:\n````\n显存不够\n```\ncode\n```\n````\n\nWhat is it?"
    assert questions(chat, tmp_path) == [fenced, "And then?"]
    say(chat, "/system be brief")
    kept = saved(chat, tmp_path)
    assert say(chat, "/tokens") != before
    say(chat, "/clear")
    say(chat, "/system")
    assert f"(loaded {len(kept)} messages" in say(chat, "/load talk.json")
    assert saved(chat, tmp_path) == kept and "(taken back: And then?)" in say(chat, "/undo")


def test_tab_completes_and_control_r_searches(chat: pexpect.spawn, tmp_path: Path) -> None:
    (tmp_path / "some folder").mkdir()
    (tmp_path / "some folder" / "a file.txt").write_text("hello")
    assert "a file.txt: " in say(chat, "/fi\tso\ta\t")
    assert "temperature        3 " in say(chat, "/se\ttemp\t3")
    say(chat, "what is gcc?")
    say(chat, "something else")
    chat.send("\x12gcc\r")
    chat.expect_exact("reverse-i-search")
    chat.expect_exact("glm> ")
    chat.expect_exact(PROMPT)
    assert questions(chat, tmp_path)[-1] == "what is gcc?" and len(questions(chat, tmp_path)) == 3


def test_a_terminal_that_cannot_draw_gets_the_text(tiny: Path, tmp_path: Path) -> None:
    child = begin(tiny, tmp_path, TERM="dumb")
    try:
        shown = say(child, "hello").replace("\r", "")
        assert f"glm> {saved(child, tmp_path)[1]['content']}\n" in shown
    finally:
        child.close(force=True)


def test_keys_typed_during_an_answer_wait_unseen(endless: Path, tmp_path: Path) -> None:
    child = begin(endless, tmp_path, "--max-new-tokens", "400")
    try:
        child.sendline("hello")
        child.expect_exact("glm> ")
        child.sendline("/tokens")
        child.expect_exact(PROMPT)
        assert "/tokens" not in child.before
        child.expect_exact("of a context of")
        child.expect_exact(PROMPT)
        assert len(questions(child, tmp_path)) == 1
    finally:
        child.close(force=True)


def test_history_lasts_between_runs_and_is_private(chat: pexpect.spawn, tiny: Path, tmp_path: Path) -> None:
    say(chat, "first 你好")
    paste(chat, TRACEBACK)
    say(chat, "")
    [file] = (tmp_path / "state").rglob("chat_history")
    assert file.stat().st_mode & 0o777 == 0o600
    again = begin(tiny, tmp_path)
    try:
        for keys in ("\x1b[A", "\x1b[A\x1b[A\x1b[A"):  # the arrow up: the last one; the first, behind the one just sent
            again.send(keys)
            say(again, "")
        assert questions(again, tmp_path) == [TRACEBACK, "first 你好"]
    finally:
        again.close(force=True)


def test_the_conversation_survives_what_fails(tiny: Path, tmp_path: Path) -> None:
    chat = begin(tiny, tmp_path, "--system", "be ÿ brief", encoding="latin-1")  # bytes that are no UTF-8
    try:
        assert "glm> " in say(chat, "hello")
        for command, complaint in (
            ("/save ~nobody-of-this-name/x", "error[usage]"), ("/save", "error[usage]"),
            ("/save /", "error[write-failed]"),
            ("/save /dev/full", "error[write-failed]"), ("/save /nonexistent/x", "error[write-failed]"),
        ):  # fmt: skip
            assert complaint in say(chat, command), command
        assert Path("/dev/full").is_char_device()
        assert [message["role"] for message in saved(chat, tmp_path)] == ["system", "user", "assistant"]
        assert saved(chat, tmp_path)[0]["content"] == "be \udcff brief"
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["talk.json"]
    finally:
        chat.close(force=True)


def test_bytes_that_are_no_text_do_not_end_the_chat(tiny: Path, tmp_path: Path) -> None:
    """Where Python takes such bytes for an error, as it does in every locale but C and POSIX."""
    child = begin(tiny, tmp_path, PYTHONIOENCODING="utf-8:strict")
    try:
        os.write(child.child_fd, b"caf\xe9 \x00 \xed\xa0\x80\r")
        child.expect_exact(PROMPT)
        assert "glm> " in say(child, "hello")
    finally:
        child.close(force=True)


def test_interrupt_stops_the_answer_and_keeps_the_chat(endless: Path, tmp_path: Path) -> None:
    arguments = ["-m", "glmcore", "chat", "--model", str(endless), "--temperature", "0", "--max-new-tokens", "30000"]
    chat = pexpect.spawn(
        sys.executable, arguments, encoding="utf-8", timeout=60, env=environment(tmp_path), cwd=str(tmp_path)
    )
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
        [question, answer] = saved(chat, tmp_path)
        assert question["content"] == "What is 2+2?" and len(answer["content"]) >= 20
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
