"""Tracebacks known by where what was raised, whatever became of the message: boxed, translated, cut."""

from __future__ import annotations

import io

import pytest

from glmdoctor.explain import explain
from glmdoctor.explain.frames import with_fields
from glmdoctor.explain.pages import Page

RICH = """╭─────────────── Traceback (most recent call last) ───────────────╮
│ D:\\env\\lib\\site-packages\\cpm_kernels\\kernels\\base.py:{line} in {caller} │
│   24 │   │   self._module[curr_device] = cuda.…                   │
│ D:\\env\\lib\\site-packages\\cpm_kernels\\library\\base.py:94 in     │
│ wrapper                                                         │
│ ❱ 94 │   │   │   raise RuntimeErr                               │
╰─────────────────────────────────────────────────────────────────╯
RuntimeError: Libr…
"""
CPM_PATH = """Traceback (most recent call last):
  File "C:\\py\\lib\\site-packages\\cpm_kernels\\library\\base.py", line 46, in lookup_dll
    for name in os.listdir(
NotADirectoryError: 디렉터리 이름이 올바르지 않습니다
"""
SYMLINK = """[rank0]:   File "/e/site-packages/huggingface_hub/file_download.py", line 895, in _create_symlink
[rank0]:     os.symlink(src_rel_or_abs, abs_dst)
[rank0]: OSError: クライアントは要求された特権を保有していません。
"""
SAMPLE = """File ~/e/site-packages/transformers/generation/utils.py:3020, in GenerationMixin._sample(self)
   3018     probs = nn.functional.softmax(next_token_scores, dim=-1)
-> 3020     next_tokens = torch.multinomial(probs, num_samples=1).squeeze(1)

RuntimeError: probab
"""
TOKENIZER = """  File "/opt/lib/python3.10/site-packages/transformers/tokenization_utils.py", line 435, in _add_tokens
    current_vocab = self.get_vocab().copy()
  File "/hf/transformers_modules/glm/tokenization_chatglm.py", line 112, in get_vocab
    vocab = {{self._convert_id_to_token(i): i for i in ra
AttributeError: 'ChatGLMTok
"""
LIBRARY = """  File "C:\\hf\\modules\\transformers_modules\\glm\\quantization.py", line 148, in __init__
    kernels = ctypes.cdll.LoadLibrary(kernel_file)
  File "D:\\Python310\\lib\\ctypes\\__init__.py", line 452, in LoadLibrary
    return self._dlltype(name)
  File "D:\\Python310\\lib\\ctypes\\__init__.py", line 374, in __init__
    self._handle = _dlopen(self._name, mode)
OSError: %1 n'est pas une application
"""
CACHE = """~/hf/transformers_modules/glm/modeling_chatglm.py in _update_model_kwargs_for_generation(self, outputs)
    928         # update past_key_values
TypeError: Generat
"""
DEVICES = """│ /opt/env/lib/python3.8/site-packages/accelerate/utils/modeling │
│ .py:902 in check_device_map                                    │
│ ❱  902 │   │   raise ValueError(                               │
╰────────────────────────────────────────────────────────────────╯
ValueError: The device_m
"""


def first(log: str) -> str | None:
    matches = explain(io.BytesIO(log.encode())).matches
    return matches[0].problem if matches else None


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        (RICH.format(line=24, caller="get_module"), "libcuda-not-in-cuda-path"),
        (RICH.format(line=36, caller="_prepare_func"), "cpm-toolkit-libs-missing"),
        (CPM_PATH, "cpm-path-entry-is-file"),
        (SYMLINK, "windows-symlink-privilege"),
        (SAMPLE, "nan-logits"),
        (TOKENIZER, "tf-new-tokenizer-init"),
        (LIBRARY, "kernel-so-not-loadable"),
        (CACHE, "tf-new-cache-format"),
        (DEVICES, "device-map-incomplete"),
    ],
)
def test_boxed_translated_and_cut_messages(log: str, problem: str) -> None:
    assert first(log) == problem


@pytest.mark.parametrize(
    "log",
    [
        CPM_PATH.replace("cpm_kernels\\library", "mylib").replace("lookup_dll", "find"),
        SYMLINK.replace("huggingface_hub/file_download.py", "pip2pi/commands.py"),
        SAMPLE.replace("transformers/generation/utils.py", "mymodel/sampling.py"),
        DEVICES.replace("accelerate/utils", "shop/orders/"),
        CACHE.replace("_update_model_kwargs_for_generation", "main"),
    ],
)
def test_the_same_exceptions_out_of_other_places_are_other_problems(log: str) -> None:
    assert first(log) is None


def test_a_sentence_names_the_innermost_frames_first() -> None:
    log = 'File "/a/site-packages/x/one.py", line 1, in f\nFile "/b/two.py", line 2, in g\nKeyError: 3\nmore'
    assert with_fields(log.replace('"', "'")).split("\n")[2:] == [
        "KeyError: 3\rraised: KeyError in two.py g < x/one.py f",
        "more",
    ]


def test_the_words_shown_are_those_of_the_log_and_lines_keep_their_count() -> None:
    match = explain(io.BytesIO(("all is well\n" + CPM_PATH).encode())).matches[0]
    assert match.lines == (5,) and match.words.startswith("NotADirectoryError: 디렉터리")
    assert Page(RICH.encode(), 1, last=True).plain.count("\n") == RICH.count("\n")
