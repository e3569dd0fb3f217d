"""CUDA_PATH in the shell's start file: one marked block, taken back exactly; strays are named by file and line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest

from glmdoctor.remedies import proxy, shell

VARIABLES = {"CUDA_PATH": "/opt/a 'b'", "CUDA_HOME": "/opt/cuda"}


@pytest.mark.parametrize(
    "environ, path",
    [
        ({"SHELL": "/bin/bash"}, "/h/.bashrc"),
        ({"SHELL": "/usr/bin/zsh"}, "/h/.zshrc"),
        ({"SHELL": "/usr/bin/zsh", "ZDOTDIR": "/h/z"}, "/h/z/.zshrc"),
        ({"SHELL": "/usr/bin/fish"}, "/h/.config/fish/conf.d/glmdoctor.fish"),
        ({"SHELL": "/bin/dash"}, "/h/.profile"),
        ({}, "/h/.profile"),
    ],
)
def test_each_shell_has_its_file(environ: dict[str, str], path: str) -> None:
    assert shell.start_file(environ, "/h") == path


@pytest.mark.parametrize("former", ["", "alias a=b", "alias a=b\n", "# >>> glmdoctor >>>\nexport X=1\n"])
def test_the_block_is_replaced_and_never_doubled(former: str) -> None:
    once = shell.rewritten(former, shell.block("/h/.bashrc", {"CUDA_PATH": "/old"}))
    twice = shell.rewritten(once + "alias c=d\n", shell.block("/h/.bashrc", VARIABLES))
    assert once.startswith(former) and twice.startswith(former) and twice.endswith("alias c=d\n")
    assert twice.count(shell.END) == 1 and "/old" not in twice
    assert shell.rewritten(twice, shell.block("/h/.bashrc", VARIABLES)) == twice


@pytest.mark.parametrize("program, path", [("sh", "/h/.profile"), ("bash", "/h/.bashrc"), ("fish", "/h/a.fish")])
def test_shells_read_the_values(program: str, path: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    script = shell.block(path, VARIABLES) + 'echo "$CUDA_PATH:$CUDA_HOME"\n'
    done = subprocess.run([program, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "/opt/a 'b':/opt/cuda\n"


def private(root: Any) -> None:
    """A machine on which fix leaves a private CUDA_PATH; its start file is a link into a folder of settings."""
    root.driver(root.MODULE)
    root.toolkit(names=("cudart",))
    for name in ("cudart", "nvrtc", "cublasLt"):
        root.library(f"/opt/cuda/lib64/lib{name}.so.12", f"lib{name}.so.12")
    root.file("/opt/cuda/version.json", '{"cuda": {"version": "12.4.0"}}')
    root.refresh_linker_cache()
    root.file(f"{root.HOME}/dotfiles/bashrc", "alias a=b", mode=0o600)
    root.link(f"{root.HOME}/.bashrc", "dotfiles/bashrc")
    root.environ["SHELL"] = "/bin/bash"


def test_the_start_file_is_written_when_asked_and_given_back(root: Any) -> None:
    private(root)
    before = root.tree()
    assert root.glmdoctor("fix", "--symlink", "--yes").returncode == 0
    place = root.place(f"{root.HOME}/dotfiles/bashrc")
    assert place.read_text() == "alias a=b", "nobody asked for it"
    done = root.glmdoctor("fix", "--symlink", "--start-file", "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads(done.stdout)["plans"][-1]
    assert (plan["id"], plan["outcome"]) == ("shell-start-file", "repaired")
    assert place.read_text() == f"alias a=b\n{shell.BEGIN}\nexport CUDA_PATH={root.DATA}/cuda\n{shell.END}\n"
    assert (
        place.stat().st_mode & 0o777 == 0o600 and os.readlink(root.place(f"{root.HOME}/.bashrc")) == "dotfiles/bashrc"
    )
    again = root.glmdoctor("fix", "--symlink", "--start-file", "--yes", "--json")
    assert not any(plan["actions"] for plan in json.loads(again.stdout)["plans"])
    assert root.glmdoctor("undo").returncode == root.glmdoctor("undo").returncode == 0
    assert root.tree() == before


def test_a_home_whose_name_is_no_utf_8_is_written_as_the_bytes_it_is_and_given_back(root: Any) -> None:
    private(root)
    home = os.fsdecode(b"/home/caf\xe9")
    root.environ["HOME"] = home
    root.place(f"{home}/.bashrc").write_bytes(b"# caf\xe9\n")  # which a rewriting must keep, or leave alone
    root.place(f"{home}/.profile").write_text("")
    before = root.tree()
    for shell_name, file in (("bash", ".bashrc"), ("sh", ".profile")):
        root.environ["SHELL"] = f"/bin/{shell_name}"
        done = root.glmdoctor("fix", "--symlink", "--start-file", "--yes", "--json")
        assert "Traceback" not in done.stderr and "internal" not in done.stderr, done.stderr
        content = root.place(f"{home}/{file}").read_bytes()
        if shell_name == "bash":
            assert content == b"# caf\xe9\n", "text that is no UTF-8 is not ours to rewrite"
    assert b"/home/caf\xe9/.local/share/glmdoctor/cuda" in content
    shown = subprocess.run(["sh", "-c", content + b"printf %s \"$CUDA_PATH\""], capture_output=True, check=True)
    assert shown.stdout == os.fsencode(f"{home}/.local/share/glmdoctor/cuda")
    while "nothing to take back" not in (undone := root.glmdoctor("undo")).stderr:
        assert undone.returncode == 0, undone.stderr
    assert {path: what for path, what in root.tree().items() if "/.local" not in path} == before


def test_undo_leaves_what_the_user_wrote_since(root: Any) -> None:
    private(root)
    done = json.loads(root.glmdoctor("fix", "--symlink", "--start-file", "--yes", "--json").stdout)
    place = root.place(f"{root.HOME}/dotfiles/bashrc")
    place.write_text(place.read_text() + "alias mine=1\n")
    undone = root.glmdoctor("undo", done["run"])
    assert undone.returncode == 1 and "dotfiles/bashrc" in undone.stderr
    assert place.read_text().endswith("alias mine=1\n")


def test_the_line_that_brings_a_stray_folder_is_named() -> None:
    lines = "# export LD_LIBRARY_PATH=/opt/old\nalias a=b\n  export LD_LIBRARY_PATH=$HOME/old:/opt/mine\n"
    others = "export LD_LIBRARY_PATH=/opt/older\nexport OTHER=/opt/old\n"
    files = {"/h/.bashrc": lines, "/etc/profile.d/cuda.sh": others}
    named = shell.setting_lines(files, "LD_LIBRARY_PATH", ("/h/old", "/opt/old"), "/h")
    assert named == ["/h/.bashrc:3: export LD_LIBRARY_PATH=$HOME/old:/opt/mine"]


def test_fix_names_the_line_and_leaves_the_file(root: Any) -> None:
    root.driver(root.MODULE)
    root.toolkit()
    root.refresh_linker_cache()
    root.driver(root.OTHER, module=root.MODULE, folder="/opt/old-driver")
    root.file(f"{root.HOME}/.bashrc", "export LD_LIBRARY_PATH=/opt/old-driver:/opt/mine\n")
    root.environ["LD_LIBRARY_PATH"] = "/opt/old-driver:/opt/mine"
    before = root.tree()
    done = root.glmdoctor("fix", "--only", "driver-library-mismatch", "--yes")
    assert f"{root.HOME}/.bashrc:1: export LD_LIBRARY_PATH=/opt/old-driver:/opt/mine" in done.stdout, done.stdout
    assert root.tree() == before


def test_no_proxy_is_kept_for_every_shell_with_what_was_there_and_given_back(root: Any) -> None:
    root.environ |= {"SHELL": "/bin/bash", "http_proxy": "http://proxy.example:3128", "no_proxy": "10.0.0.0/8"}
    before = root.tree()
    done = root.glmdoctor("fix", "--only", "localhost-through-proxy", "--start-file", "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    value = "10.0.0.0/8,127.0.0.1,localhost,::1"
    written = root.place(f"{root.HOME}/.bashrc").read_text()
    assert written == f"{shell.BEGIN}\nexport no_proxy={value}\nexport NO_PROXY={value}\n{shell.END}\n"
    shown = root.glmdoctor("run", "--", "printenv", "no_proxy")
    assert shown.stdout.strip() == value, shown.stderr
    assert root.glmdoctor("undo").returncode == 0 and root.tree() == before


def test_nothing_is_exempted_twice() -> None:
    assert proxy.exempted({"no_proxy": "10.0.0.0/8, ::1"}, ("localhost",))["NO_PROXY"] == "10.0.0.0/8,::1,localhost"
    assert proxy.exempted({"no_proxy": "localhost"}, ()) == {}
