"""Packages of the examined Python: torch, transformers and what goes with them."""

from __future__ import annotations

from glmdoctor.findings import Finding, Requirements, Variables
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.readings.torch_builds import best
from glmdoctor.readings.versions import numbers
from glmdoctor.remedies.answer import Answer, Commands, Pip, Removal, Shell, by_host, pip, shell

PACKAGES = "--packages"


def torch(host: Machine) -> Commands:
    """The newest torch that the driver's CUDA ceiling, the cards and the interpreter all admit."""
    interpreter, ceiling, nvml = maybe(host.interpreter), maybe(host.ceiling), maybe(host.nvml)
    cards = [gpu.compute_capability for gpu in (nvml.gpus if nvml else ()) if gpu.compute_capability]
    python = numbers(interpreter.version)[:2] if interpreter else None
    build = best(python, ceiling.cuda if ceiling else None, cards)
    index = ("--extra-index-url", build.index) if build and build.index else ()
    return (Pip((f"torch=={build.version}", *index)),) if build else ()


def missing_packages(finding: Finding, host: Machine) -> Commands:
    """The set that was solved for this machine, else the packages that are missing."""
    return (Pip(finding.payload.arguments),) if isinstance(finding.payload, Requirements) else ()


def bitsandbytes(finding: Finding, host: Machine) -> Commands:
    if isinstance(finding.payload, Variables):
        return tuple(Shell(f"unset {name}") for name in finding.payload.names)
    return (Pip(("--upgrade", "bitsandbytes")),)


REMOTE_CODE = Answer(advice=missing_packages)
ANSWERS = {
    "cuda-driver-too-old": Answer(advice=by_host(torch), option=PACKAGES),
    "torch-cpu-only": Answer(advice=by_host(torch), option=PACKAGES),
    "torch-arch-unsupported": Answer(advice=by_host(torch), option=PACKAGES),
    "torch-too-old-skip-init": Answer(advice=pip("torch>=1.10"), option=PACKAGES),
    "torch-unsafe-pickle": Answer(advice=pip("torch>=2.10")),
    "half-on-cpu": Answer(advice=pip("torch>=2.2")),
    "mps-op-unsupported": Answer(advice=shell("export PYTORCH_ENABLE_MPS_FALLBACK=1")),
    "python-deps-missing": Answer(advice=missing_packages, option=PACKAGES),
    "protobuf-too-new": Answer(advice=pip("protobuf<3.21"), option=PACKAGES),
    "numpy2-abi": Answer(advice=pip("numpy<2"), option=PACKAGES),
    "gradio-incompatible": Answer(advice=pip("gradio>=3.39,<3.51"), option=PACKAGES),
    "pydantic-version": Answer(advice=pip("pydantic>=2,<2.11"), option=PACKAGES),
    "bitsandbytes-cuda-setup": Answer(advice=bitsandbytes, option=PACKAGES),
    "flash-attn-abi": Answer(advice=lambda finding, host: (Removal("flash-attn"),)),
    "libstdcxx-too-old": Answer(advice=shell("conda install -c conda-forge libstdcxx-ng")),
    "tf-new-tokenizer-init": REMOTE_CODE,
    "tf-new-token-property": REMOTE_CODE,
    "tf-config-attr-missing": REMOTE_CODE,
    "tf-new-pad-padding-side": REMOTE_CODE,
    "tf-new-cache-format": REMOTE_CODE,
    "tf-new-tied-weights": REMOTE_CODE,
    "tf-no-generation-mixin": REMOTE_CODE,
    "tf-too-old": Answer(advice=pip("--upgrade", "transformers")),
}
