"""The checkpoint that the user names, and the hub that it would come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glmdoctor.host.facts.base import Fact, Facts


@dataclass(frozen=True)
class CheckpointFile:
    name: str
    size: int
    # "safetensors" "torch-zip" "torch-pickle" "lfs-pointer" "html" "json" "sentencepiece" "tiktoken" "empty" "other"
    # "missing" (an index names it)
    kind: str
    fault: str | None = None  # "truncated: …", "damaged: …", "unreadable: …"
    imports: tuple[str, ...] = ()  # what the pickle in it would call, as "torch._utils._rebuild_tensor_v2"


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str  # as safetensors names it: "F16", "I8"
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder as it lies on the disk; no weights are read."""

    path: str
    exists: bool
    is_folder: bool
    readable: bool
    generation: str | None  # "v1" "v2" "v3" "glm4"
    quantization_bit: int | None
    config: Mapping[str, object]
    files: tuple[CheckpointFile, ...]
    weight_bytes: int
    # what its own Python files show about their age ("tokenizer-init-early", …; "present" first); () where it has none
    remote_code: tuple[str, ...] = ()
    tensors: tuple[Tensor, ...] = ()  # the embedding and each layer's last projection; of safetensors files only
    misfit: str | None = None  # the first tensor that is not as config.json asks; of safetensors files only
    # JSON file → values of its auto_map that name another repository, as "THUDM/chatglm3-6b--modeling_chatglm.X"
    code_elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    device_map: Mapping[str, str] = field(default_factory=dict)  # of device_map.json beside it: module → device
    # compute capabilities (61, 80) of the machine code inside its quantization.py; () where there is none, or PTX too
    gpu_code: tuple[int, ...] = ()


@dataclass(frozen=True)
class OwnCode:
    """What a checkpoint's own Python files define and ask for, by their text; nothing is imported."""

    classes: Mapping[str, tuple[str, ...]]  # file → its classes
    offers: tuple[str, ...]  # ways to talk to the model: "chat", "stream_chat"
    asked_of_tokenizer: tuple[str, ...]  # methods that the model's code calls on the tokenizer that it is given
    tokenizer_offers: tuple[str, ...]  # those of them that the tokenizer's code defines


@dataclass(frozen=True)
class FileHash:
    """The sha256 of a checkpoint's file beside the one that it should have (``--deep``)."""

    name: str
    size: int
    sha256: str
    expected: str | None  # None where nothing tells
    source: str  # what tells it: "hub cache" "download record" "git lfs"; ""
    not_finite: tuple[str, ...] = ()  # the first weights that hold a NaN or an infinity
    looked_into: bool = False  # whether its weights were looked at for those


@dataclass(frozen=True)
class Hub:
    """The settings by which the hub would be reached; nothing is sent."""

    endpoint: str | None
    offline: tuple[str, ...]  # variables that forbid the network
    proxies: Mapping[str, str]  # variable → "http://127.0.0.1:7890"; other machines' names are left out
    silent: tuple[str, ...]  # variables whose proxy is on this machine, where nothing listens on its port
    cached: bool | None  # is the model that was named in the hub's cache; None where no hub name was
    # this machine's own names that no_proxy leaves to a proxy for plain HTTP; empty where there is none
    own_names_through_proxy: tuple[str, ...] = ()


class ModelFacts(Facts):
    checkpoint = Fact(Checkpoint, "checkpoint.checkpoint")
    own_code = Fact(OwnCode, "own_code.own_code")
    hashes = Fact(tuple[FileHash, ...], "deep.hashes", slow=True)
    hub = Fact(Hub, "hub.hub")
