"""The toolkit libraries by the search rules of cpm_kernels, which the original quantised models run on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import NO_MODULE, OUT_OF_REACH, WRONG_LIBCUDA
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import CpmHit, NvmlGpu
from glmdoctor.messages import text
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.severity import model
from glmdoctor.readings.versions import numbers

TOOLKIT = text("Toolkit libraries where cpm_kernels looks")
CUDART = text("cudart that cpm_kernels picks")
PTX = text("PTX of NVRTC beside the driver")
SEARCH = text("PATH as cpm_kernels lists it")
CODE = text("Machine code of cpm_kernels")
# Machine code runs on its own architecture and on later ones of the same generation, except that an embedded
# processor's runs, and is run, by its own number alone.
EMBEDDED = (53, 62, 72, 87)
LIBRARIES = ("cudart", "nvrtc", "cublasLt")


def toolkit(host: Machine) -> Iterator[Finding]:
    cpm, checkpoint = known(host.cpm), model(host)
    quantised = bool(checkpoint and checkpoint.quantization_bit)
    if not has_card(host):
        yield skipped(TOOLKIT, text("There is no NVIDIA card here; models run on the CPU."))
        return
    hits = [hit for hit in cpm.hits if hit.library in LIBRARIES]
    missing = [hit for hit in hits if not hit.path or hit.loads is False]
    if not missing:
        found = {hit.library: hit.path for hit in hits}
        yield ok(TOOLKIT, text("All found: {files}.", files=", ".join(str(path) for path in found.values())), **found)
        return
    if cpm.version is None and not quantised:
        yield skipped(TOOLKIT, text("cpm_kernels is not installed, and no quantised model was named."))
        return
    yield bad(
        # glmcore has kernels of its own; only a quantised model of the original kind cannot do without.
        Status.FAIL if quantised else Status.WARN,
        "cpm-toolkit-libs-missing",
        text("cpm_kernels does not find the toolkit's libraries"),
        text(
            "It finds no {names}; it looked for {tried}.",
            names=", ".join(hit.library for hit in missing),
            tried=", ".join(missing[0].tried),
        ),
        missing=[hit.library for hit in missing],
        tried={hit.library: list(hit.tried) for hit in missing},
        bundled=_bundled(host),
    )


def _bundled(host: Machine) -> list[str]:
    torch = maybe(host.torch)
    return list(torch.bundled) if torch else []


def ptx(host: Machine) -> Iterator[Finding]:
    """What NVRTC compiles is PTX of its own release, and a driver's compiler knows no release later than its own."""
    cpm, ceiling = known(host.cpm), known(host.ceiling).cuda
    hit = next((hit for hit in cpm.hits if hit.library == "nvrtc" and hit.path and hit.loads is not False), None)
    version = _nvrtc_version(host, hit) if hit else ()
    values = {"nvrtc": ".".join(map(str, version)), "ceiling": ".".join(map(str, ceiling))}
    if not has_card(host) or cpm.version is None or hit is None or not version:
        yield skipped(PTX, text("cpm_kernels, the card or NVRTC's version is missing."))
    elif version <= ceiling:
        yield ok(PTX, text("NVRTC {nvrtc} on a driver for {ceiling}.", **values), path=hit.path, **values)
    else:
        yield bad(
            Status.WARN,  # glmcore then takes Triton or torch; the original's code brings machine code
            "ptx-newer-than-driver",
            text("NVRTC is newer than the driver"),
            text(
                "cpm_kernels takes {path} of CUDA {nvrtc}; the driver knows PTX up to {ceiling} and refuses later one "
                "(error 222), so the backend cpm_kernels cannot be used.",
                path=hit.path,
                **values,
            ),
            path=hit.path,
            **values,
        )


def _nvrtc_version(host: Machine, hit: CpmHit) -> tuple[int, ...]:
    """Major and minor release, by the file's toolkit, its wheel or its own name; () where the minor does not show."""
    file, cuda, interpreter = hit.real or hit.path or "", maybe(host.cuda), maybe(host.interpreter)
    toolkits = cuda.toolkits if cuda else {}
    homes = [version for folder, version in toolkits.items() if version and file.startswith(f"{folder}/")]
    packages = interpreter.packages if interpreter and re.search(r"-packages/nvidia/", file) else {}
    wheels = [version for name, version in packages.items() if name.startswith("nvidia-cuda-nvrtc")]
    named = file.rpartition(".so.")[2]
    found = next((numbers(version)[:2] for version in (*homes, *wheels, named) if version), ())
    return found if len(found) == 2 else ()


