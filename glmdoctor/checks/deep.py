"""``--deep``: a real kernel on each device, the speed that its memory allows a model, and the weights' hashes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from glmcore.config import NAMED, ModelConfig
from glmcore.errors import GlmError
from glmcore.plan import Device, Plan, Precision, make_plan
from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import DRIVER_TOO_OLD, NO_CODE, TORCH_UNFIT
from glmdoctor.checks.fit import PRECISIONS, THE_6B, USUAL_CONTEXT
from glmdoctor.checks.nvml import NONE_VISIBLE
from glmdoctor.findings import Files, Finding, Status
from glmdoctor.host.facts import FileHash, KernelRun
from glmdoctor.messages import Text, text
from glmdoctor.readings.severity import model_grade

CPU = text("CPU kernel on a real layer")
GPU = text("Each card on a real product")
HASHES = text("Hashes of the weights")
NUMBERS = text("Numbers among the weights")
OPENMP = text("OpenMP runtimes that torch and numpy load")
# LLVM's runtime and Intel's are one, and refuse to be loaded twice; GNU's libgomp gets on with them and with itself.
ONE_OF_A_KIND = re.compile(r"lib(?:i?omp5|omp)(?![a-z])")

# int4 weights with float32 sums; float16 products of whole numbers that float16 holds exactly up to 2048.
CPU_TOLERANCE, GPU_TOLERANCE = 1e-5, 1e-2


def cpu(host: Machine) -> Iterator[Finding]:
    run = known(host.cpu_run)
    if run.fault or (run.error or 0.0) > CPU_TOLERANCE:
        yield bad(
            model_grade(host),
            "cpu-kernel-not-loaded",
            text("The CPU kernel fails on a real layer"),
            _fault(run),
            **vars(run),
        )
        return
    free = host.memory
    budget = getattr(free, "usable", 0)
    yield _measured(CPU, host, run, budget)


def gpu(host: Machine) -> Iterator[Finding]:
    nvml, runs = maybe(host.nvml), known(host.gpu_runs)
    if not runs:
        yield bad(
            Status.FAIL,
            NONE_VISIBLE,
            text("torch sees no card"),
            text(
                "NVML lists {count}, but torch of the examined Python counts none.", count=len(nvml.gpus) if nvml else 0
            ),
        )
    free = {f"cuda:{gpu.index}": gpu.memory_free for gpu in (nvml.gpus if nvml else ())}
    for run in runs:
        if run.fault or (run.error or 0.0) > GPU_TOLERANCE:
            yield bad(
                Status.FAIL,
                _gpu_problem(run.fault or "", host),
                text("A card fails on a real product"),
                _fault(run),
                **vars(run),
            )
        else:
            yield _measured(GPU, host, run, free.get(run.device, 0))


# What torch says → the catalogue's problem; anything else is a fault of the card.
SAYINGS = (
    ("no kernel image", NO_CODE),
    ("out of memory", "cuda-oom"),
    ("driver version is insufficient", DRIVER_TOO_OLD),
    ("system not yet initialized", "cuda-system-not-ready"),
    ("unknown error", "cuda-unknown-error-999"),
    ("No CUDA GPUs", NONE_VISIBLE),
)


# cuInit's answer 3, of which only nvidia_uvm of the open module is known to be the cause.
NOT_INITIALIZED = re.compile(r"\bError 3\b|initialization error|CUDA_ERROR_NOT_INITIALIZED")


def _gpu_problem(fault: str, host: Machine) -> str:
    driver = maybe(host.kernel_driver)
    if driver and driver.open_module and NOT_INITIALIZED.search(fault):
        return "uvm-hmm-cuinit-fails"
    return next((problem for words, problem in SAYINGS if words in fault), "gpu-xid-fault")


def _fault(run: KernelRun) -> Text:
    if run.fault:
        return text("{device}: {fault}", device=run.device, fault=run.fault)
    return text("{device} is off by {error} where the result is known.", device=run.device, error=f"{run.error:.1e}")


def _measured(title: Text, host: Machine, run: KernelRun, budget: int) -> Finding:
    speeds = dict(expected(config_of(host), run, budget))
    name = config_of(host).name or THE_6B
    rates = ", ".join(f"{precision} {speed:.1f}" for precision, speed in speeds.items())
    return ok(
        title,
        text(
            "{device} agrees with exact numbers ({milliseconds} ms) and reads {bandwidth} GB/s; "
            "{model} decodes at up to {rates} tokens/s.",
            device=run.device,
            milliseconds=f"{(run.seconds or 0) * 1000:.1f}",
            bandwidth=f"{(run.bandwidth or 0) / 1e9:.1f}",
            model=name,
            rates=rates or "-",
        ),
        **vars(run),
        model=name,
        tokens_per_s=speeds,
    )


def config_of(host: Machine) -> ModelConfig:
    """The model that was named, else the 6B."""
    checkpoint = maybe(host.checkpoint)
    try:
        return ModelConfig.from_dict(checkpoint.config) if checkpoint else NAMED[THE_6B]
    except GlmError:
        return NAMED[THE_6B]


def expected(config: ModelConfig, run: KernelRun, budget: int) -> Iterator[tuple[str, float]]:
    """Precision → tokens per second at the memory's limit, where the model fits on this device alone."""
    own, context = config.quantization_bit, min(USUAL_CONTEXT, config.max_length)
    for name, bits in PRECISIONS.items():
        if own and not 0 < bits <= own:
            continue
        plan = _plan(config, run, budget, Precision("float16", bits, config.quantised(bits).embedding_bits), context)
        if plan and plan.fits and plan.tokens_per_s:
            yield name, round(plan.tokens_per_s, 2)


