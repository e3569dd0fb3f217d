"""The C++ runtime that is loaded first, beside what the installed packages were built against."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import basename

from glmdoctor.checks.base import Check, Machine, bad, known, ok
from glmdoctor.findings import Finding
from glmdoctor.host.facts import CxxLibrary, CxxRuntime
from glmdoctor.messages import Text, text
from glmdoctor.readings.severity import model_grade

TITLE = text("C++ runtime")


def runtime(host: Machine) -> Iterator[Finding]:
    fact = known(host.cxx_runtime)
    first = fact.libraries[0] if fact.libraries else CxxLibrary("libstdc++.so.6", "loader", ())
    missing = _missing(fact, first)
    evidence = {
        "library": first.path,
        "found_by": first.found_by,
        "newest": _newest(first),
        "missing": {path: list(names) for path, names in missing.items()},
        "others": {library.path: _newest(library) for library in fact.libraries[1:]},
    }
    if not missing:
        yield ok(
            TITLE,
            text("{path} has {newest}; nothing installed needs more.", path=first.path, newest=_newest(first)),
            **evidence,
        )
        return
    path, names = next(iter(missing.items()))
    yield bad(
        model_grade(host),
        "libstdcxx-too-old",
        text("The C++ runtime is too old for the packages"),
        text(
            "{library} ({newest}) is loaded first, and {file} needs {needed}{other}.",
            library=first.path,
            newest=_newest(first) or "-",
            file=basename(path),
            needed=names[-1],
            other=_other(fact),
        ),
        **evidence,
    )


def _missing(fact: CxxRuntime, library: CxxLibrary) -> dict[str, tuple[str, ...]]:
    """File → the versions that it needs and the library lacks."""
    lacking = {path: tuple(n for n in names if n not in library.defines) for path, names in fact.needs.items()}
    return {path: names for path, names in lacking.items() if names}


def _newest(library: CxxLibrary) -> str:
    return library.defines[-1] if library.defines else ""


def _other(fact: CxxRuntime) -> Text | str:
    """Another one on this machine that would do."""
    enough = [library.path for library in fact.libraries[1:] if not _missing(fact, library)]
    return text("; {path} would do, were it first", path=enough[0]) if enough else ""


CHECKS = (Check("python.cxx", TITLE, runtime, problems=("libstdcxx-too-old",), needs=("cxx_runtime",)),)
