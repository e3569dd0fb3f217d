"""Machines with a checkpoint that ``--model`` names: whole, damaged, incomplete, or with code of another time."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from case import Case
from driver_machines import MODULE, gpu_machine
from machine import Machine
from model_folders import (
    FIRST_GENERATION,
    NEW_MODEL,
    NEW_TOKENIZER,
    OLD_MODEL,
    OLD_TOKENIZER,
    SHARDS,
    write_code,
    write_model,
)
from python_machines import stand_in_compiler
from system_machines import limited_by_cgroup

from glmcore.checkpoint.headers import read_header

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1841\n".format("ab" * 32)
PICKLE = b"\x80\x02}q\x00."  # an empty dictionary, as torch before 1.6 began its files
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>\n"


def with_model(machine: Machine, name: str = "model", config: dict | None = None, **changes: object) -> Path:
    """A whole checkpoint in the home folder, named on the command line."""
    folder = write_model(machine.folder / "home" / name, config, **changes)
    machine.arguments += ["--model", str(folder)]
    return folder


def whole_model(machine: Machine) -> None:
    write_code(with_model(machine))


def without_weights(machine: Machine, **changes: object) -> Path:
    folder = with_model(machine, **changes)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    return folder


def changed(file: str, content: bytes | str | None, what: str) -> Callable[[Machine], None]:
    """One file of the checkpoint is something else, or not there."""

    def build(machine: Machine) -> None:
        path = with_model(machine) / file
        path.unlink()
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    build.__name__ = what
    return build


def cut_shard(machine: Machine) -> None:
    path = with_model(machine) / SHARDS[1]
    path.write_bytes(path.read_bytes()[:-100])


def garbage_in_a_header(machine: Machine) -> None:
    path = with_model(machine) / SHARDS[0]
    path.write_bytes(path.read_bytes()[:8] + b"\xff" * 64 + path.read_bytes()[72:])


def cut_pickle(machine: Machine) -> None:
    folder = without_weights(machine)
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(500))


def pickle_on_an_old_torch(machine: Machine) -> None:
    """The file is harmless; this torch would run code in one that is not."""
    (without_weights(machine) / "pytorch_model.bin").write_bytes(PICKLE)


def pickle_with_a_call(machine: Machine) -> None:
    folder = without_weights(machine)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")


def no_weights(machine: Machine) -> None:
    without_weights(machine)


def wider_configuration(machine: Machine) -> None:
    with_model(machine, hidden_size=64, num_attention_heads=2)


def deeper_configuration(machine: Machine) -> None:
    with_model(machine, num_layers=28)


def head_of_no_whole_rotation(machine: Machine) -> None:
    with_model(machine, kv_channels=30)


def ids_of_another_date(machine: Machine) -> None:
    """config.json of ChatGLM-6B's second vocabulary beside ids of its first."""
    stale = {"bos_token_id": 150004, "eos_token_id": 150005, "mask_token_id": 150000, "gmask_token_id": 150001}
    with_model(machine, config=FIRST_GENERATION, **stale)


def shard_of_another_hash(machine: Machine) -> None:
    """A bit flipped on the disk: sizes and headers are right, and the download's record knows better."""
    hashes_looked_at(machine, "0" * 64)


def shards_of_their_hashes(machine: Machine) -> None:
    hashes_looked_at(machine)


def hashes_looked_at(machine: Machine, digest: str | None = None) -> None:
    folder = with_model(machine)
    machine.arguments += ["--deep", "--only", "deep.hashes"]
    records = folder / ".cache" / "huggingface" / "download"
    records.mkdir(parents=True)
    for name in SHARDS:
        digest = digest or hashlib.sha256((folder / name).read_bytes()).hexdigest()
        (records / f"{name}.metadata").write_text(f"{'c' * 40}\n{digest}\n1700000000.0\n")
        digest = None


def weight_that_is_no_number(machine: Machine) -> None:
    path = with_model(machine) / SHARDS[0]
    machine.arguments += ["--deep", "--only", "deep.numbers"]
    with path.open("r+b") as file:
        entries = read_header(file, path.stat().st_size)
        entry = next(e for n, e in entries.items() if n.endswith(".weight") and e.dtype in ("F16", "BF16"))
        file.seek(entry.begin)
        file.write(b"\xff\x7f")


def weights_that_are_numbers(machine: Machine) -> None:
    with_model(machine)
    machine.arguments += ["--deep", "--only", "deep.numbers"]


def code_on_the_hub(machine: Machine) -> None:
    """As `save_pretrained` leaves a checkpoint that came from the hub."""
    folder = with_model(machine)
    write_code(folder)
    machine.arguments += ["--only", "model.auto-map"]
    for file in (folder / "config.json", folder / "tokenizer_config.json"):
        file.write_text(re.sub(r'"(\w+_chatglm\.)', r'"THUDM/chatglm2-6b--\1', file.read_text()))


