"""The OpenMP runtimes that numpy and torch load together, by importing both in a process of their own (``--deep``)."""

from __future__ import annotations

import json

from glmdoctor.host.facts import Interpreter, OpenMp, Torch, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes.nvml import command

TIME_LIMIT = 120.0  # seconds; a first import of torch from a slow disk
CLASH = "OMP: Error #15"  # what LLVM's and Intel's runtime says before it ends the process


def openmp(io: IO, torch: Torch | Unknown, interpreter: Interpreter | Unknown) -> OpenMp | Unknown:
    if isinstance(torch, Unknown) or isinstance(interpreter, Unknown):
        return Unknown("torch is not installed in the examined interpreter")
    done = io.run(command("openmp_run.py", interpreter.executable), TIME_LIMIT, io.env())
    fault = next((line.strip() for line in done.err.splitlines() if CLASH in line), None)
    if fault:
        return OpenMp((), fault)
    try:
        return OpenMp(tuple(json.loads(done.out.splitlines()[-1])["runtimes"]))
    except (ValueError, IndexError, KeyError, TypeError):
        return Unknown("numpy and torch could not be imported together")