def _plan(config: ModelConfig, run: KernelRun, budget: int, precision: Precision, context: int) -> Plan | None:
    if budget <= 0 or not run.bandwidth:
        return None
    return make_plan(config, [Device(run.device, budget, run.bandwidth)], precision=precision, context=context)


def hashes(host: Machine) -> Iterator[Finding]:
    files = known(host.hashes)
    wrong = [file for file in files if file.expected and file.expected != file.sha256]
    compared = sum(file.expected is not None for file in files)
    if wrong:
        yield bad(
            Status.FAIL,
            "truncated-checkpoint",
            text("A file differs from the one that was published"),
            text(
                "{files}: its sha256 is not the one in the {source}. Download it again.",
                files=", ".join(file.name for file in wrong[:4]),
                source=wrong[0].source,
            ),
            Files(tuple(file.name for file in wrong)),
            files={file.name: {"sha256": file.sha256, "expected": file.expected} for file in wrong},
        )
    elif compared:
        yield ok(HASHES, text("{count} files have the sha256 that they should have.", count=compared), **_all(files))
    else:
        yield ok(
            HASHES,
            text("{count} files hashed; nothing here tells which sha256 they should have.", count=len(files)),
            **_all(files),
        )


def numbers(host: Machine) -> Iterator[Finding]:
    files = known(host.hashes)
    wrong = {file.name: list(file.not_finite) for file in files if file.not_finite}
    looked_at = [file.name for file in files if file.looked_into]
    if wrong:
        file, names = next(iter(wrong.items()))
        yield bad(
            Status.FAIL,
            "nan-logits",
            text("Weights that are no numbers"),
            text(
                "{file}: {names} hold NaN or infinity, so the logits do. Download the file again; if its sha256 is "
                "right, the model was saved so: take another.",
                file=file,
                names=", ".join(names),
            ),
            weights=wrong,
        )
    elif looked_at:
        yield ok(NUMBERS, text("Finite in each of {count} files.", count=len(looked_at)), files=looked_at)
    else:
        yield skipped(NUMBERS, text("There are no weights of safetensors or torch.save to look into."))


def openmp(host: Machine) -> Iterator[Finding]:
    found = known(host.openmp)
    twice = [path for path in found.runtimes if ONE_OF_A_KIND.match(posixpath.basename(path))]
    if found.fault or len(twice) > 1:
        what = found.fault or ", ".join(twice)
        yield bad(
            Status.FAIL if found.fault else Status.WARN,
            "openmp-runtime-duplicated",
            text("Two OpenMP runtimes in one process"),
            text("Importing numpy and torch together: {what}", what=what),
            fault=found.fault,
            runtimes=list(found.runtimes),
        )
    else:
        yield ok(OPENMP, text("They get on with each other."), runtimes=list(found.runtimes))


def _all(files: Sequence[FileHash]) -> dict[str, object]:
    return {"sha256": {file.name: file.sha256 for file in files}}


CHECKS = (
    Check(
        "deep.cpu",
        CPU,
        cpu,
        problems=("cpu-kernel-not-loaded",),
        needs=("cpu_run",),
        explained_by=("gcc-missing",),
        deep=True,
    ),
    Check(
        "deep.gpu",
        GPU,
        gpu,
        problems=tuple(dict.fromkeys([*(problem for _, problem in SAYINGS), "uvm-hmm-cuinit-fails", "gpu-xid-fault"])),
        needs=("gpu_runs",),
        explained_by=(
            *TORCH_UNFIT,
            "cuda-system-not-ready",
            "gpu-lost",
            "gpu-ecc-errors",
        ),
        deep=True,
    ),
    Check("deep.openmp", OPENMP, openmp, problems=("openmp-runtime-duplicated",), needs=("openmp",), deep=True),
    Check("deep.hashes", HASHES, hashes, problems=("truncated-checkpoint",), needs=("hashes",), deep=True),
    Check(
        "deep.numbers",
        NUMBERS,
        numbers,
        problems=("nan-logits",),
        needs=("hashes",),
        explained_by=("truncated-checkpoint",),
        deep=True,
    ),
)
