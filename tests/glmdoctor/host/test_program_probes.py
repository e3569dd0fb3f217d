"""Killed programs, bitsandbytes, C++ runtimes, hub settings and own code, on fake roots and recorded machines."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor.host.facts import Checkpoint, CheckpointFile, Interpreter, Loader, Process, Unknown
from glmdoctor.host.probes import bitsandbytes, cxx, hub, kills, own_code
from glmdoctor.host.probes.elf_versions import Versions, versions
from glmdoctor.host.probes.flash_attention import flash_attention
from glmdoctor.host.recorded import RecordedIO

CGROUP = "0::/\n"
# 7890 listens; 8080 is only spoken from.
TCP = (
    "  sl  local_address rem_address   st tx_queue rx_queue\n"
    "   0: 0100007F:1ED2 00000000:0000 0A 00000000:00000000\n"
    "   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000\n"
)


def python(*site_folders: str, prefix: str = "/venv", **packages: str) -> Interpreter:
    return Interpreter("/venv/bin/python", "3.11.7", prefix, "linux_x86_64", packages, site_folders)


# The memory killer


def recorded(vmstat: str, events: str, log: str | None = None) -> RecordedIO:
    files = {"/proc/vmstat": vmstat, "/proc/self/cgroup": CGROUP, "/sys/fs/cgroup/memory.events": events}
    log_files = {"/var/log/kern.log": log} if log else {}
    return RecordedIO({**files, **log_files})


def test_counters_are_read_and_the_log_only_where_they_ask_for_it() -> None:
    line = "kernel: Memory cgroup out of memory: Killed process 77 (python3) total-vm:1kB\n"
    quiet = kills.memory_kills(recorded("oom_kill 0\n", "oom 0\noom_kill 0\n", line))
    assert not isinstance(quiet, Unknown) and (quiet.machine, quiet.group, quiet.log) == (0, 0, None)
    struck = kills.memory_kills(recorded("pgfault 3\noom_kill 4\n", "oom 1\noom_kill 1\noom_group_kill 0\n", line))
    assert not isinstance(struck, Unknown)
    assert (struck.machine, struck.group, struck.log) == (4, 1, "/var/log/kern.log")
    assert struck.killed == (Process(77, "python3"),)


def test_old_cgroups_and_kernels_without_counters() -> None:
    files = {
        "/proc/self/cgroup": "4:memory:/docker/abc\n",
        "/sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    }
    old = kills.memory_kills(RecordedIO(files))
    assert not isinstance(old, Unknown) and (old.machine, old.group) == (None, 3)
    bare = kills.memory_kills(RecordedIO({"/proc/vmstat": "oom_kill many\n"}))
    assert not isinstance(bare, Unknown) and (bare.machine, bare.group, bare.group_path) == (None, None, "")
    assert isinstance(kills.memory_kills(RecordedIO({}, system="Darwin")), Unknown)


# bitsandbytes


def test_the_binaries_that_bitsandbytes_brings(root: Any) -> None:
    for name in ("cpu.so", "cuda118.so", "cuda118_nocublaslt.so", "cuda121.so"):
        root.file(f"/site/bitsandbytes/libbitsandbytes_{name}")
    root.file("/site/bitsandbytes/cextension.py")
    found = bitsandbytes.bitsandbytes(root.io(), python("/site", bitsandbytes="0.43.1"))
    assert not isinstance(found, Unknown)
    assert (found.version, found.binaries) == ("0.43.1", ("cpu", "cuda118", "cuda121"))
    assert isinstance(bitsandbytes.bitsandbytes(root.io(), python("/site")), Unknown)


# The C++ runtime


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """old.so and new.so: runtimes; user.so: a library that needs what only the new one has."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc builds the ELF files of this test")
    folder = tmp_path_factory.mktemp("cxx")
    for name, newest in (("old", "3.4.25"), ("new", "3.4.30")):
        (folder / "map").write_text(f"GLIBCXX_3.4 {{ a; }};\nGLIBCXX_{newest} {{ b; }};\n")
        linked(folder / f"{name}.so", "void a(void){} void b(void){}", "-Wl,-soname,libstdc++.so.6",
               f"-Wl,--version-script={folder / 'map'}")  # fmt: skip
    linked(folder / "user.so", "void a(void); void b(void); void use(void){a();b();}", str(folder / "new.so"))
    return folder


