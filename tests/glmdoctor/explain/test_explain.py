"""The engine behind `glmdoctor explain`: patterns, pages, and what it promises about size and speed."""

from __future__ import annotations

import io
import time
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmcore.errors import CODES
from glmdoctor.explain import book, explain, own_id
from glmdoctor.explain.pages import PAGE, Page, pages
from glmdoctor.explain.signatures import Own, Pattern
from glmdoctor.explain.wanted import Effort, Wanted
from glmdoctor.knowledge import problems


def first(log: str | bytes) -> str | None:
    data = log.encode() if isinstance(log, str) else log
    matches = explain(io.BytesIO(data)).matches
    return matches[0].problem if matches else None


def found(pattern: str, log: str) -> bool:
    return stands(Pattern.parse(pattern), log)


def stands(pattern: Pattern, log: str) -> bool:
    page = Page(log.encode(), 1, last=True)
    return any(pattern.matches(page, start) for _, starts in Wanted((pattern,)).on(page, Effort()) for start in starts)


@pytest.mark.parametrize(
    ("pattern", "log"),
    [
        ("Library cuda is not initialized", "RuntimeError: library CUDA is not initialized"),
        ("libcuda.so*wrong ELF class", "/usr/lib32/libcuda.so.1: wrong ELF class: ELFCLASS32"),
        ("'gcc' is not recognized", "“gcc” is not recognized as a command"),
        ("^Killed$", "loading\nKilled\n"),
        ("No NVIDIA driver found", "│ No NVIDIA   │\n│ driver found │"),
        ("Not found: '{non-ascii}.model", 'Not found: "D:\\模型\\ice_text.model"'),
        ("cuInit err: 3", 'cuInit err: 3"'),
        ("cpm_kernels/library/", r"F:\site-packages\cpm_kernels\library\base.py"),
        ("site-packages/cpm_kernels/", "│ /opt/py/site-packages/cpm_k │\n│ ernels/library/base.py:16   │"),
    ],
)
def test_pattern_matches(pattern: str, log: str) -> None:
    assert found(pattern, log)


@pytest.mark.parametrize(
    ("pattern", "log"),
    [
        ("Library cuda is not initialized", "RuntimeError: Library cudart is not initialized"),
        ("libcuda.so*wrong ELF class", "libcuda.so.1 is here\nnothing more\nwrong ELF class"),
        ("libcuda.so*wrong ELF class", "libcuda.so" + " x" * 400 + " wrong ELF class"),
        ("^Killed$", "Killed by signal 15."),
        ("cuInit err: 3", "cuInit err: 304"),
        ("No NVIDIA driver found", "│ /opt/No NVIDIA │\n│ driverfound │"),
        ("Not found: '{non-ascii}.model", 'Not found: "D:\\models\\ice_text.model"'),
    ],
)
def test_pattern_does_not_match(pattern: str, log: str) -> None:
    assert not found(pattern, log)


def test_every_problem_has_signatures_and_every_signature_a_problem() -> None:
    own = {own_id(code) for code, meaning in book().codes.items() if isinstance(meaning, Own)}
    assert {s.problem for s in book().signatures} - own == set(problems())


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_error_code_of_glmcore_is_explained(code: str) -> None:
    meaning = book().codes[code]
    expected = own_id(code) if isinstance(meaning, Own) else meaning
    assert first(f"glmcore: error[{code}]: something is wrong, somewhere, do this") == expected
    assert isinstance(meaning, Own) or meaning in problems()


def test_no_code_is_explained_that_glmcore_does_not_have() -> None:
    assert set(book().codes) == set(CODES)


def test_every_signature_matches_its_own_words() -> None:
    for signature in book().signatures:
        pattern = replace(signature.pattern, check="")
        assert stands(pattern, " 模 ".join(pattern.pieces) + "\n"), pattern.pieces


HOT = """    Temperature
        GPU Current Temp                  : {} C
        GPU Shutdown Temp                 : 102 C
        GPU Slowdown Temp                 : 97 C
        GPU Max Operating Temp            : 93 C
"""
PRODUCT = "peft/tuners/lora.py\nRuntimeError: mat1 and mat2 shapes cannot be multiplied ({} and {}x4096)\n"
CONFIG = '{{"architectures": ["GlmForCausalLM"], "max_position_embeddings": {}, "model_type": "glm", "rope_theta": {}}}'
FOLDER = "$ ls /usr/lib/wsl/lib\nlibd3d12.so  libd3d12core.so  libdxcore.so  {}\n"


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        (HOT.format(93), "gpu-throttled"),
        (HOT.format(92), None),
        (PRODUCT.format("12x4096", 2048), "finetune-on-quantised-checkpoint"),
        (PRODUCT.format("12x4096", 1), "finetune-on-quantised-checkpoint"),
        (PRODUCT.format("12x4096", 5120), None),
        (CONFIG.format(131072, "10000.0"), "hf-rope-theta-lost"),
        (CONFIG.format(131072, "5000000.0"), None),
        (CONFIG.format(8192, "10000.0"), None),
        (FOLDER.format(""), "wsl-no-adapter"),
        (FOLDER.format("libcuda.so.1"), None),
    ],
)
def test_a_listing_is_evidence_by_its_figures_and_by_what_it_lacks(log: str, problem: str | None) -> None:
    assert first(log) == problem


def test_the_cause_above_goes_before_the_last_line() -> None:
    last = "ValueError: When localhost is not accessible, a shareable link must be created."
    schema = "gradio_client/utils.py, line 898, in get_type\nTypeError: argument of type 'bool' is not iterable\n"
    assert first(last) == "localhost-through-proxy" and first(schema + last) == "pydantic-version"