def cudart(host: Machine) -> Iterator[Finding]:
    os, cpm, checkpoint = known(host.os), known(host.cpm), model(host)
    quantised = bool(checkpoint and checkpoint.quantization_bit)
    hit = next((hit for hit in cpm.hits if hit.library == "cudart"), None)
    if os.system != "Windows" or hit is None or not hit.path:
        yield skipped(CUDART, text("Only Windows has cpm_kernels take the first cudart64_*.dll on PATH."))
        return
    if cpm.version is None and not quantised:
        yield skipped(CUDART, text("cpm_kernels is not installed, and no quantised model was named."))
        return
    number = re.search(r"cudart64_(\d+)\.dll$", hit.path, re.IGNORECASE)
    # CUDA 6.5 and older (numbers up to 65) lack cudaLaunchKernel; 12 and 13 are the newest.
    ancient = bool(number and 20 <= int(number.group(1)) < 70)
    if not ancient and "physx" not in hit.path.lower():
        yield ok(CUDART, text("It takes {path} ({rule}).", path=hit.path, rule=hit.rule), path=hit.path)
        return
    yield bad(
        # As for its other libraries: only a quantised model of the original kind cannot do without.
        Status.FAIL if quantised and has_card(host) else Status.WARN,
        "cpm-wrong-cudart-picked",
        text("cpm_kernels picks a foreign cudart"),
        text("The first cudart64_*.dll on PATH is {path}, which is too old for it.", path=hit.path),
        path=hit.path,
        tried=list(hit.tried),
    )


def search(host: Machine) -> Iterator[Finding]:
    os, cpm = known(host.os), known(host.cpm)
    if os.system != "Windows" or cpm.version is None:
        yield skipped(SEARCH, text("cpm_kernels lists PATH on Windows alone, and only where it is installed."))
    elif cpm.path_files:
        yield bad(
            Status.WARN,
            "cpm-path-entry-is-file",
            text("PATH names a file where cpm_kernels expects folders"),
            text(
                "PATH has {file}, which is a file: importing cpm_kernels lists it as a folder and raises "
                "NotADirectoryError. glmcore does not import it.",
                file=cpm.path_files[0],
            ),
            files=list(cpm.path_files),
        )
    else:
        yield ok(SEARCH, text("Each entry that exists is a folder."))


def code(host: Machine) -> Iterator[Finding]:
    """Machine code of cpm_kernels, and what the model's own quantization.py holds, against each card."""
    cpm, nvml, checkpoint = known(host.cpm), known(host.nvml), model(host)
    cards = [gpu for gpu in nvml.gpus if gpu.compute_capability]
    own = checkpoint.gpu_code if checkpoint else ()
    if not cards or not (cpm.architectures or own):
        yield skipped(CODE, text("There is no card, or no machine code of cpm_kernels, to compare."))
        return
    bare = [gpu for gpu in cards if cpm.architectures and not _runs(_number(gpu), cpm.architectures)]
    yield from (_bare(gpu, cpm.architectures, cpm.version or "?") for gpu in bare)
    foreign = [gpu for gpu in cards if own and not _runs(_number(gpu), own)]
    yield from (_bare(gpu, own, None) for gpu in foreign)
    if not bare and not foreign:
        found = cpm.architectures or own
        yield ok(CODE, text("Its code for {found} fits each card.", found=_shown(found)), architectures=list(found))


def _bare(gpu: NvmlGpu, architectures: Sequence[int], version: str | None) -> Finding:
    """A card without code in cpm_kernels of ``version``, or where that is None in the model's own file."""
    values = {"index": gpu.index, "name": gpu.name, "capability": _shown([_number(gpu)])}
    if version:
        title = text("cpm_kernels has no code for this card")
        detail = text(
            "GPU {index} ({name}) is of architecture {capability}; cpm_kernels {version} has machine code for "
            "{found} and no PTX. glmcore has kernels of its own.",
            found=_shown(architectures),
            version=version,
            **values,
        )
    else:
        title = text("The model's own quantization.py has no code for this card")
        detail = text(
            "GPU {index} ({name}) is of architecture {capability}; the model's own quantization.py has machine code "
            "for {found} and no PTX. glmcore has kernels of its own.",
            found=_shown(architectures),
            **values,
        )
    return bad(
        Status.WARN,  # glmcore's kernels are its own
        "cpm-kernels-arch-unsupported",
        title,
        detail,
        index=gpu.index,
        capability=_number(gpu),
        architectures=list(architectures),
    )


def _shown(architectures: Sequence[int]) -> str:
    return ", ".join(f"{number / 10:.1f}" for number in architectures)


def _number(gpu: NvmlGpu) -> int:
    major, minor = gpu.compute_capability or (0, 0)
    return major * 10 + minor


def _runs(card: int, code: Sequence[int]) -> bool:
    if card in code or card in EMBEDDED:
        return card in code
    return any(card // 10 == each // 10 and each < card and each not in EMBEDDED for each in code)


CHECKS = (
    Check(
        "cpm.toolkit",
        TOOLKIT,
        toolkit,
        problems=("cpm-toolkit-libs-missing",),
        needs=("cpm",),
        # Without a running driver nobody can use them, so their absence is no finding of its own.
        explained_by=("cuda-path-wrong", *NO_MODULE, *OUT_OF_REACH),
    ),
    Check(
        "cpm.ptx",
        PTX,
        ptx,
        problems=("ptx-newer-than-driver",),
        needs=("cpm", "ceiling"),
        explained_by=WRONG_LIBCUDA,
    ),
    Check("cpm.path", SEARCH, search, problems=("cpm-path-entry-is-file",), needs=("os", "cpm")),
    Check("cpm.code", CODE, code, problems=("cpm-kernels-arch-unsupported",), needs=("cpm", "nvml")),
    Check("cpm.cudart", CUDART, cudart, problems=("cpm-wrong-cudart-picked",), needs=("os", "cpm")),
)