def linked(path: Path, source: str, *more: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-x", "none", *more, "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)


def loader(*folders: str, ld_library_path: tuple[str, ...] = ()) -> Loader:
    return Loader(ld_library_path, folders, "/etc/ld.so.cache", (), None)


def test_versions_of_real_files(built: Path) -> None:
    with (built / "old.so").open("rb") as file:
        assert {"GLIBCXX_3.4", "GLIBCXX_3.4.25"} <= set(versions(file).defined)
    with (built / "user.so").open("rb") as file:
        assert set(versions(file).needed) == {"GLIBCXX_3.4", "GLIBCXX_3.4.30"}


def test_which_runtime_comes_first(root: Any, built: Path) -> None:
    root.file("/site/torch/lib/libc10.so", built / "user.so")
    root.file("/venv/lib/libstdc++.so.6", built / "old.so")
    root.file("/usr/lib/libstdc++.so.6", built / "new.so")
    plain = cxx.cxx_runtime(root.io(), python("/site"), loader("/lib32", "/usr/lib"))
    assert not isinstance(plain, Unknown)
    assert [(lib.path, lib.found_by) for lib in plain.libraries] == [("/usr/lib/libstdc++.so.6", "loader")]
    assert plain.needs == {"/site/torch/lib/libc10.so": ("GLIBCXX_3.4", "GLIBCXX_3.4.30")}
    root.folder("/venv/conda-meta")
    conda = cxx.cxx_runtime(root.io(), python("/site"), loader("/usr/lib"))
    assert not isinstance(conda, Unknown) and conda.libraries[0].found_by == "conda"
    assert conda.libraries[0].defines[-1] == "GLIBCXX_3.4.25" and len(conda.libraries) == 2
    given = cxx.cxx_runtime(root.io(), python("/site", prefix="/x"), loader(ld_library_path=("/venv/lib",)))
    assert not isinstance(given, Unknown) and given.libraries[0].found_by == "LD_LIBRARY_PATH"
    assert isinstance(cxx.cxx_runtime(root.io(), python("/nothing"), loader("/usr/lib")), Unknown)


@given(st.integers(0, 5000), st.binary(min_size=1, max_size=8))
@settings(max_examples=150)
def test_no_changed_bytes_of_an_elf_file_break_it(built: Path, at: int, what: bytes) -> None:
    raw = bytearray((built / "user.so").read_bytes())
    at %= len(raw)
    raw[at : at + len(what)] = what
    found = versions(io.BytesIO(bytes(raw)))
    assert len(found.defined) <= 512 and len(found.needed) <= 512
    assert versions(io.BytesIO(bytes(raw[:at]))) == Versions((), ()) or at > 64


# The hub


def test_proxies_are_told_without_names_and_secrets() -> None:
    environ = {
        "https_proxy": "http://me:pw@127.0.0.1:7897",
        "HTTP_PROXY": "proxy.corp:3128",
        "ALL_PROXY": "http://x:no",
    }
    found = hub.hub(RecordedIO({"/proc/net/tcp": TCP}, environ), None)
    assert found.proxies == {"HTTPS_PROXY": "http://127.0.0.1:7897", "ALL_PROXY": "", "HTTP_PROXY": "http://…:3128"}
    assert found.silent == ("HTTPS_PROXY",)
    assert hub.hub(RecordedIO({"/proc/net/tcp": TCP}, {"https_proxy": "127.0.0.1:7897"}), None).silent
    listening = hub.hub(RecordedIO({"/proc/net/tcp": TCP}, {"https_proxy": "http://localhost:7897/"}), None)
    assert listening.silent == ("HTTPS_PROXY",)
    assert hub.hub(RecordedIO({"/proc/net/tcp": TCP}, {"https_proxy": "http://localhost:7890"}), None).silent == ()
    assert hub.hub(RecordedIO({}, {"https_proxy": "http://localhost:1"}), None).silent == (), "no table, no verdict"


