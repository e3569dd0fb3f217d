"""What opening an engine prints, ours and torch's own words (of torch 2.13, from truncated and foreign archives)."""

from __future__ import annotations

import io

import pytest

from glmcore.compiled.checks import Here, foreign
from glmcore.compiled.manifest import Built, manifest_from_json
from glmcore.errors import GlmError
from glmdoctor.explain import explain

HERE = Here("2.13.0+cpu", "kernel", frozenset({"avx2"}))
BUILT = Built("cpu", "2.13.0+cpu", "kernel", ("avx2",))


def first(log: str) -> str | None:
    matches = explain(io.BytesIO(log.encode())).matches
    return matches[0].problem if matches else None


@pytest.mark.parametrize(
    "built",
    [
        Built("cpu", "2.13.0+cpu", "kernel", ("avx2", "avx512f")),
        Built("cpu", "2.12.0+cpu", "kernel", ("avx2",)),
        Built("cpu", "2.13.0+cpu", "another", ("avx2",)),
        Built("cuda", "2.13.0+cpu", "kernel", (), "9.0"),
    ],
)
def test_why_an_engine_is_foreign_is_known_with_its_code_and_without(built: Built) -> None:
    error = foreign(built, HERE)
    assert foreign(BUILT, HERE) is None and error is not None
    assert first(error.line()) == first(f"RuntimeError: {error.what}") == "engine-foreign"


def test_a_manifest_that_is_none_is_known() -> None:
    with pytest.raises(GlmError) as caught:
        manifest_from_json("{}")
    assert first(caught.value.line()) == first(caught.value.what) == "engine-invalid"


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        (
            "RuntimeError: Error in dlopen: /tmp/aotinductor_iFdaJy/engine/data/aotinductor/decode.1.0/cr.wrapper.so: "
            "undefined symbol: aoti_torch_cpu_wrapped_fbgemm_pack_gemm_matrix_fp16",
            "engine-foreign",
        ),
        (
            "W1128 12:11:44.090000 6963 torch/export/pt2_archive/_package.py:1059] Device information mismatch for "
            "AOTI_CPU_ISA: AVX2 vs AVX512. This could cause some issues when loading the AOTInductor compiled "
            "artifacts.",
            "engine-foreign",
        ),
        (
            "RuntimeError: No update_constant_buffer_from_cpu in .so! Consider rebuild your model with the latest "
            "AOTInductor.",
            "engine-foreign",
        ),
        ("RuntimeError: Failed to initialize zip archive: failed finding central directory", "engine-damaged"),
        (
            "RuntimeError: Failed to find a generated cpp file or so file for model 'decode' in the zip archive.\n\n"
            "Available models:\nprefill\n",
            "engine-damaged",
        ),
        (
            "Error: Cannot find constants model_lm_head_weight in constants_map!\nRuntimeError: "
            "update_user_managed_constant_buffer_func_( container_handle_, const_map) API call failed at "
            "/pytorch/torch/csrc/inductor/aoti_runner/model_container_runner.cpp, line 283",
            "engine-damaged",
        ),
        (
            "torch._inductor.exc.InvalidCxxCompiler: No working C++ compiler found in "
            "torch._inductor.config.cpp.cxx: (None, 'g++')",
            "gcc-missing",
        ),
        ("RuntimeError: Error in dlopen: libother.so: undefined symbol: other", None),
        ("zipfile.BadZipFile: Failed to open archive", None),
    ],
)
def test_torchs_own_words_are_known(log: str, problem: str | None) -> None:
    assert first(log) == problem