def rope_lost_in_the_conversion(machine: Machine) -> None:
    long_glm(machine, 10000.0)


def rope_kept_in_the_conversion(machine: Machine) -> None:
    long_glm(machine, 5000000.0)


def long_glm(machine: Machine, base: float) -> None:
    folder = with_model(machine)
    config = {
        "model_type": "glm",
        "architectures": ["GlmForCausalLM"],
        "max_position_embeddings": 131072,
        "rope_theta": base,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    machine.arguments += ["--only", "model.rope"]


def device_map_that_leaves_layers_out(machine: Machine) -> None:
    device_map(machine, {"transformer.embedding": 0, "transformer.encoder.layers.0": 0})


def device_map_of_everything(machine: Machine) -> None:
    device_map(machine, {"": "cpu"})


def device_map(machine: Machine, devices: dict[str, object]) -> None:
    (with_model(machine) / "device_map.json").write_text(json.dumps(devices))
    machine.arguments += ["--only", "model.device-map"]


def index_that_names_a_folder(machine: Machine) -> None:
    folder = with_model(machine)
    (folder / SHARDS[1]).unlink()
    (folder / SHARDS[1]).mkdir()


def no_such_folder(machine: Machine) -> None:
    machine.arguments += ["--model", str(machine.folder / "home" / "nowhere")]


def file_for_a_folder(machine: Machine) -> None:
    machine.arguments += ["--model", str(with_model(machine) / "config.json")]
    del machine.arguments[:2]


def old_code_and_new_transformers(machine: Machine) -> None:
    write_code(with_model(machine), OLD_MODEL, OLD_TOKENIZER)
    machine.patient(transformers="5.23.0")


def transformers_before_the_code(machine: Machine) -> None:
    write_code(with_model(machine))
    machine.patient(transformers="4.26.0")


def dot_in_the_folders_name(machine: Machine) -> None:
    write_code(with_model(machine, "chatglm2-6b-v1.0"))


def tokenizers_code_left_behind(machine: Machine) -> None:
    write_code(with_model(machine), NEW_MODEL, None)


def code_of_two_revisions(machine: Machine) -> None:
    """ChatGLM3's model code beside ChatGLM2's tokenizer."""
    write_code(with_model(machine), NEW_MODEL.replace("build_prompt", "build_chat_input"), NEW_TOKENIZER)


def auto_class_of_another_model(machine: Machine) -> None:
    write_code(with_model(machine), NEW_MODEL.replace("ChatGLMFor", "GLMFor"), NEW_TOKENIZER)


def half_on_an_old_torch(machine: Machine) -> None:
    with_model(machine)
    machine.patient("2.1.2+cpu", None, numpy="1.26.4")


def full_card(machine: Machine) -> None:
    gpu_machine(machine)
    machine.driver_libraries(MODULE, health=("FREE_MIB=200", "HOLDER=1"))
    with_model(machine)


def model_beyond_the_memory(machine: Machine) -> None:
    """The configuration alone tells what is needed; the weights are still to come."""
    machine.arguments += ["--model", "chatglm3-6b"]
    limited_by_cgroup(machine)


def model_on_a_card(machine: Machine) -> None:
    gpu_machine(machine)
    with_model(machine)


def quantised_without_compiler(machine: Machine) -> None:
    with_model(machine, quantization_bit=4)
    machine.remove_compilers()


def original_code(machine: Machine, *sources: str) -> None:
    """An int4 checkpoint whose own quantization.py compiles its kernel from C files beside it."""
    folder = without_weights(machine, quantization_bit=4)  # the shapes are not the question here
    machine.patient("2.10.0+cpu", None)
    (folder / "pytorch_model.bin").write_bytes(PICKLE)
    names = ("quantization_kernels.c", "quantization_kernels_parallel.c")
    code = "class CPUKernel:\n    pass\n" + "".join(f"source = {name!r}\n" for name in names)
    (folder / "quantization.py").write_text(code + "def quantize(model, **kwargs):\n    load_cpu_kernel(**kwargs)\n")
    for name in sources or names:
        (folder / name).write_text("int one;\n")


def c_files_left_behind(machine: Machine) -> None:
    original_code(machine, "quantization_kernels.c")


def given_kernel_is_text(machine: Machine) -> None:
    path = machine.folder / "home" / "quantization_kernels_parallel.so"
    path.write_text("compile me")
    machine.arguments += ["--kernel-file", str(path)]


def given_kernel_works(machine: Machine) -> None:
    """The kernel of the first check, given by hand."""
    stand_in_compiler(machine)
    report = machine.check("--only", "kernel.build")
    [built] = [f["evidence"]["path"] for f in report["findings"] if f["id"] == "kernel.build"]
    machine.arguments += ["--kernel-file", built]


def remote(*names: str) -> dict[str, str]:
    return {f"remote-code.{name}": f"tf-{name}" for name in names}


CODE = (
    *("new-tokenizer-init", "new-token-property", "config-attr-missing", "new-tied-weights"),
    *("no-generation-mixin", "new-pad-padding-side", "new-cache-format"),
)
CASES = (
    Case(
        whole_model,
        clears=(
            *("model.path", "model.files", "model.contents", "model.config", "model.shapes"),
            *("remote-code.floor", "remote-code.module", *remote(*CODE), "system.memory", "python.packages"),
            *("remote-code.classes", "remote-code.methods", "torch.half", "model.auto-map"),
        ),
    ),
    Case(changed(SHARDS[0], POINTER, "lfs_pointer"), {"model.contents": "lfs-pointer-checkpoint"}),
    Case(changed(SHARDS[0], PAGE, "html_page"), {"model.contents": "html-instead-of-weights"}),
    Case(changed(SHARDS[0], "", "empty_shard"), {"model.contents": "truncated-checkpoint"}),
    Case(cut_shard, {"model.contents": "truncated-checkpoint"}),
    Case(garbage_in_a_header, {"model.contents": "truncated-checkpoint"}),
    Case(pickle_with_a_call, {"model.contents": "unsafe-pickle"}),
    Case(pickle_on_an_old_torch, {"model.pickles": "torch-unsafe-pickle"}),
    Case(cut_pickle, {"model.contents": "truncated-checkpoint"}),
    Case(changed(SHARDS[1], None, "missing_shard"), {"model.files": "missing-shard"}),
    Case(changed("config.json", None, "missing_config"), {"model.files": "missing-checkpoint-file"}),
    Case(no_weights, {"model.files": "missing-checkpoint-file"}),
    Case(changed("tokenizer.model", None, "missing_tokenizer"), {"model.files": "missing-tokenizer-file"}),
    Case(
        changed("tokenizer.model", b"\x00\x01garbage", "corrupt_tokenizer"),
        {"model.contents": "sentencepiece-model-corrupt"},
    ),
    Case(changed("tokenizer.model", POINTER, "tokenizer_pointer"), {"model.contents": "lfs-pointer-checkpoint"}),
    Case(changed("config.json", json.dumps({})[:1], "cut_config"), {"model.contents": "truncated-checkpoint"}),
    Case(wider_configuration, {"model.shapes": "config-weights-mismatch"}),
    Case(deeper_configuration, {"model.shapes": "config-weights-mismatch"}),
    Case(head_of_no_whole_rotation, {"model.config": "config-weights-mismatch"}),
    Case(ids_of_another_date, {"model.config": "token-ids-mismatch"}),
    Case(shard_of_another_hash, {"deep.hashes": "truncated-checkpoint"}),
    Case(weight_that_is_no_number, {"deep.numbers": "nan-logits"}),
    Case(weights_that_are_numbers, clears=("deep.numbers",)),
    Case(shards_of_their_hashes, clears=("deep.hashes",)),
    Case(code_on_the_hub, {"model.auto-map": "auto-map-points-to-hub"}),
    Case(rope_lost_in_the_conversion, {"model.rope": "hf-rope-theta-lost"}),
    Case(rope_kept_in_the_conversion, clears=("model.rope",)),
    Case(device_map_that_leaves_layers_out, {"model.device-map": "device-map-incomplete"}),
    Case(device_map_of_everything, clears=("model.device-map",)),
    Case(index_that_names_a_folder, {"model.files": "missing-shard"}),
    Case(no_such_folder, {"model.path": "model-path-wrong"}),
    Case(file_for_a_folder, {"model.path": "model-path-wrong"}),
    Case(old_code_and_new_transformers, remote(*CODE), causes=("tf-new-tokenizer-init",)),
    Case(
        transformers_before_the_code,
        {"remote-code.floor": "tf-too-old", "python.together": "python-deps-missing"},
    ),
    Case(dot_in_the_folders_name, {"remote-code.module": "tf-remote-module-path"}),
    Case(tokenizers_code_left_behind, {"remote-code.module": "tokenizer-class-missing"}),
    Case(code_of_two_revisions, {"remote-code.methods": "remote-code-api-changed"}),
    Case(auto_class_of_another_model, {"remote-code.classes": "wrong-auto-class"}),
    Case(
        half_on_an_old_torch,
        {"torch.half": "half-on-cpu", "python.packages": "python-deps-missing"},
        causes=("python-deps-missing",),
    ),
    Case(full_card, {"model.memory": "cuda-oom"}),
    Case(model_beyond_the_memory, {"model.memory": "ram-oom", "system.memory": "ram-oom"}),
    Case(model_on_a_card, clears=("model.memory",)),
    Case(quantised_without_compiler, {"compiler.found": "gcc-missing"}),
    Case(c_files_left_behind, {"kernel.original": "cpu-kernel-not-loaded"}),
    Case(original_code, clears=("kernel.original", "model.pickles")),
    Case(given_kernel_is_text, {"kernel.given": "kernel-so-not-loadable"}),
    Case(given_kernel_works, clears=("kernel.given",)),
)
