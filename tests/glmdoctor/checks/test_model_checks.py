"""System, compiler, torch, packages and checkpoint: each fault on a machine that has it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import Stub

from glmcore.config import NAMED
from glmdoctor.checks import examine
from glmdoctor.checks.remote_code import range_of
from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts
from glmdoctor.host.facts import CheckpointFile, Cpm, CpmHit, KernelBuild, Tensor, Unknown
from glmdoctor.host.host import Host

GIB = 1 << 30
OLD_CODE = (
    "present",
    "tokenizer-init-early",
    "pad-without-padding-side",
    "config-generation-names",
    "model-without-post-init",
    "model-without-generation-mixin",
    "cache-as-tuples",
)


def findings(machine: Any, check: str) -> dict[str | None, Finding]:
    return {finding.problem: finding for finding in examine(machine, only=[check]).findings}


def finding(machine: Any, check: str) -> Finding:
    [found] = findings(machine, check).values()
    return found


def test_too_little_memory_for_anything(cpu_machine: Stub) -> None:
    found = finding(cpu_machine.having(memory={"limit": 4 * GIB, "limit_used": 4 * GIB}), "system.memory")
    assert (found.problem, found.status) == ("ram-oom", Status.FAIL)
    assert "limited to 4.0 GiB" in str(found.detail)


@pytest.mark.parametrize("fact", [{"free": 1 << 20, "writable": False}, {"free": 4096, "writable": True}])
def test_a_full_disk_explains_a_cache_that_cannot_be_written(cpu_machine: Stub, fact: dict[str, Any]) -> None:
    report = examine(cpu_machine.having(disk_cache=fact))
    assert [f.problem for f in report.root_causes] == ["disk-full"]
    assert [f.problem for f in report.findings if f.caused_by] == ["hf-cache-not-writable"]


def test_a_cache_of_another_user(cpu_machine: Stub) -> None:
    found = finding(cpu_machine.having(disk_cache={"writable": False}), "system.cache")
    assert (found.problem, found.status) == ("hf-cache-not-writable", Status.WARN)


def test_cpm_kernels_on_a_mac(cpu_machine: Stub) -> None:
    mac = cpu_machine.having(os={"system": "Darwin"})
    assert finding(mac, "system.platform").status is Status.OK
    packages = {**mac.interpreter.packages, "cpm-kernels": "1.0.11"}
    assert finding(mac.having(interpreter={"packages": packages}), "system.platform").problem == "cpm-platform-import"


FAILED_BUILD = KernelBuild(False, "compile", None, "gcc", None, False, False, "k.c:1: error: oh no\nmake: stop", None)


def test_no_compiler_is_a_warning_until_a_quantised_model_needs_it(cpu_machine: Stub, chatglm2: Any) -> None:
    build = replace(FAILED_BUILD, stage="compiler", compiler=None, log="")
    machine = cpu_machine.having(toolchain={"compilers": ()}, kernel_build=build)
    report = examine(machine)
    assert report.exit_status == 0 and [f.problem for f in report.root_causes] == ["gcc-missing"]
    report = examine(machine.having(checkpoint=replace(chatglm2, quantization_bit=4)))
    assert report.exit_status == 1 and [f.problem for f in report.root_causes] == ["gcc-missing"]


def test_no_compiler_is_needed_where_a_kernel_is_there(cpu_machine: Stub) -> None:
    machine = cpu_machine.having(toolchain={"compilers": ()})
    assert finding(machine, "compiler.found").status is Status.OK
    machine = machine.having(kernel_build=FAILED_BUILD, given_kernel=facts.GivenKernel("/k.so", True, ""))
    assert finding(machine, "compiler.found").status is Status.OK


def test_the_compilers_own_words_are_told(cpu_machine: Stub) -> None:
    found = finding(cpu_machine.having(kernel_build=FAILED_BUILD), "kernel.build")
    assert found.problem == "cpu-kernel-not-loaded" and "k.c:1: error: oh no" in str(found.detail)
    assert found.evidence["log"] == FAILED_BUILD.log


@pytest.mark.parametrize(
    ("stage", "problem"), [("load", "kernel-so-not-loadable"), ("verify", "cpu-kernel-not-loaded")]
)
def test_a_kernel_that_compiles_and_fails_later(cpu_machine: Stub, stage: str, problem: str) -> None:
    assert (
        finding(cpu_machine.having(kernel_build=replace(FAILED_BUILD, stage=stage)), "kernel.build").problem == problem
    )


def test_a_kernel_without_openmp(cpu_machine: Stub) -> None:
    found = finding(cpu_machine.having(kernel_build={"openmp": False}), "compiler.openmp")
    assert (found.problem, found.status) == ("openmp-missing", Status.WARN)


def test_a_kernel_file_that_the_user_gave(cpu_machine: Stub) -> None:
    broken = facts.GivenKernel("/k.so", False, "file too short")
    found = finding(cpu_machine.having(given_kernel=broken), "kernel.given")
    assert found.problem == "kernel-so-not-loadable" and "file too short" in str(found.detail)


def test_a_torch_without_cuda_beside_a_card(gpu_machine: Stub, cpu_machine: Stub) -> None:
    machine = gpu_machine.having(torch=cpu_machine.torch)
    found = finding(machine, "torch.build")
    assert (found.problem, found.status) == ("torch-cpu-only", Status.FAIL)
    broken = machine.having(nvml={"code": 999, "gpus": ()})
    assert finding(broken, "torch.build").status is Status.WARN
    assert finding(cpu_machine, "torch.build").status is Status.OK


@pytest.mark.parametrize(
    ("cuda", "ceiling", "problem"),
    [("13.0", (12, 2), "cuda-driver-too-old"), ("12.6", (12, 2), None), ("12.1", (12, 2), None)],
)
def test_torch_beside_the_drivers_ceiling(
    gpu_machine: Stub, cuda: str, ceiling: tuple[int, int], problem: str | None
) -> None:
    """Within a CUDA major the runtime works on older drivers; beyond it, it does not."""
    machine = gpu_machine.having(torch={"cuda": cuda}, ceiling={"cuda": ceiling})
    found = finding(machine, "torch.driver")
    assert found.problem == problem
    assert problem is None or found.evidence["needed_driver"] == "580.65.06"


@pytest.mark.parametrize(
    ("version", "cuda", "capability", "problem"),
    [
        ("2.4.0+cu121", "12.1", (6, 1), None),  # a P4 runs code for 6.0
        ("2.9.1+cu128", "12.8", (6, 1), "torch-arch-unsupported"),
        ("2.4.0+cu121", "12.1", (12, 0), "torch-arch-unsupported"),  # a Blackwell
        ("2.9.1+cu128", "12.8", (12, 1), None),
        ("2.9.1+cu130", "13.0", (7, 0), "torch-arch-unsupported"),
        ("2.9.1+cu130", "13.0", (9, 0), None),
        ("2.9.1+cu130", "13.0", (13, 0), None),  # by PTX
        ("2.4.0+cu199", "19.9", (3, 0), None),  # a build that no table knows
    ],
)
def test_torch_beside_the_cards_architecture(
    gpu_machine: Stub, version: str, cuda: str, capability: tuple[int, int], problem: str | None
) -> None:
    gpu = replace(gpu_machine.nvml.gpus[0], compute_capability=capability)
    machine = gpu_machine.having(torch={"version": version, "cuda": cuda}, nvml={"gpus": (gpu,)})
    assert finding(machine, "torch.architecture").problem == problem


def test_a_torch_before_skip_init(cpu_machine: Stub) -> None:
    assert finding(cpu_machine.having(torch={"version": "1.9.1"}), "torch.version").problem == "torch-too-old-skip-init"
    assert finding(cpu_machine.having(torch={"version": "1.10.0"}), "torch.version").status is Status.OK


def with_packages(machine: Stub, **changed: str | None) -> Stub:
    packages = {**machine.interpreter.packages, **changed}
    return machine.having(interpreter={"packages": {k: v for k, v in packages.items() if v is not None}})


def test_a_light_doctor_misses_no_packages(cpu_machine: Stub) -> None:
    bare = cpu_machine.having(interpreter={"packages": {"click": "8.1"}}, torch=Unknown("torch is not installed"))
    report = examine(bare)
    assert report.verdict == "healthy"


def test_packages_that_the_named_model_needs(cpu_machine: Stub, chatglm2: Any) -> None:
    machine = with_packages(cpu_machine, sentencepiece=None, tiktoken=None)
    assert finding(machine, "python.packages").status is Status.WARN
    found = finding(machine.having(checkpoint=chatglm2), "python.packages")
    assert (found.problem, found.status) == ("python-deps-missing", Status.FAIL)
    assert found.evidence["missing"] == ["sentencepiece>=0.2"]
    glm4 = replace(chatglm2, generation="glm4")
    assert finding(machine.having(checkpoint=glm4), "python.packages").evidence["missing"] == ["tiktoken>=0.7"]


def test_a_package_that_is_too_old(cpu_machine: Stub) -> None:
    found = finding(with_packages(cpu_machine, torch="2.1.0+cpu"), "python.packages")
    assert found.evidence["missing"] == ["torch>=2.4,<2.14"] and "2.1.0+cpu" in str(found.detail)


@pytest.mark.parametrize(
    ("packages", "problem"),
    [
        ({"torch": "2.2.1", "numpy": "2.0.0"}, "numpy2-abi"),
        ({"torch": "2.2.1", "numpy": "1.26.4"}, None),
        ({"torch": "2.3.0", "numpy": "2.0.0"}, None),
        ({"icetk": "0.0.7", "protobuf": "5.26.1"}, "protobuf-too-new"),
        ({"icetk": "0.0.7", "protobuf": "3.20.3"}, None),
        ({"protobuf": "5.26.1"}, None),
        ({"gradio": "4.44.0", "mdtex2html": "1.2"}, "gradio-incompatible"),
        ({"gradio": "4.44.0"}, None),
    ],
)
def test_packages_that_do_not_go_together(cpu_machine: Stub, packages: dict[str, str], problem: str | None) -> None:
    assert finding(with_packages(cpu_machine, **packages), "python.clashes").problem == problem


TESTED = {"torch": "2.13.0", "transformers": "5.24.0", "safetensors": "0.8.0", "sentencepiece": "0.2.3",
          "tiktoken": "0.14.0", "llguidance": "1.9.1"}  # fmt: skip


def test_packages_newer_than_tested_are_told_and_fail_nothing(cpu_machine: Stub) -> None:
    found = finding(with_packages(cpu_machine, **TESTED | {"transformers": "5.25.0"}), "python.packages")
    assert (found.status, found.problem) == (Status.WARN, "python-deps-missing")
    assert found.evidence["packages"] == {"transformers": {"needed": ">=4.44,<5.25", "installed": "5.25.0"}}
    assert finding(with_packages(cpu_machine, **TESTED), "python.packages").status is Status.OK


def test_protobuf_in_pure_python_takes_old_code(cpu_machine: Stub) -> None:
    machine = with_packages(cpu_machine, icetk="0.0.7", protobuf="5.26.1")
    machine = machine.having(settings=facts.Settings({"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}))
    assert finding(machine, "python.clashes").status is Status.OK


def checkpoint(whole: Any, *files: CheckpointFile, without: str = "", **fields: Any) -> Any:
    """The checkpoint with some files replaced or left out."""
    changed = {file.name: file for file in (*whole.files, *files) if file.name != without}
    return replace(whole, files=tuple(changed.values()), **fields)


def test_a_whole_checkpoint_is_fine(cpu_machine: Stub, chatglm2: Any) -> None:
    assert examine(cpu_machine.having(checkpoint=chatglm2)).verdict == "healthy"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"exists": False, "is_folder": False}, "does not exist"),
        ({"is_folder": False}, "is a file"),
        ({"readable": False}, "cannot be listed"),
    ],
)
def test_a_path_that_is_no_model(cpu_machine: Stub, chatglm2: Any, fields: dict[str, bool], words: str) -> None:
    wrong = replace(chatglm2, readable=fields.get("readable", False), generation=None, files=(), config={}, **{
        name: value for name, value in fields.items() if name != "readable"
    })  # fmt: skip
    report = examine(cpu_machine.having(checkpoint=wrong))
    assert [f.problem for f in report.root_causes] == ["model-path-wrong"]
    assert words in str(report.findings[0].detail)


def test_a_name_without_a_folder_is_no_fault(cpu_machine: Stub, chatglm2: Any) -> None:
    named = replace(chatglm2, path="chatglm2-6b", exists=False, is_folder=False, readable=False, files=())
    assert examine(cpu_machine.having(checkpoint=named)).exit_status == 0


@pytest.mark.parametrize(
    ("file", "check", "problem"),
    [
        (CheckpointFile("model.safetensors", 134, "lfs-pointer"), "model.contents", "lfs-pointer-checkpoint"),
        (CheckpointFile("tokenizer.model", 134, "lfs-pointer"), "model.contents", "lfs-pointer-checkpoint"),
        (CheckpointFile("model.safetensors", 9000, "html"), "model.contents", "html-instead-of-weights"),
        (CheckpointFile("model.safetensors", 9, "safetensors", "truncated"), "model.contents", "truncated-checkpoint"),
        (CheckpointFile("model.safetensors", 0, "empty"), "model.contents", "truncated-checkpoint"),
        (CheckpointFile("config.json", 9, "json", "damaged: no valid JSON"), "model.contents", "truncated-checkpoint"),
        (CheckpointFile("tokenizer.model", 9, "other"), "model.contents", "sentencepiece-model-corrupt"),
        (CheckpointFile("model-00002-of-00002.safetensors", 0, "missing"), "model.files", "missing-shard"),
        (CheckpointFile("notes.html", 9, "html"), "model.contents", None),
    ],
)  # fmt: skip
def test_files_that_are_not_what_they_should_be(
    cpu_machine: Stub, chatglm2: Any, file: CheckpointFile, check: str, problem: str | None
) -> None:
    found = finding(cpu_machine.having(checkpoint=checkpoint(chatglm2, file)), check)
    assert found.problem == problem
    assert problem is None or (found.status is Status.FAIL and file.name in str(found.detail))


@pytest.mark.parametrize(
    ("without", "problem"),
    [
        ("config.json", "missing-checkpoint-file"),
        ("model.safetensors", "missing-checkpoint-file"),
        ("tokenizer.model", "missing-tokenizer-file"),
    ],
)
def test_files_that_are_missing(cpu_machine: Stub, chatglm2: Any, without: str, problem: str) -> None:
    found = finding(cpu_machine.having(checkpoint=checkpoint(chatglm2, without=without)), "model.files")
    assert found.problem == problem and without in str(found.detail)


def test_the_tokenizer_of_glm4_is_no_sentencepiece_model(cpu_machine: Stub, chatglm2: Any) -> None:
    ranks = CheckpointFile("tokenizer.model", 1 << 20, "tiktoken")
    glm4 = checkpoint(chatglm2, ranks, generation="glm4")
    assert finding(cpu_machine.having(checkpoint=glm4), "model.contents").status is Status.OK


def test_several_faults_are_told_at_once(cpu_machine: Stub, chatglm2: Any) -> None:
    files = (CheckpointFile("model.safetensors", 134, "lfs-pointer"), CheckpointFile("tokenizer.model", 0, "empty"))
    found = findings(cpu_machine.having(checkpoint=checkpoint(chatglm2, *files)), "model.contents")
    assert set(found) == {"lfs-pointer-checkpoint", "sentencepiece-model-corrupt"}


def test_token_ids_of_another_vocabulary(cpu_machine: Stub, chatglm2: Any) -> None:
    config = {"vocab_size": 130528, "bos_token_id": 150004, "eos_token_id": 130005}
    found = finding(cpu_machine.having(checkpoint=replace(chatglm2, generation="v1", config=config)), "model.config")
    assert found.problem == "token-ids-mismatch"
    assert "bos_token_id = 150004" in str(found.detail) and "eos" not in str(found.detail)


EMBEDDING, LAYER = (
    "transformer.embedding.word_embeddings.weight",
    "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight",
)
SIZES = {"hidden_size": 64, "ffn_hidden_size": 176, "padded_vocab_size": 512, "num_layers": 1}


@pytest.mark.parametrize(
    ("config", "bits", "layer", "words"),
    [
        ({}, None, ("F16", (64, 176)), None),
        ({}, 8, ("I8", (64, 176)), None),
        ({}, 4, ("I8", (64, 88)), None),
        ({"num_layers": 2}, None, ("F16", (64, 176)), "num_layers 2, 1 layers"),
        ({"ffn_hidden_size": 177}, None, ("F16", (64, 176)), "64 x 176, not 64 x 177"),
        ({"padded_vocab_size": 1024}, None, ("F16", (64, 176)), "512 x 64, not 1024 x 64"),
        ({}, 4, ("F16", (64, 176)), "quantization_bit is 4"),
        ({}, None, ("I8", (64, 88)), "quantization_bit is 0"),
        ({}, 8, ("I8", (64, 88)), "64 x 88, not 64 x 176"),
    ],
)
def test_the_configuration_beside_the_shapes(
    cpu_machine: Stub, chatglm2: Any, config: dict[str, int], bits: int | None, layer: Any, words: str | None
) -> None:
    tensors = (Tensor(EMBEDDING, "F16", (512, 64)), Tensor(LAYER, *layer))
    model = replace(chatglm2, config={**SIZES, **config}, quantization_bit=bits, tensors=tensors)
    found = finding(cpu_machine.having(checkpoint=model), "model.shapes")
    assert (found.problem == "config-weights-mismatch") == bool(words)
    assert words is None or words in str(found.detail)


def test_a_model_of_another_family_is_not_judged(cpu_machine: Stub, chatglm2: Any) -> None:
    llama = replace(chatglm2, generation=None, config={"model_type": "llama"})
    found = finding(cpu_machine.having(checkpoint=llama), "model.config")
    assert found.status is Status.UNKNOWN and "llama" in str(found.detail)


def test_letters_beyond_ascii_matter_on_windows(cpu_machine: Stub, chatglm2: Any) -> None:
    machine = cpu_machine.having(checkpoint=replace(chatglm2, path="/models/模型"))
    assert set(findings(machine, "model.path")) == {None}
    assert "non-ascii-path" in findings(machine.having(os={"system": "Windows"}), "model.path")


def test_old_remote_code_fails_in_a_chain_told_at_once(cpu_machine: Stub, chatglm2: Any) -> None:
    machine = cpu_machine.having(checkpoint=replace(chatglm2, remote_code=OLD_CODE))
    report = examine(machine)
    assert report.exit_status == 0  # glmcore loads it natively
    assert [f.problem for f in report.root_causes] == ["tf-new-tokenizer-init"]
    assert {f.problem for f in report.findings if f.caused_by} == {
        "tf-config-attr-missing", "tf-new-tied-weights", "tf-no-generation-mixin", "tf-new-pad-padding-side",
        "tf-new-cache-format",
    }  # fmt: skip
    assert "transformers>=4.30.2,<4.34" in str(report.findings[0].detail)


@pytest.mark.parametrize(
    ("installed", "problems"),
    [
        ("4.33.3", set()),
        ("4.40.0", {"tf-new-tokenizer-init"}),
        ("4.45.2", {"tf-new-tokenizer-init", "tf-new-pad-padding-side", "tf-new-cache-format"}),
        ("4.20.0", {"tf-too-old"}),
    ],
)
def test_what_breaks_by_the_installed_transformers(
    cpu_machine: Stub, chatglm2: Any, installed: str, problems: set[str]
) -> None:
    machine = with_packages(cpu_machine, transformers=installed).having(
        checkpoint=replace(chatglm2, remote_code=OLD_CODE)
    )
    bad = {f.problem for f in examine(machine).findings if f.bad and f.id.startswith("remote-code")}
    assert bad == problems


@pytest.mark.parametrize(
    ("generation", "installed", "problem"),
    [
        ("glm4-hf", "4.45.2", "tf-too-old"), ("glm4-hf", "4.46.0", None), ("glm-edge", "4.44.0", "tf-too-old"),
        ("glm4-0414", "4.51.2", "tf-too-old"), ("glm4-0414", "4.51.3", None), ("glm-z1", "4.51.0", "tf-too-old"),
    ],
)  # fmt: skip
def test_a_transformers_that_does_not_have_the_class_yet(
    cpu_machine: Stub, chatglm2: Any, generation: str, installed: str, problem: str | None
) -> None:
    family = replace(chatglm2, generation=generation, remote_code=())
    found = finding(with_packages(cpu_machine, transformers=installed).having(checkpoint=family), "remote-code.floor")
    assert found.problem == problem
    if problem:
        assert "glmcore loads the checkpoint without it" in str(found.detail) and "ForCausalLM" in str(found.detail)
    bare = {name: version for name, version in cpu_machine.interpreter.packages.items() if name != "transformers"}
    without = cpu_machine.having(checkpoint=family, interpreter={"packages": bare})
    assert finding(without, "remote-code.floor").status is Status.SKIPPED


def test_newer_code_needs_less(chatglm2: Any) -> None:
    newer = replace(chatglm2, generation="glm4", remote_code=("present", "model-without-generation-mixin"))
    assert range_of(newer) == ">=4.40,<4.50"
    assert range_of(replace(newer, remote_code=("present",))) == ">=4.40"


def test_a_dot_in_the_folders_name(cpu_machine: Stub, chatglm2: Any) -> None:
    dotted = replace(chatglm2, path="/models/glm-4.9b", remote_code=("present",))
    machine = with_packages(cpu_machine, transformers="4.40.0").having(checkpoint=dotted)
    assert finding(machine, "remote-code.module").problem == "tf-remote-module-path"
    assert finding(with_packages(machine, transformers="5.0.0"), "remote-code.module").status is Status.OK


def test_model_code_without_its_tokenizer(cpu_machine: Stub, chatglm2: Any) -> None:
    half = checkpoint(chatglm2, CheckpointFile("modeling_chatglm.py", 99, "other"), remote_code=("present",))
    assert finding(cpu_machine.having(checkpoint=half), "remote-code.module").problem == "tokenizer-class-missing"


def test_cpm_kernels_on_windows_without_a_driver(cpu_machine: Stub) -> None:
    packages = {**cpu_machine.interpreter.packages, "cpm-kernels": "1.0.11"}
    windows = cpu_machine.having(os={"system": "Windows"}, interpreter={"packages": packages})
    assert finding(windows, "system.platform").problem == "cpm-platform-import"
    hit = CpmHit("cuda", "C:\\Windows\\System32\\nvcuda.dll", "PATH", (), True)
    assert finding(windows.having(cpm=Cpm("1.0.11", (hit,))), "system.platform").status is Status.OK


@pytest.mark.parametrize(
    ("free", "named", "problem", "status"),
    [
        (30, True, None, Status.OK),
        (6, True, "windows-pagefile-too-small", Status.FAIL),
        (6, False, None, Status.OK),
        (1, False, "windows-pagefile-too-small", Status.WARN),
        (None, True, None, Status.UNKNOWN),
    ],
)
def test_the_commit_limit_of_windows(
    cpu_machine: Stub, chatglm2: Any, free: int | None, named: bool, problem: str | None, status: Status
) -> None:
    windows = cpu_machine.having(os={"system": "Windows"}, memory={"commit_free": free and free * GIB})
    found = finding(windows.having(checkpoint=chatglm2) if named else windows, "system.commit")
    assert (found.problem, found.status) == (problem, status)
    assert finding(cpu_machine, "system.commit").status is Status.SKIPPED


def test_a_cache_where_no_files_can_be_kept_is_no_full_disk(cpu_machine: Stub) -> None:
    machine = cpu_machine.having(disk_cache=facts.Disk("/proc/x/glmcore", 0, 0, False))
    found = {f.id: f for f in examine(machine, only=["system.disk", "system.cache"]).findings}
    assert found["system.disk"].status is Status.SKIPPED
    assert (found["system.cache"].status, found["system.cache"].problem) == (Status.WARN, "hf-cache-not-writable")


V1_MAP = {"transformer.word_embeddings": 0, "transformer.layers.0": 0, "transformer.final_layernorm": 1, "lm_head": 1}
V2_MAP = {"transformer.embedding": 0, "transformer.encoder": 1, "transformer.output_layer": "cpu"}


@pytest.mark.parametrize(
    ("devices", "status", "words"),
    [
        (V2_MAP, Status.OK, "tensors"),
        ({"": 0}, Status.OK, "tensors"),
        (V1_MAP, Status.WARN, "transformer.embedding.word_embeddings.weight"),
        ({name: 0 for name in V2_MAP if name != "transformer.output_layer"}, Status.WARN, "output_layer.weight"),
        ({}, Status.SKIPPED, "no device_map.json"),
    ],
)
def test_a_device_map_beside_the_model(
    cpu_machine: Stub, chatglm2: Any, tmp_path: Path, devices: dict[str, object], status: Status, words: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(NAMED["chatglm2-6b"].raw))
    if devices:
        (tmp_path / "device_map.json").write_text(json.dumps(devices))
    found = finding(cpu_machine.having(checkpoint=Host(model=str(tmp_path)).checkpoint), "model.device-map")
    assert (found.status, found.problem) == (status, "device-map-incomplete" if status is Status.WARN else None)
    assert words in str(found.detail)


def test_an_auto_map_that_leads_to_the_hub(cpu_machine: Stub, chatglm2: Any) -> None:
    mapped = {"config.json": ("THUDM/chatglm2-6b--modeling_chatglm.X",), "tokenizer_config.json": ()}
    found = finding(cpu_machine.having(checkpoint=replace(chatglm2, code_elsewhere=mapped)), "model.auto-map")
    assert (found.problem, found.status) == ("auto-map-points-to-hub", Status.WARN)
    assert found.evidence["file"] == "config.json"
    assert finding(cpu_machine.having(checkpoint=chatglm2), "model.auto-map").status is Status.OK


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"max_position_embeddings": 131072, "rope_theta": 10000.0}, 5_000_000),
        ({"max_position_embeddings": 131072}, 5_000_000),
        ({"max_position_embeddings": 1048576, "rope_parameters": {"rope_theta": 10000.0}}, 100_000_000),
        ({"max_position_embeddings": 131072, "rope_theta": 5e6}, None),
        ({"max_position_embeddings": 8192, "rope_theta": 10000.0}, None),
        ({"max_position_embeddings": "many"}, None),
    ],
)
def test_a_rope_that_the_conversion_lost(cpu_machine: Stub, chatglm2: Any, config: Any, wanted: int | None) -> None:
    machine = cpu_machine.having(checkpoint=replace(chatglm2, generation=None, config={"model_type": "glm", **config}))
    found = finding(machine, "model.rope")
    assert found.evidence.get("rope_theta") == wanted if wanted else found.status is Status.OK
    assert found.problem == ("hf-rope-theta-lost" if wanted else None)


def test_an_index_that_names_a_folder(cpu_machine: Stub, chatglm2: Any) -> None:
    index = CheckpointFile("model.safetensors.index.json", 90, "json")
    parts = (*chatglm2.files, index, CheckpointFile("parts", 0, "missing", "a folder stands there"))
    found = finding(cpu_machine.having(checkpoint=replace(chatglm2, files=parts)), "model.files")
    assert found.problem == "missing-shard" and "parts, a folder and no shard" in str(found.detail)
    assert found.evidence["files"] == ["model.safetensors.index.json", "parts"]


@pytest.mark.parametrize(
    ("packages", "problem"),
    [
        ({"gradio": "4.44.1", "pydantic": "2.11.1"}, "pydantic-version"),
        ({"gradio": "4.44.1", "pydantic": "2.10.6"}, None),
        ({"fastapi": "0.95.1", "sse-starlette": "1.6.5", "pydantic": "1.10.13"}, "pydantic-version"),
    ],
)
def test_pydantic_beside_what_serves(cpu_machine: Stub, packages: dict[str, str], problem: str | None) -> None:
    installed = {**cpu_machine.interpreter.packages, **packages}
    assert set(findings(cpu_machine.having(interpreter={"packages": installed}), "python.clashes")) == {problem}
