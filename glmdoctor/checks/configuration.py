"""Words in a checkpoint's JSON files that lead transformers astray, though every file is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from posixpath import join

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import expected
from glmdoctor.checks.base import Check, Machine, bad, known, ok, skipped
from glmdoctor.findings import AutoMap, Finding, RopeTheta, Status
from glmdoctor.host.facts import Checkpoint
from glmdoctor.messages import text

AUTO_MAP = text("Where the model's own code is looked for")
ROPE = text("Base of the rotary embedding")
DEVICES = text("Devices for each part of the model")
SHOWN = 3  # parts without a device that are named
# transformers' convert_glm_weights_to_hf.py writes 10000 × rope_ratio, and finds no rope_ratio: a ratio of 1.
LOST_BASE = 10000
LONG = 1 << 17  # positions from which GLM-4-9B has another ratio
RATIOS = ((1 << 20, 10000), (LONG, 500))  # positions → the ratio that the published checkpoint has


def auto_map(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.readable:
        yield skipped(AUTO_MAP, text("There is no folder of files to look at."))
        return
    strays = {file: values for file, values in checkpoint.code_elsewhere.items() if values}
    for file, values in strays.items():
        yield bad(
            Status.WARN,
            "auto-map-points-to-hub",
            text("auto_map leads to the hub, though the folder is here"),
            text(
                "{file} in {folder} has {value}: transformers fetches that code from the hub; glmcore needs none.",
                file=file,
                folder=checkpoint.path,
                value=values[0],
            ),
            AutoMap(join(checkpoint.path, file), values),
            file=file,
            folder=checkpoint.path,
            values=list(values),
        )
    if not strays:
        yield ok(AUTO_MAP, text("No auto_map leads out of the folder."))


def rope(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    wanted = lost_base(checkpoint)
    if checkpoint.config.get("model_type") != "glm":
        yield skipped(ROPE, text("This is no GLM-4 in the layout of transformers."))
    elif wanted is None:
        yield ok(ROPE, text("rope_theta is not what the conversion loses."), rope_theta=_base(checkpoint))
    else:
        yield bad(
            Status.WARN,
            "hf-rope-theta-lost",
            text("rope_theta was lost in the conversion"),
            text(
                "config.json in {folder} has rope_theta {found} for {positions} positions; the original has {wanted}. "
                "Short chats look right, long ones decay.",
                folder=checkpoint.path,
                found=LOST_BASE,
                positions=checkpoint.config["max_position_embeddings"],
                wanted=wanted,
            ),
            RopeTheta(join(checkpoint.path, "config.json"), wanted),
            file="config.json",
            folder=checkpoint.path,
            rope_theta=wanted,
        )


def lost_base(checkpoint: Checkpoint) -> int | None:
    """The rope_theta that a long GLM-4-9B of transformers' layout should have; None where its own may be right."""
    positions = checkpoint.config.get("max_position_embeddings")
    if checkpoint.config.get("model_type") != "glm" or not isinstance(positions, int) or positions < LONG:
        return None
    if _base(checkpoint) != LOST_BASE:
        return None
    return LOST_BASE * next(ratio for least, ratio in RATIOS if positions >= least)


def _base(checkpoint: Checkpoint) -> object:
    """transformers 5 writes it among `rope_parameters`; without either it takes 10000."""
    nested = checkpoint.config.get("rope_parameters")
    found = nested.get("rope_theta") if isinstance(nested, dict) else None
    return found or checkpoint.config.get("rope_theta", LOST_BASE)


def device_map(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.device_map:
        yield skipped(DEVICES, text("There is no device_map.json in the folder."))
        return
    try:
        tensors = tuple(expected(ModelConfig.from_dict(checkpoint.config)))
    except GlmError:
        yield skipped(DEVICES, text("config.json does not tell which parts this model has."))
        return
    left_out = without_device(tensors, tuple(checkpoint.device_map))
    if not left_out:
        yield ok(DEVICES, text("device_map.json has a device for each of {count} tensors.", count=len(tensors)))
        return
    yield bad(
        Status.WARN,  # glmcore makes a plan of its own
        "device-map-incomplete",
        text("device_map.json leaves parts without a device"),
        text(
            "{folder}/device_map.json has no device for {names} and others, {count} of {all} tensors: accelerate "
            "refuses it. Its names may be another generation's.",
            folder=checkpoint.path,
            names=", ".join(left_out[:SHOWN]),
            count=len(left_out),
            all=len(tensors),
        ),
        without=list(left_out[:SHOWN]),
        count=len(left_out),
        map=dict(checkpoint.device_map),
    )


def without_device(tensors: Sequence[str], modules: Sequence[str]) -> tuple[str, ...]:
    """Tensors of which the map names neither them nor a module that they lie in; as accelerate's check_device_map."""
    named = set(modules)
    return tuple(name for name in tensors if not named & {"", *_enclosing(name)})


def _enclosing(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


CHECKS = (
    Check("model.device-map", DEVICES, device_map, problems=("device-map-incomplete",), needs=("checkpoint",)),
    Check("model.auto-map", AUTO_MAP, auto_map, problems=("auto-map-points-to-hub",), needs=("checkpoint",)),
    Check("model.rope", ROPE, rope, problems=("hf-rope-theta-lost",), needs=("checkpoint",)),
)
