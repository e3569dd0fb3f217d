"""The compiled engine that ``--model`` names: are its files what they were, and was it compiled for this machine?

torch only warns of code that was compiled for another processor, and then runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import Engine, EngineFile
from glmdoctor.messages import Text, text

TITLE = text("Compiled engine")
HASHES = text("Hashes of the engine's weights")
SHOWN = 4  # files in a sentence; the report has all
FOREIGN = text("The engine was compiled for something else")


def compiled(host: Machine) -> Iterator[Finding]:
    engine = known(host.engine)
    if engine.fault is not None:
        yield bad(
            Status.FAIL,
            "engine-invalid",
            text("The folder is no engine that can be opened"),
            text("{path}: {fault}.", path=engine.path, fault=engine.fault),
            path=engine.path,
        )
        return
    found = [*_damaged(engine.files), *_foreign(host, engine)]
    yield from found
    if not found:
        yield ok(
            TITLE,
            text("{name}: {graphs}; compiled for this machine.", name=engine.name, graphs=", ".join(engine.graphs)),
            path=engine.path,
            total_len=engine.total_len,
        )


def weights(host: Machine) -> Iterator[Finding]:
    files = known(host.engine_weights)
    found = list(_damaged(files))
    yield from found
    if not found:
        yield ok(HASHES, text("{count} files have the sha256 that they should have.", count=len(files)))


def _damaged(files: Iterable[EngineFile]) -> Iterator[Finding]:
    faulty = [file for file in files if file.fault]
    if faulty:
        yield bad(
            Status.FAIL,
            "engine-damaged",
            text("Files of the engine are missing or changed"),
            text("They are not what was compiled: {files}.", files=reduce(_and, map(_told, faulty[:SHOWN]))),
            files={file.path: file.fault for file in faulty},
        )


def _told(file: EngineFile) -> Text:
    if file.found is not None:
        return text("{path} has {found} bytes of {size}", path=file.path, found=file.found, size=file.size)
    if file.fault == "missing":
        return text("{path} is missing", path=file.path)
    if file.fault == "has changed":
        return text("{path} has changed", path=file.path)
    return text("{path}: {fault}", path=file.path, fault=file.fault)


def _and(one: Text, other: Text) -> Text:
    return text("{one}; {other}", one=one, other=other)


def _foreign(host: Machine, engine: Engine) -> Iterator[Finding]:
    for said, evidence in (*_processor(host, engine), *_versions(host, engine), *_card(host, engine)):
        yield bad(Status.FAIL, "engine-foreign", FOREIGN, said, folder=engine.path, **evidence)


Reason = tuple[Text, dict[str, object]]


def _processor(host: Machine, engine: Engine) -> Iterator[Reason]:
    cpu = maybe(host.cpu)
    lacking = sorted(set(engine.instructions) - set(cpu.features)) if cpu else []
    if lacking:
        names = ", ".join(lacking)
        yield text("It takes instructions that this CPU lacks: {names}.", names=names), {"instructions": lacking}


def _versions(host: Machine, engine: Engine) -> Iterator[Reason]:
    torch = maybe(host.torch)
    if torch is not None and torch.version != engine.torch:
        yield (
            text("It was compiled by torch {built}; torch {here} is here.", built=engine.torch, here=torch.version),
            {"torch": {"built": engine.torch, "here": torch.version}},
        )
    if engine.kernel not in ("", engine.kernel_here):
        yield (
            text(
                "It was compiled for the kernel {built}; this glmcore has {here}.",
                built=engine.kernel,
                here=engine.kernel_here,
            ),
            {"kernel": {"built": engine.kernel, "here": engine.kernel_here}},
        )


def _card(host: Machine, engine: Engine) -> Iterator[Reason]:
    if engine.device != "cuda":
        return
    nvml = maybe(host.nvml)
    gpus = nvml.gpus if nvml else ()
    here = sorted({"{}.{}".format(*gpu.compute_capability) for gpu in gpus if gpu.compute_capability})
    if engine.capability not in here:
        yield (
            text(
                "It was compiled for a card of capability {built}; here are: {here}.",
                built=engine.capability,
                here=", ".join(here) or "-",
            ),
            {"capability": {"built": engine.capability, "here": here}},
        )


CHECKS = (
    Check(
        "model.engine",
        TITLE,
        compiled,
        problems=("engine-invalid", "engine-damaged", "engine-foreign"),
        needs=("engine",),
    ),
    Check("deep.engine", HASHES, weights, problems=("engine-damaged",), needs=("engine_weights",), deep=True),
)
