"""What the packages of this machine have to satisfy at once, gathered from the facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from glmdoctor.knowledge import versions
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.machine import Machine, known, maybe
from glmdoctor.readings.ranges import Needs
from glmdoctor.readings.torch_builds import built_for, runs_on


def needs(host: Machine, transformers: str | None = None) -> Needs:
    """What this machine asks for at once; ``transformers`` is the range that other code than glmcore's needs."""
    python, torch, nvml, ceiling = known(host.interpreter), maybe(host.torch), maybe(host.nvml), maybe(host.ceiling)
    gpus = [gpu for gpu in (nvml.gpus if nvml else ()) if gpu.compute_capability]
    row = built_for(torch) if torch else None
    return Needs(
        python=python.version,
        transformers=transformers or _for_glmcore(host),
        # A libcuda without a card answers too.
        ceiling=ceiling.cuda if ceiling and has_card(host) else None,
        cards=tuple(gpu.compute_capability for gpu in gpus if gpu.compute_capability),
        packages=python.packages,
        requires=python.requires,
        torch_cuda=torch.cuda if torch else None,
        torch_runs=row is None or all(runs_on(row, gpu) for gpu in gpus),
        others=tuple(_others(host)),
        torch=glmcore_range("torch"),
    )


def _for_glmcore(host: Machine) -> str | None:
    """glmcore runs without transformers, and with it from a release on."""
    python, checkpoint = known(host.interpreter), maybe(host.checkpoint)
    wanted = "transformers" in python.packages or checkpoint is None or checkpoint.generation is None
    return glmcore_range("transformers") if wanted else None


def _others(host: Machine) -> Iterator[str]:
    """The further packages that glmcore needs for the model's generation."""
    checkpoint = maybe(host.checkpoint)
    generation = checkpoint.generation if checkpoint else None
    for row in versions()["core_packages"]["rows"]:
        if row["package"] not in ("torch", "transformers") and generation in (None, *row["generations"]):
            yield row["package"] + row["specifier"]


def glmcore_range(package: str) -> str:
    """The tested range of a package, as setup.cfg has it."""
    rows = versions()["core_packages"]["rows"]
    found: str = next(row["specifier"] for row in rows if row["package"] == package)
    return found


def untested(asked: Needs) -> Needs:
    """The same without the upper bounds of what glmcore is tested with."""
    return replace(asked, torch=floor(asked.torch), transformers=asked.transformers and floor(asked.transformers))


def floor(specifier: str) -> str:
    """The lower bound, which a range of this project names first."""
    return specifier.split(",")[0]
