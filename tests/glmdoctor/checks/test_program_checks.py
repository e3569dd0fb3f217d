"""Kills, bitsandbytes, C++ runtimes, the hub and a model's own code: each problem with and without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import Stub

from glmcore.config import NAMED
from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts
from glmdoctor.host.facts import CheckpointFile, CxxLibrary, CxxRuntime, Hub, MemoryKills, OwnCode, Process

GIB = 1 << 30
HUB = Hub(None, (), {}, (), None)
OLD = CxxLibrary("/conda/lib/libstdc++.so.6", "conda", ("GLIBCXX_3.4", "GLIBCXX_3.4.25"))
NEW = CxxLibrary("/usr/lib/libstdc++.so.6", "loader", ("GLIBCXX_3.4", "GLIBCXX_3.4.25", "GLIBCXX_3.4.30"))


def judged(machine: Stub, check: str) -> Finding:
    return examine(machine, only=[check]).findings[0]


def named(name: str = "chatglm2-6b", **config: Any) -> facts.Checkpoint:
    return facts.Checkpoint(name, False, False, False, "v2", None, {**NAMED[name].raw, **config}, (), 0)


# Programs killed for memory


def kills(machine: Stub, total: int | None, group: int | None, *names: str) -> Finding:
    killed = tuple(Process(100 + n, name) for n, name in enumerate(names))
    fact = MemoryKills(total, group, "/sys/fs/cgroup", "dmesg" if names else None, killed)
    return judged(machine.having(memory_kills=fact), "system.kills")


def test_a_kill_of_this_container_is_a_warning_with_its_counter(cpu_machine: Stub) -> None:
    found = kills(cpu_machine, 3, 2, "python3")
    assert (found.problem, found.status) == ("process-killed-ram", Status.WARN)
    assert "killed 2 in this container" in str(found.detail) and "python3 (100)" in str(found.detail)
    assert kills(cpu_machine, 3, 2).problem == "process-killed-ram", "whom is not known, but it was in here"


def test_kills_of_others_are_told_and_no_alarm(cpu_machine: Stub) -> None:
    assert kills(cpu_machine, 0, 0).status is Status.OK
    for found in (kills(cpu_machine, 3, 0), kills(cpu_machine, 3, 2, "chrome"), kills(cpu_machine, 3, None, "java")):
        assert found.status is Status.OK and "killed" in str(found.detail)
    assert kills(cpu_machine, 3, 0, "chrome", "pt_main_thread").status is Status.WARN


def test_a_kill_follows_from_too_little_memory(cpu_machine: Stub) -> None:
    fact = MemoryKills(1, 1, "/sys/fs/cgroup", "dmesg", (Process(7, "python"),))
    machine = cpu_machine.having(memory_kills=fact, memory={"available": 300 << 20})
    found = {f.id: f for f in examine(machine, only=["system.kills", "system.memory"]).findings}
    assert found["system.kills"].caused_by == ("system.memory",) and not found["system.kills"].root_cause


# bitsandbytes


@pytest.mark.parametrize(
    ("binaries", "forced", "fine"),
    [
        (("cpu", "cuda121"), "", True),
        (("cpu", "cuda118"), "", False),
        (("cpu",), "", False),
        (("cuda118", "cuda121"), "118", True),
        (("cuda121",), "118", False),
    ],
)
def test_bitsandbytes_has_a_binary_for_torchs_cuda_or_not(
    gpu_machine: Stub, binaries: tuple[str, ...], forced: str, fine: bool
) -> None:
    machine = gpu_machine.having(
        bitsandbytes=facts.Bitsandbytes("0.43.1", "/venv/lib/bitsandbytes", binaries),
        settings=facts.Settings({"BNB_CUDA_VERSION": forced} if forced else {}),
    )
    found = judged(machine, "python.bitsandbytes")
    assert (found.status, found.problem) == ((Status.OK, None) if fine else (Status.WARN, "bitsandbytes-cuda-setup"))
    assert fine or ("BNB_CUDA_VERSION=118" in str(found.detail)) == bool(forced)


def test_bitsandbytes_without_a_card_is_not_judged(cpu_machine: Stub) -> None:
    machine = cpu_machine.having(bitsandbytes=facts.Bitsandbytes("0.43.1", "/x", ("cuda118",)))
    assert judged(machine, "python.bitsandbytes").status is Status.SKIPPED
    assert judged(cpu_machine, "python.bitsandbytes").status is Status.SKIPPED


# The C++ runtime


def test_a_runtime_that_lacks_a_version_and_another_that_has_it(cpu_machine: Stub) -> None:
    needs = {"/venv/lib/torch/lib/libc10.so": ("GLIBCXX_3.4", "GLIBCXX_3.4.29", "GLIBCXX_3.4.30")}
    with_both = CxxRuntime((OLD, replace(NEW, defines=(*OLD.defines, "GLIBCXX_3.4.29", "GLIBCXX_3.4.30"))), needs)
    found = judged(cpu_machine.having(cxx_runtime=with_both), "python.cxx")
    assert (found.status, found.problem) == (Status.WARN, "libstdcxx-too-old")
    told = str(found.detail)
    assert all(word in told for word in ("/conda/lib", "libc10.so", "3.4.30", "/usr/lib/libstdc++.so.6 would do"))
    assert judged(cpu_machine.having(cxx_runtime=with_both, checkpoint=named()), "python.cxx").status is Status.WARN
    first = CxxRuntime(tuple(reversed(with_both.libraries)), needs)
    assert judged(cpu_machine.having(cxx_runtime=first), "python.cxx").status is Status.OK


def test_a_model_makes_it_a_failure_and_no_runtime_is_one_too_old(cpu_machine: Stub, chatglm2: Any) -> None:
    machine = cpu_machine.having(cxx_runtime=CxxRuntime((), {"/a.so": ("GLIBCXX_3.4",)}), checkpoint=chatglm2)
    assert judged(machine, "python.cxx").status is Status.FAIL


# Settings for the hub


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"endpoint": "hf-mirror.com"}, "no address"),
        ({"endpoint": " https://hf-mirror.com"}, "no address"),
        ({"endpoint": "http://[broken"}, "no address"),
        ({"proxies": {"HTTPS_PROXY": "http://127.0.0.1:7890"}, "silent": ("HTTPS_PROXY",)}, "nothing listens"),
        ({"proxies": {"ALL_PROXY": "socks5://…:1080"}}, "PySocks"),
        ({"proxies": {"ALL_PROXY": ""}}, "no address of a proxy"),
        ({"offline": ("HF_HUB_OFFLINE",), "cached": False}, "not in the hub's cache"),
    ],
)
def test_settings_that_keep_the_hub_away(cpu_machine: Stub, changes: dict[str, Any], words: str) -> None:
    found = judged(cpu_machine.having(hub=replace(HUB, **changes)), "hub.settings")
    assert (found.status, found.problem) == (Status.WARN, "hub-unreachable")
    assert words in str(found.detail) and found.evidence["variables"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"endpoint": "https://hf-mirror.com"},
        {"offline": ("HF_HUB_OFFLINE",)},
        {"offline": ("HF_HUB_OFFLINE",), "cached": True, "endpoint": "https://hf-mirror.com"},
        {"cached": False},
        {"proxies": {"HTTPS_PROXY": "http://127.0.0.1:7890", "HTTP_PROXY": "http://…:3128"}},
    ],
)
def test_settings_that_are_in_order(cpu_machine: Stub, changes: dict[str, Any]) -> None:
    assert judged(cpu_machine.having(hub=replace(HUB, **changes)), "hub.settings").status is Status.OK


# The checkpoint's own code


def with_code(machine: Stub, chatglm2: Any, auto_map: object, **code: Any) -> Stub:
    own = OwnCode({"modeling_chatglm.py": ("ChatGLMModel", "ChatGLMFor"), "configuration_chatglm.py": ("C",)}, ("chat",), (), ())  # fmt: skip # noqa: E501
    config = {**chatglm2.config, "auto_map": auto_map}
    return machine.having(checkpoint=replace(chatglm2, config=config), own_code=replace(own, **code))


def test_which_auto_classes_load_it(cpu_machine: Stub, chatglm2: Any) -> None:
    whole = {"AutoConfig": "configuration_chatglm.C", "AutoModel": "modeling_chatglm.ChatGLMFor"}
    found = judged(with_code(cpu_machine, chatglm2, whole), "remote-code.classes")
    assert found.status is Status.OK and "AutoModel can load it; AutoModelForCausalLM" in str(found.detail)
    elsewhere = {"AutoModel": "THUDM/chatglm2-6b--modeling_chatglm.Another"}
    assert judged(with_code(cpu_machine, chatglm2, elsewhere), "remote-code.classes").status is Status.OK


OTHERS = [None, {}, [], "x", {"AutoConfig": "configuration_chatglm.C"}, {"AutoModel": "modeling_chatglm.Gone"},
          {"AutoModel": "modeling_glm.Model"}]  # fmt: skip


@pytest.mark.parametrize("auto_map", OTHERS)
def test_no_auto_class_leads_to_it(cpu_machine: Stub, chatglm2: Any, auto_map: object) -> None:
    found = judged(with_code(cpu_machine, chatglm2, auto_map), "remote-code.classes")
    assert (found.status, found.problem) == (Status.WARN, "wrong-auto-class")


def test_model_and_tokenizer_of_one_revision_or_of_two(cpu_machine: Stub, chatglm2: Any) -> None:
    asked = ("build_chat_input", "build_prompt")
    for offers, status in ((asked, Status.OK), (("build_prompt",), Status.WARN)):
        machine = with_code(cpu_machine, chatglm2, {}, asked_of_tokenizer=asked, tokenizer_offers=offers)
        found = judged(machine, "remote-code.methods")
        assert found.status is status
    assert "tokenizer.build_chat_input" in str(found.detail) and found.problem == "remote-code-api-changed"


# Weights that are more than tensors


def test_a_pickle_that_calls_more_than_torch_does(cpu_machine: Stub, chatglm2: Any) -> None:
    fine = ("torch._utils._rebuild_tensor_v2", "collections.OrderedDict", "torch.HalfStorage", "torch.float16")
    bad = CheckpointFile("pytorch_model.bin", 9, "torch-zip", None, (*fine, "posix.system", "torch.hub.load"))
    training = CheckpointFile("training_args.bin", 9, "torch-zip", None, ("transformers.TrainingArguments",))
    good = replace(bad, imports=fine)
    machine = cpu_machine.having(checkpoint=replace(chatglm2, files=(*chatglm2.files, bad, training)))
    found = judged(machine, "model.contents")
    assert found.status is Status.FAIL and found.evidence["imports"] == {bad.name: ["posix.system", "torch.hub.load"]}
    assert "posix.system" in str(found.detail)
    machine = cpu_machine.having(checkpoint=replace(chatglm2, files=(*chatglm2.files, good, training)))
    assert judged(machine, "model.contents").status is Status.OK


def test_flash_attention_and_its_torch(gpu_machine: Stub) -> None:
    def judged_for(release: str | None) -> Finding:
        fact = facts.FlashAttention("2.7.4", "flash_attn-2.7.4+cu12torch2.4-cp311-linux_x86_64.whl", release)
        return judged(gpu_machine.having(flash_attention=fact), "python.flash-attn")  # torch is 2.4.0+cu121

    assert judged_for("2.4").status is Status.OK and judged_for(None).status is Status.SKIPPED
    found = judged_for("2.5")
    assert (found.status, found.problem) == (Status.WARN, "flash-attn-abi") and "2.4.0" in str(found.detail)
