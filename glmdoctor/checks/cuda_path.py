"""CUDA_PATH, CUDA_HOME and /usr/local/cuda: do they lead to a toolkit?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from posixpath import normpath

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import CudaInstall
from glmdoctor.messages import Text, text
from glmdoctor.readings.severity import grade

TITLE = text("CUDA_PATH and CUDA_HOME")


def variables(host: Machine) -> Iterator[Finding]:
    cuda = known(host.cuda)
    named = {"CUDA_PATH": cuda.cuda_path, "CUDA_HOME": cuda.cuda_home}
    given = {variable: value for variable, value in named.items() if value is not None}
    without = {variable: value for variable, value in given.items() if not _leads_to_libraries(host, cuda, value)}
    if without:
        yield _wrong(host, cuda, without)
    elif cuda.default_target and not cuda.default_exists:
        yield _default_dangles(host, cuda)
    elif len(given) == 2 and _differ(cuda, *given.values()):
        yield _disagree(cuda, given)
    else:
        yield ok(TITLE, _whole(cuda, given), variables=given, toolkits=dict(cuda.toolkits))


def _leads_to_libraries(host: Machine, cuda: CudaInstall, folder: str) -> bool:
    """Windows toolkits have no lib64; there a known toolkit is enough."""
    os = maybe(host.os)
    return cuda.folders.get(folder, False) or bool(os and os.system == "Windows" and folder in cuda.toolkits)


def _wrong(host: Machine, cuda: CudaInstall, without: Mapping[str, str]) -> Finding:
    variable, value = next(iter(without.items()))
    return bad(
        Status.WARN if _found_anyway(host) else grade(host),
        "cuda-path-wrong",
        text("{variable} leads nowhere", variable=variable),
        text(
            "{variable} is '{value}', and there is no folder lib64 in it; {toolkits}.",
            variable=variable,
            value=value,
            toolkits=_installed(cuda),
        ),
        variables=dict(without),
        toolkits=dict(cuda.toolkits),
        default=cuda.default if cuda.default_exists else None,
    )


def _found_anyway(host: Machine) -> bool:
    """Do all searches of cpm_kernels succeed, by its later rules, in spite of the wrong folder?"""
    cpm = maybe(host.cpm)
    return bool(cpm and cpm.hits and all(hit.path and hit.loads is not False and not hit.stub for hit in cpm.hits))


def _default_dangles(host: Machine, cuda: CudaInstall) -> Finding:
    return bad(
        Status.WARN if cuda.cuda_path else grade(host),
        "cuda-path-wrong",
        text("{folder} dangles", folder=cuda.default),
        text(
            "{folder} is a link to {target}, which is not there; {toolkits}.",
            folder=cuda.default,
            target=cuda.default_target,
            toolkits=_installed(cuda),
        ),
        default=cuda.default,
        target=cuda.default_target,
        toolkits=dict(cuda.toolkits),
    )


def _disagree(cuda: CudaInstall, given: Mapping[str, str]) -> Finding:
    return bad(
        Status.WARN,
        "cuda-path-wrong",
        text("CUDA_PATH and CUDA_HOME disagree"),
        text(
            "CUDA_PATH is '{path}', CUDA_HOME is '{home}'; builds and programs take different toolkits.",
            path=given["CUDA_PATH"],
            home=given["CUDA_HOME"],
        ),
        variables=dict(given),
        toolkits=dict(cuda.toolkits),
    )


def _differ(cuda: CudaInstall, first: str, second: str) -> bool:
    """Two names of one toolkit, or a private folder of links beside its toolkit, do not disagree."""
    versions = {cuda.toolkits[folder] for folder in (first, second) if cuda.toolkits.get(folder)}
    return normpath(first) != normpath(second) and len(versions) > 1


def _installed(cuda: CudaInstall) -> Text:
    if not cuda.toolkits:
        return text("no toolkit was found")
    names = ", ".join(f"{folder} ({version or '?'})" for folder, version in cuda.toolkits.items())
    return text("installed are {names}", names=names)


def _whole(cuda: CudaInstall, given: Mapping[str, str]) -> Text:
    if given:
        return text("{names} lead to libraries.", names=", ".join(f"{k}={v}" for k, v in given.items()))
    if cuda.default_exists:
        return text("Neither is set; {folder} is there.", folder=cuda.default)
    return text("Neither is set, and no toolkit is at {folder}; nothing here needs one.", folder=cuda.default)


CHECKS = (Check("cuda.path", TITLE, variables, problems=("cuda-path-wrong",), needs=("cuda",)),)
