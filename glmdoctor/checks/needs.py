"""What the packages of this machine have to satisfy at once, gathered from the facts."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Machine, known, maybe
from glmdoctor.checks.torch import built_for, runs_on
from glmdoctor.knowledge import versions
from glmdoctor.knowledge.ranges import Needs

GLMCORE_TRANSFORMERS = ">=4.44"


def needs(host: Machine, transformers: str | None = None) -> Needs:
    """What this machine asks for at once; ``transformers`` is the range that other code than glmcore's needs."""
    python, torch, nvml, ceiling = known(host.interpreter), maybe(host.torch), maybe(host.nvml), maybe(host.ceiling)
    gpus = [gpu for gpu in (nvml.gpus if nvml else ()) if gpu.compute_capability]
    row = built_for(torch) if torch else None
    return Needs(
        python=python.version,
        transformers=transformers or _for_glmcore(host),
        ceiling=ceiling.cuda if ceiling else None,
        cards=tuple(gpu.compute_capability for gpu in gpus if gpu.compute_capability),
        packages=python.packages,
        requires=python.requires,
        torch_cuda=torch.cuda if torch else None,
        torch_runs=row is None or all(runs_on(row, gpu) for gpu in gpus),
        others=tuple(_others(host)),
    )


def _for_glmcore(host: Machine) -> str | None:
    """glmcore runs without transformers, and with it from a release on."""
    python, checkpoint = known(host.interpreter), maybe(host.checkpoint)
    wanted = "transformers" in python.packages or checkpoint is None or checkpoint.generation is None
    return GLMCORE_TRANSFORMERS if wanted else None


def _others(host: Machine) -> Iterator[str]:
    """The further packages that glmcore needs for the model's generation."""
    checkpoint = maybe(host.checkpoint)
    generation = checkpoint.generation if checkpoint else None
    for row in versions()["core_packages"]["rows"]:
        if row["package"] not in ("torch", "transformers") and generation in (None, *row["generations"]):
            yield row["package"] + row["specifier"]