def test_offline_and_what_the_cache_has() -> None:
    environ = {"HOME": "/home/u", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "0"}
    there = "/home/u/.cache/huggingface/hub/models--THUDM--chatglm2-6b/snapshots/abc/config.json"
    with_it = hub.hub(RecordedIO({there: "{}"}, environ), "THUDM/chatglm2-6b")
    assert with_it.offline == ("HF_HUB_OFFLINE",) and with_it.cached is True
    assert hub.hub(RecordedIO({}, environ), "THUDM/chatglm2-6b").cached is False
    assert hub.hub(RecordedIO({}, environ), "/models/chatglm2-6b").cached is None
    assert hub.hub(RecordedIO({}, environ), None).cached is None


# Own code


def code(**sources: str) -> Any:
    files = {f"/m/{name}.py": source for name, source in sources.items()}
    listed = tuple(CheckpointFile(f"{name}.py", 1, "other") for name in sources)
    return own_code.own_code(RecordedIO(files), Checkpoint("/m", True, True, True, "v2", None, {}, listed, 0))


def test_classes_and_methods_by_the_text() -> None:
    model = (
        "class ChatGLMModel:\n    pass\n"
        "class ChatGLMForConditionalGeneration(Base):\n"
        "    def chat(self, tokenizer, query):\n        return tokenizer.build_prompt(query)\n"
        "    def stream_chat(self, tokenizer):\n        tokenizer.decode(1); tokenizer.build_chat_input()\n"
    )
    tokenizer = "class ChatGLMTokenizer(Base):\n    def build_prompt(self):\n        pass\n"
    found = code(modeling_chatglm=model, tokenization_chatglm=tokenizer, broken="def (")
    assert found.classes["modeling_chatglm.py"] == ("ChatGLMModel", "ChatGLMForConditionalGeneration")
    assert found.classes["broken.py"] == () and found.offers == ("chat", "stream_chat")
    assert found.asked_of_tokenizer == ("build_chat_input", "build_prompt")
    assert found.tokenizer_offers == ("build_prompt",)
    assert code(modeling_chatglm=model).asked_of_tokenizer == (), "without a tokenizer's code nothing can be missing"
    assert isinstance(code(), Unknown)


# flash-attn


def test_flash_attention_by_its_wheel() -> None:
    def found(folder: str, record: str | None = None) -> Any:
        files = {f"/site/{folder}/METADATA": "Name: flash_attn\n"}
        files |= {f"/site/{folder}/direct_url.json": record} if record is not None else {}
        return flash_attention(RecordedIO(files), python("/site"))

    url = "https://x.example/flash_attn-2.7.4.post1%2Bcu12torch2.5cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    wheel = found("flash_attn-2.7.4.post1.dist-info", json.dumps({"url": url, "archive_info": {}}))
    assert (wheel.version, wheel.torch) == ("2.7.4.post1", "2.5") and wheel.wheel.startswith(
        "flash_attn-2.7.4.post1+cu12"
    )
    assert found("flash_attn-2.5.8+cu122torch2.3.dist-info").torch == "2.3"
    for record in (None, "", "[]", "{", '{"url": 3}', '{"url": "file:///src"}', '{"url": "http://["}'):
        assert found("flash_attn-2.5.8.dist-info", record).torch is None
    assert isinstance(found("flash_attn_3-1.0.dist-info"), Unknown)
