"""torch in the examined interpreter beside the driver and the card; read from its files, never imported."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, not_looked_at, ok, skipped
from glmdoctor.checks.causes import DRIVER_FAULTS
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import Unknown
from glmdoctor.knowledge import versions
from glmdoctor.messages import text
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.severity import model_grade
from glmdoctor.readings.torch_builds import built_for, runs_on, starts
from glmdoctor.readings.versions import admits, numbers

VERSION = text("Version of torch")
BUILD = text("Build of torch")
DRIVER = text("torch beside the driver")
ARCH = text("torch beside the card's architecture")
NO_CARD = text("There is no NVIDIA card here; models run on the CPU.")
NO_CUDA = text("torch here is no CUDA build.")


def version(host: Machine) -> Iterator[Finding]:
    torch = known(host.torch)
    if not admits("<1.10", torch.version):
        yield ok(VERSION, text("{version} at {path}.", version=torch.version, path=torch.path), version=torch.version)
        return
    yield bad(
        model_grade(host),
        "torch-too-old-skip-init",
        text("torch is older than 1.10"),
        text(
            "{version} at {path} has no skip_init, which the models' code imports.",
            version=torch.version,
            path=torch.path,
        ),
        version=torch.version,
    )


def build(host: Machine) -> Iterator[Finding]:
    torch, nvml = known(host.torch), maybe(host.nvml)
    evidence = {"version": torch.version, "cuda": torch.cuda, "hip": torch.hip}
    if torch.cuda or torch.hip:
        platform = f"CUDA {torch.cuda}" if torch.cuda else f"ROCm {torch.hip}"
        yield ok(BUILD, text("{version} for {platform}.", version=torch.version, platform=platform), **evidence)
    elif not has_card(host):
        yield ok(
            BUILD, text("{version} for the CPU, which is all that this machine has.", version=torch.version), **evidence
        )
    else:
        working = nvml is not None and nvml.code == 0 and nvml.gpus
        yield bad(
            Status.FAIL if working else Status.WARN,
            "torch-cpu-only",
            text("torch without CUDA on a machine with a card"),
            text("{version} is a CPU build; the card stays unused.", version=torch.version),
            **evidence,
        )


def driver(host: Machine) -> Iterator[Finding]:
    torch, ceiling = known(host.torch), host.ceiling
    built = numbers(torch.cuda or "")[:2]
    if not built or not has_card(host):
        yield skipped(DRIVER, NO_CARD if built else NO_CUDA)
        return
    if isinstance(ceiling, Unknown):
        yield not_looked_at(DRIVER, ceiling)
        return
    values = {"cuda": torch.cuda or "", "ceiling": ".".join(map(str, ceiling.cuda)), "version": torch.version}
    if not starts(built, ceiling.cuda):
        yield _too_old(values, built[0], ceiling.library)
    elif built > ceiling.cuda:
        # Within a major the runtime works on older drivers; only PTX that must be compiled here does not.
        yield ok(
            DRIVER,
            text("CUDA {cuda} on a driver for {ceiling}: one major release, they work together.", **values),
            **values,
        )
    else:
        yield ok(DRIVER, text("CUDA {cuda} on a driver for {ceiling}.", **values), **values)


def _too_old(values: dict[str, str], major: int, library: str) -> Finding:
    rows = versions()["cuda_drivers"]["rows"]
    needed = next((row["driver"] for row in rows if row["cuda"] == major), None)
    return bad(
        Status.FAIL,
        "cuda-driver-too-old",
        text("The driver is too old for this torch"),
        text(
            "torch {version} is built for CUDA {cuda}; the driver goes up to {ceiling}{needed}.",
            needed=_from(needed),
            **values,
        ),
        library=library,
        needed_driver=needed,
        **values,
    )


def _from(driver: str | None) -> object:
    return text(" (CUDA of that release needs driver {driver} or newer)", driver=driver) if driver else ""


def architecture(host: Machine) -> Iterator[Finding]:
    torch, nvml = known(host.torch), known(host.nvml)
    gpus = [gpu for gpu in nvml.gpus if gpu.compute_capability]
    row = built_for(torch)
    if not torch.cuda or not gpus or row is None:
        yield skipped(
            ARCH, NO_CUDA if not torch.cuda else text("The card's or the build's architectures are not known.")
        )
        return
    left_out = [gpu for gpu in gpus if not runs_on(row, gpu)]
    if not left_out:
        yield ok(ARCH, text("The build has code for every card."), architectures=row["sm"])
        return
    gpu = left_out[0]
    assert gpu.compute_capability is not None
    yield bad(
        Status.FAIL,
        "torch-arch-unsupported",
        text("torch has no code for this card"),
        text(
            "{name} has compute capability {capability}; torch {version} (CUDA {cuda}) is built for {architectures}.",
            name=gpu.name,
            capability="{}.{}".format(*gpu.compute_capability),
            version=torch.version,
            cuda=torch.cuda,
            architectures=" ".join(row["sm"]),
        ),
        cards={gpu.name: "{}.{}".format(*(gpu.compute_capability or ())) for gpu in left_out},
        architectures=row["sm"],
        ptx=row["ptx"],
    )


CHECKS = (
    Check("torch.version", VERSION, version, problems=("torch-too-old-skip-init",), needs=("torch",)),
    Check(
        "torch.build",
        BUILD,
        build,
        problems=("torch-cpu-only",),
        needs=("torch",),
        explained_by=DRIVER_FAULTS,
    ),
    Check(
        "torch.driver",
        DRIVER,
        driver,
        problems=("cuda-driver-too-old",),
        needs=("torch",),
        explained_by=DRIVER_FAULTS,
    ),
    Check("torch.architecture", ARCH, architecture, problems=("torch-arch-unsupported",), needs=("torch", "nvml")),
)
