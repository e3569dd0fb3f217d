"""What is asked of ``glmcore compile``, as an engine that can be made: lengths, rows, types and plan in agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glmcore.compiled.manifest import Graph, Stage
from glmcore.compiled.stages import stages_of
from glmcore.config import ModelConfig
from glmcore.engine.placing import fitting, plan_for
from glmcore.errors import GlmError
from glmcore.place.loader import UNCOUNTED, default_dtype, target_config
from glmcore.place.multi_devices import check_present
from glmcore.plan import Device, Plan, Precision, make_plan

LEAST_PROMPT = 2  # tokens: one is what a decode graph takes
MOST_ROWS = 1024
SYMBOLIC = (1, 32)  # rows of an engine whose batch is not fixed
GIB = 2**30


@dataclass(frozen=True)
class Request:
    """An engine that is wanted. ``roles``: of ``manifest.ROLES``; ``batch``: least and most rows."""

    config: ModelConfig  # as it is to be computed
    plan: Plan
    name: str
    pre_len: int
    total_len: int
    batch: tuple[int, int]
    roles: tuple[str, ...]
    self_contained: bool = False

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages_of(self.config, self.plan.placement, self.plan.types)

    @property
    def graphs(self) -> tuple[Graph, ...]:
        lengths = {"prefill": self.pre_len, "decode": 1, "golden": self.pre_len}
        return tuple(Graph.of(role, lengths[role], number) for role in self.roles for number in range(len(self.stages)))


def make_request(
    config: ModelConfig,
    *,
    name: str = "",
    pre_len: int = 256,
    total_len: int = 2048,
    batch: tuple[int, int] = (1, 1),
    roles: tuple[str, ...] = ("prefill", "decode"),
    dtype: str | None = None,
    quantize: str | None = None,
    device: str = "cpu",
    plan: str | Path | None = None,
    strategy: str | None = None,
    limits: Sequence[float] = (),
    self_contained: bool = False,
) -> Request:
    """The engine of ``config``, a checkpoint's own.

    dtype: a name of torch's, the fitting one where None; quantize: None, "int8" or "int4"; plan: a plan's file; limits:
    GiB of each device, over which ``strategy`` shares the model. Errors: GlmError("usage") for lengths that do not fit
    each other or the model, and for what does not go together; GlmError("memory-short", "plan-invalid",
    "device-missing").
    """
    check_lengths(config, pre_len, total_len, batch)
    target = target_config(config, quantize)
    if plan is not None:
        if strategy or limits:
            raise GlmError("usage", "--plan says itself what lies where", hint="leave --split-strategy and limits away")
        made = plan_for(plan, target, dtype)
        check_plan(made, total_len, batch)
        target = target_config(target, made.quantize)
    else:
        named = dtype or (default_dtype(target) if device == "cpu" else target.dtype)
        made = planned(target, named, device, strategy, limits, (pre_len, total_len), batch)
    check_present(made.placement.values())
    return Request(target, made, name or config.name, pre_len, total_len, batch, roles, self_contained)


def check_lengths(config: ModelConfig, pre_len: int, total_len: int, batch: tuple[int, int]) -> None:
    """GlmError("usage") for lengths and rows that no engine has."""
    if pre_len < LEAST_PROMPT:
        raise GlmError("usage", f"--pre-len {pre_len} is no prompt", hint=f"at least {LEAST_PROMPT}")
    if total_len > config.max_length:
        what = f"--total-len {total_len} is longer than the model's own {config.max_length}"
        raise GlmError("usage", what, hint=f"at most {config.max_length}")
    if pre_len >= total_len:
        what = f"--pre-len {pre_len} leaves no room for an answer in --total-len {total_len}"
        longer = f"a --total-len of up to {config.max_length}, or " if pre_len < config.max_length else ""
        raise GlmError("usage", what, hint=f"{longer}a shorter --pre-len")
    if not 1 <= batch[0] <= batch[1] <= MOST_ROWS:
        raise GlmError("usage", f"{batch[1]} rows are none of an engine", hint=f"1 to {MOST_ROWS}")


def check_plan(plan: Plan, total_len: int, batch: tuple[int, int]) -> None:
    """GlmError("plan-invalid") for a plan that counted fewer tokens or rows than the engine keeps."""
    for what, counted, kept, option in (
        ("tokens", plan.context, total_len, "--context"),
        ("rows", plan.batch, batch[1], "--batch"),
    ):
        if counted < kept:
            raise GlmError(
                "plan-invalid", f"the plan counts {counted} {what}, the engine keeps {kept}",
                hint=f"make a new one: glmcore plan {option} {kept}",
            )  # fmt: skip


def planned(
    config: ModelConfig, dtype: str, device: str, strategy: str | None, limits: Sequence[float],
    lengths: tuple[int, int], batch: tuple[int, int],
) -> Plan:  # fmt: skip
    """The plan within the limits, or of one device alone; lengths: those of prompts and in all.

    Errors: GlmError("memory-short") that says by how much it does not fit, and what would.
    """
    if strategy and not limits:
        raise GlmError("usage", "--split-strategy shares the memory of devices", hint="--multi-dev-dram-limit 8,8")
    precision = Precision.of(config, dtype)
    counted = {"precision": precision, "context": lengths[1], "batch": batch[1]}

    def over(sizes: Sequence[float]) -> Plan:
        names = [f"{device}:{n}" for n in range(len(sizes))]
        devices = [Device(name, int(size * GIB)) for name, size in zip(names, sizes, strict=True)]
        return make_plan(config, devices, strategy=strategy or "greedy", **counted)

    if not limits:
        only = Device("cpu" if device == "cpu" else f"{device}:0", UNCOUNTED)
        return make_plan(config, [only], **counted)
    plan = over(limits)
    if not plan.fits:
        # In this command's own words: what would fit is a limit, or what the planner says of types and lengths.
        needed = next((n / 4 for n in range(1, 4096) if over([n / 4] * len(limits)).fits), None)
        words = [word.replace("--context", "--total-len") for word in plan.would_fit if holds(word, lengths[0])]
        if needed:
            words.append("--multi-dev-dram-limit " + ",".join([f"{needed:g}"] * len(limits)))
        plan = replace(plan, would_fit=tuple(words))
    return fitting(plan)


def holds(word: str, pre_len: int) -> bool:
    """Whether what would fit is an engine's, too: it keeps more tokens than a prompt has, and limits are said anew."""
    option, _, value = word.partition(" ")
    return option != "--device" and not (option == "--context" and int(value) <= pre_len)
