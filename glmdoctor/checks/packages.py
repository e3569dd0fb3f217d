"""The Python packages of the examined interpreter, by their metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.findings import Finding, Requirements, Status
from glmdoctor.knowledge import versions
from glmdoctor.messages import text
from glmdoctor.readings.needs import floor
from glmdoctor.readings.severity import model, model_grade
from glmdoctor.readings.versions import admits, numbers

PACKAGES = text("Packages that glmcore needs")
CLASHES = text("Packages that do not go together")
FLASH = text("flash-attn beside torch")
CLASH_TITLES = {
    "numpy2-abi": text("torch was built for NumPy 1 and meets NumPy 2"),
    "protobuf-too-new": text("protobuf is too new for icetk"),
    "gradio-incompatible": text("gradio is too new for the original web demo"),
    "pydantic-version": text("pydantic does not fit the server's packages"),
}


def needed(host: Machine) -> Iterator[Finding]:
    packages, checkpoint = known(host.interpreter).packages, model(host)
    if checkpoint is None and "torch" not in packages:
        yield skipped(PACKAGES, text("This Python has no torch: it is not set up to run models, and none was named."))
        return
    generation = checkpoint.generation if checkpoint else None
    rows = [row for row in versions()["core_packages"]["rows"] if generation in (None, *row["generations"])]
    wrong = {row["package"]: packages.get(row["package"]) for row in rows if not _satisfied(packages, row)}
    if not wrong:
        found = {row["package"]: packages[row["package"]] for row in rows}
        yield ok(PACKAGES, text("{names}.", names=", ".join(f"{k} {v}" for k, v in found.items())), **found)
        return
    wanted = {row["package"]: row["specifier"] for row in rows}
    floors = {name: floor(specifier) for name, specifier in wanted.items()}
    untested = all(admits(floors[name], version) for name, version in wrong.items() if version)
    untested = untested and all(wrong.values())
    yield bad(
        Status.WARN if untested else model_grade(host),
        "python-deps-missing",
        text("Python packages are newer than tested") if untested else text("Python packages are missing or too old"),
        text(
            "{python} needs {packages}.",
            python=known(host.interpreter).executable,
            packages=", ".join(f"{name}{wanted[name]} ({version or '-'})" for name, version in wrong.items()),
        ),
        Requirements(tuple(f"{name}{wanted[name]}" for name in wrong)),
        packages={name: {"needed": wanted[name], "installed": version} for name, version in wrong.items()},
        missing=[f"{name}{wanted[name]}" for name in wrong],
    )


def _satisfied(packages: Mapping[str, str], row: Mapping[str, str]) -> bool:
    found = packages.get(row["package"])
    return found is not None and admits(row["specifier"], found)


def clashes(host: Machine) -> Iterator[Finding]:
    packages = known(host.interpreter).packages
    hits = [row for row in versions()["package_clashes"]["rows"] if _clash(host, packages, row)]
    for row in hits:
        found = {name: packages[name] for name in row["when"]}
        yield bad(
            model_grade(host) if row["problem"] == "numpy2-abi" else Status.WARN,
            row["problem"],
            CLASH_TITLES[row["problem"]],
            text("Installed are {packages}.", packages=", ".join(f"{k} {v}" for k, v in found.items())),
            **found,
        )
    if not hits:
        yield ok(CLASHES, text("None of the known clashes."))


def _clash(host: Machine, packages: Mapping[str, str], row: Mapping[str, Mapping[str, str]]) -> bool:
    settings = maybe(host.settings)
    implementation = settings.values.get("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION") if settings else None
    if "protobuf" in row["when"] and implementation == "python":
        return False  # protobuf's pure-Python implementation takes the old generated code
    return all(name in packages and admits(range_, packages[name]) for name, range_ in row["when"].items())


def flash_attention(host: Machine) -> Iterator[Finding]:
    fact, torch = known(host.flash_attention), known(host.torch)
    evidence = {"wheel": fact.wheel, "built_for": fact.torch, "torch": torch.version}
    if fact.torch is None:
        yield skipped(
            FLASH, text("Nothing tells for which torch flash-attn {version} was built.", version=fact.version)
        )
    elif numbers(fact.torch)[:2] == numbers(torch.version)[:2]:
        yield ok(FLASH, text("It was built for torch {torch}.", torch=fact.torch), **evidence)
    else:
        yield bad(
            Status.WARN,
            "flash-attn-abi",
            text("flash-attn was built for another torch"),
            text(
                "flash-attn {version} is for torch {built_for}, and torch {torch} is installed: importing it, which "
                "transformers does by itself, ends in an undefined symbol. These models run without it.",
                version=fact.version,
                built_for=fact.torch,
                torch=torch.version,
            ),
            **evidence,
        )


CHECKS = (
    Check("python.packages", PACKAGES, needed, problems=("python-deps-missing",), needs=("interpreter",)),
    Check(
        "python.clashes",
        CLASHES,
        clashes,
        problems=("numpy2-abi", "protobuf-too-new", "gradio-incompatible", "pydantic-version"),
        needs=("interpreter",),
    ),
    Check(
        "python.flash-attn", FLASH, flash_attention, problems=("flash-attn-abi",), needs=("flash_attention", "torch")
    ),
)
