"""From a finding to what can be done about it: a plan for `glmdoctor fix`, or advice. Nothing is done here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from glmdoctor.findings import Finding, Remedy
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies import advice, chains, links, variables
from glmdoctor.remedies.plan import Options, Plan

__all__ = ["KERNEL", "PACKAGES", "SYMLINK", "Options", "Plan", "plan", "plans", "propose"]

Planner = Callable[[Finding, "Machine", Options], Plan | None]

PLANNERS: Mapping[str, tuple[Planner, ...]] = {
    "libcuda-not-in-cuda-path": (links.plan,),
    "cpm-toolkit-libs-missing": (links.plan,),
    "libcuda-stub-loaded": (variables.drop_strays, links.plan, chains.around),
    "libcuda-link-broken": (chains.mend,),
    "libcuda-so-missing": (chains.reach,),
    "linker-cache-stale": (chains.refresh,),
    "driver-library-mismatch": (variables.drop_strays, chains.part),
    "cuda-compat-lib-conflict": (variables.drop_strays, chains.around),
    "wsl-libcuda-shadowed": (variables.drop_strays, chains.around),
    "cublaslt-symbol-conflict": (variables.drop_strays,),
    "cuda-path-wrong": (variables.set_cuda_path,),
}
# What `fix --symlink`, `fix --packages` and `fix --kernel` are about, by problem.
SYMLINK = frozenset(
    (
        "libcuda-not-in-cuda-path",
        "cpm-toolkit-libs-missing",
        "libcuda-stub-loaded",
        "libcuda-link-broken",
        "libcuda-so-missing",
        "wsl-libcuda-shadowed",
        "driver-library-mismatch",
        "linker-cache-stale",
        "cuda-path-wrong",
    )
)
PACKAGES = frozenset(
    (
        "python-deps-missing",
        "protobuf-too-new",
        "numpy2-abi",
        "gradio-incompatible",
        "pydantic-version",
        "torch-too-old-skip-init",
        "torch-cpu-only",
        "bitsandbytes-cuda-setup",
        "torch-arch-unsupported",
        "cuda-driver-too-old",
    )
)
KERNEL = frozenset(("cpu-kernel-not-loaded", "kernel-so-not-loadable", "gcc-missing"))


def plan(finding: Finding, host: Machine, *, options: Options) -> Plan | None:
    """The repair of a finding that can be carried out and taken back."""
    found = (planner(finding, host, options) for planner in PLANNERS.get(finding.problem or "", ()))
    return next((plan for plan in found if plan), None)


def plans(findings: Iterable[Finding], host: Machine, *, options: Options) -> tuple[Plan, ...]:
    """A plan for each finding that has one; findings that the same actions answer share it."""
    merged: dict[tuple[object, ...], Plan] = {}
    for finding in findings:
        found = plan(finding, host, options=options)
        if found:
            key = (found.actions, tuple(found.environment.items()))
            first = merged.setdefault(key, found)
            merged[key] = replace(first, findings=tuple(dict.fromkeys((*first.findings, *found.findings))))
    return tuple(merged.values())


def propose(finding: Finding, host: Machine) -> tuple[Remedy, ...]:
    """What to do about a finding, the best first: the plan `fix` would carry out, then advice with commands to read."""
    found = plan(finding, host, options=_likely(host))
    automatic = (_remedy(found, finding),) if found else ()
    return (*automatic, *advice.advise(finding, host))


def _remedy(found: Plan, finding: Finding) -> Remedy:
    option = "--symlink" if finding.problem in SYMLINK else f"--only {finding.id}"
    shell = () if found.actions else found.commands  # lines that hold without anything being done first
    return Remedy(found.id, found.title, True, found.needs_root, True, (f"glmdoctor fix {option}", *shell))


def _likely(host: Machine) -> Options:
    """What `fix` will most likely be able to do: as root anything, else only what lies in the user's own folder."""
    state, os = maybe(host.state), maybe(host.os)
    known = state.private_cuda if state else None
    private = known.removesuffix("/cuda") if known else "~/.local/share/glmdoctor"
    return Options(private, lambda folder: bool(os and os.effective_uid == 0))