def test_line_numbers_count_the_lines_of_the_file() -> None:
    log = "one\rtwo\r\nthree\r\n\x1b[31mRuntimeError: Library cuda is not initialized\x1b[0m\r\n"
    assert explain(io.BytesIO(log.encode())).matches[0].lines == (3,)


def test_line_numbers_hold_over_many_pages() -> None:
    filler = "".join(f"{i} all is well\n" for i in range(30_000))
    log = filler + "CUDA out of memory\n" + filler
    assert len(list(pages(io.BytesIO(log.encode())))) > 5
    assert explain(io.BytesIO(log.encode())).matches[0].lines == (30_001,)


@pytest.mark.parametrize("shift", range(-40, 5, 5))
def test_a_message_on_the_cut_between_pages_is_found(shift: int) -> None:
    message = "RuntimeError: Library cuda\nis not initialized"
    lines = "x" * 99 + "\n"
    filler = lines * (PAGE // 100)
    filler = filler[: PAGE + shift - len(filler) % 100]
    assert first(filler + "\n" + message + "\n" + lines * 50) == "libcuda-not-in-cuda-path"


def test_one_line_longer_than_any_page() -> None:
    assert first("x" * (6 * PAGE) + " CUDA out of memory " + "y" * (6 * PAGE)) == "cuda-oom"


def test_the_cause_comes_before_what_follows_from_it() -> None:
    log = """No compiled kernel found.
sh: 1: gcc: not found
Compile default cpu kernel failed.
AttributeError: 'NoneType' object has no attribute 'int4WeightExtractionFloat'"""
    assert [m.problem for m in explain(io.BytesIO(log.encode())).matches][:2] == [
        "gcc-missing",
        "cpu-kernel-not-loaded",
    ]


def test_a_kernel_that_loaded_is_no_fault() -> None:
    log = "No compiled kernel found.\nCompiling kernels : k.c\nLoad kernel : k.so\nUsing quantization cache\n"
    assert first(log) is None


def test_harmless_lines_are_named_as_such() -> None:
    explanation = explain(io.BytesIO(b"\nThe dtype of attention mask (torch.int64) is not bool\n"))
    assert explanation.matches == () and explanation.harmless == (2,)


def test_the_chinese_code_page_of_windows_is_read() -> None:
    assert first("'gcc' 不是内部或外部命令，也不是可运行的程序".encode("gb18030")) == "gcc-missing"
    assert first("OSError: 页面文件太小，无法完成操作".encode("gb18030")) == "windows-pagefile-too-small"


@pytest.mark.parametrize(
    "log",
    [
        "OSError: [Errno 98] Address already in use",
        "PermissionError: [Errno 13] Permission denied: '/var/log/app.log'",
        "systemd[1]: Failed to load Kernel Modules.",
        "FileNotFoundError: [Errno 2] No such file or directory: '/app/config.json'",
        "ModuleNotFoundError: No module named 'langchain'",
        "java.lang.OutOfMemoryError: Java heap space",
        "AttributeError: module 'openai' has no attribute 'ChatCompletion'",
        "===BUG REPORT===\nWelcome to bitsandbytes. For bug reports, please run\n\npython -m bitsandbytes\n",
        "| NVIDIA-SMI 535.104.05   Driver Version: 535.104.05   CUDA Version: 12.2 |",
        "Loading checkpoint shards: 100%|████| 7/7 [00:12<00:00,  1.82s/it]\nRunning on http://127.0.0.1:7860",
        "modprobe: ERROR: could not insert 'ax88179_178a': Key was rejected by service",
        "",
    ],
)
def test_other_peoples_troubles_are_no_match(log: str) -> None:
    assert first(log) is None


@settings(max_examples=60)
@given(st.binary(max_size=4000))
def test_any_bytes_are_read_without_a_crash(data: bytes) -> None:
    explain(io.BytesIO(data))


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["Library ", "cuda", "*", "'", "\n", "\\n", '{"log":"', "\x1b[", "libcuda.so", "错", "\r"])
    )
)
def test_any_mixture_of_marks_is_read_without_a_crash(parts: list[str]) -> None:
    explain(io.BytesIO("".join(parts).encode()))


class Endless(io.RawIOBase):
    """A log of ``size`` bytes that never lies in memory as a whole; no line comes twice."""

    def __init__(self, size: int, words: bytes) -> None:
        self.left, self.words, self.number = size, words, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        rows = []
        while size > 0 and self.left > 0:
            self.number += 1
            row = b"2026-03-11 11:00:21,%d - INFO - %s\n" % (self.number, self.words)
            rows.append(row)
            size -= len(row)
            self.left -= len(row)
        return b"".join(rows)


BUSY = b"step loss loading shard model cuda device ready request response user nvidia driver file not found"
FAULTY = b"RuntimeError: CUDA out of memory. Tried to allocate 2.34 GiB"


@pytest.mark.parametrize("words", [BUSY, FAULTY])
def test_a_long_log_takes_little_time(words: bytes) -> None:
    start = time.process_time()
    explain(Endless(10 << 20, words))
    assert time.process_time() - start < 3, "100 MB within 10 s would be 1 s; the rest is for slow machines"


@pytest.mark.parametrize("words", [BUSY, FAULTY])
def test_a_long_log_takes_little_memory(words: bytes) -> None:
    tracemalloc.start()
    explain(Endless(6 << 20, words))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20
