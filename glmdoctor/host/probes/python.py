"""The examined interpreter: its packages by their metadata, torch by its version file. Nothing of it is imported."""

from __future__ import annotations

import ast
import os
import platform
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator

from glmdoctor.host.facts import Interpreter, Torch, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes.libraries import PATTERN, wheel_folders
from glmdoctor.host.probes.nvml import child

# Packages whose own metadata says what goes with them.
REQUIRERS = ("transformers", "torch", "accelerate", "peft", "tokenizers", "gradio", "icetk")
# name-version.dist-info, name-version[-pyX.Y].egg-info
METADATA = re.compile(r"([A-Za-z0-9][\w.]*)-([^-]+?)(?:\.dist-info|(?:-py[\d.]+)?\.egg-info)")


def interpreter(io: IO, python: str) -> Interpreter | Unknown:
    """The Python at ``python``; the doctor's own without starting it."""
    if os.path.abspath(python) == os.path.abspath(sys.executable):
        return Interpreter(
            executable=sys.executable,
            version=platform.python_version(),
            prefix=sys.prefix,
            platform_tag=_tag(sysconfig.get_platform()),
            packages=packages(io.bound(*sys.path), sys.path),
            site_folders=tuple(_site_folders()),
            requires=requirements(io.bound(*sys.path), sys.path),
        )
    path = io.running().which(os.path.abspath(python) if os.sep in python else python)
    if path is None:
        return Unknown(f"{python} is no program that can be run")
    answer = child(io, "interpreter.py", {"pythonpath": io.env().get("PYTHONPATH", "")}, None, path)
    if isinstance(answer, Unknown):
        return Unknown(f"{python} did not answer as a Python does: {answer.reason}")
    folders = answer["path"]
    return Interpreter(
        executable=path,
        version=answer["version"],
        prefix=answer["prefix"],
        platform_tag=_tag(answer["platform"]),
        packages=packages(io.bound(*folders), folders),
        site_folders=tuple(answer["site_folders"]),
        requires=requirements(io.bound(*folders), folders),
    )


def _tag(platform_name: str) -> str:
    return re.sub(r"[-.]", "_", platform_name)


def _site_folders() -> list[str]:
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


def packages(io: IO, folders: Iterable[str]) -> dict[str, str]:
    """Normalised name → version by the names of the metadata folders; the first folder of the path wins."""
    found: dict[str, str] = {}
    for folder in folders:
        matches = (METADATA.fullmatch(name) for name in (io.names(folder) if folder else []))
        here = {re.sub(r"[-_.]+", "-", m.group(1)).lower(): m.group(2) for m in matches if m}
        found = {**here, **found}
    return found


def requirements(io: IO, folders: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Name → what the installed wheel's metadata asks for, of REQUIRERS; the first folder of the path wins."""
    found: dict[str, tuple[str, ...]] = {}
    for folder in folders:
        for name in io.names(folder) if folder else []:
            match = METADATA.fullmatch(name)
            package = re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else ""
            if package in REQUIRERS and package not in found:
                found[package] = tuple(_asked_for(io.text_or_none(f"{folder}/{name}/METADATA") or ""))
    return found


def _asked_for(metadata: str) -> Iterator[str]:
    """Requirements that hold always, and those on torch; the header ends at the first empty line."""
    for line in metadata.partition("\n\n")[0].splitlines():
        key, _, value = line.partition(": ")
        requirement, _, marker = value.partition(";")
        if key == "Requires-Python":
            yield f"python{value.strip()}"
        elif key == "Requires-Dist" and not marker:
            yield requirement.strip()
        elif key == "Requires-Dist" and re.fullmatch(r"\s*extra\s*==\s*['\"]torch['\"]\s*", marker):
            yield f"{requirement.strip()}; extra == 'torch'"


def torch(io: IO, interpreter: Interpreter | Unknown) -> Torch | Unknown:
    if isinstance(interpreter, Unknown):
        return interpreter
    io = io.bound(*interpreter.site_folders)
    for folder in interpreter.site_folders:
        source = io.text_or_none(f"{folder}/torch/version.py")
        if source is None:
            continue
        values = _assignments(source)
        version = values.get("__version__")
        if not version:
            return Unknown(f"{folder}/torch/version.py names no version")
        return Torch(
            version=version,
            cuda=values.get("cuda"),
            hip=values.get("hip"),
            path=f"{folder}/torch",
            bundled=tuple(_bundled(io, interpreter)),
        )
    return Unknown("torch is not installed in the examined interpreter")


def _assignments(source: str) -> dict[str, str | None]:
    """The constants that a module assigns at its top level, by its text."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    values: dict[str, str | None] = {}
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, str)):
            values.update({target.id: value.value for target in targets if isinstance(target, ast.Name)})
    return values


def _bundled(io: IO, python: Interpreter) -> list[str]:
    folders = wheel_folders(io, python)
    return [f"{folder}/{name}" for folder in folders for name in io.names(folder) if PATTERN.fullmatch(name)]
