"""One graph of an engine, compiled by a process of its own: this file as a script, which ``crew`` starts.

The first line of its input says what to make. Where that input ends before the work does, whoever asked is gone or has
been told to stop: it ends then, with the compiler that it started. What it tells are lines of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    from glmcore.errors import GlmError

    task = json.loads(first_line())
    threading.Thread(target=end_with_input, daemon=True).start()
    try:
        compile_into(task, lambda label: tell(step=label))
    except GlmError as error:
        tell(error=[error.code, error.what, error.where, error.hint])
    except OSError as error:  # a full disk
        tell(system=[error.errno, error.strerror, error.filename])
    else:
        tell(done=True)


def first_line() -> bytes:
    """Of the input, and not a byte beyond it."""
    with open(0, "rb", buffering=0, closefd=False) as file:
        return file.readline()


def end_with_input() -> None:
    """End this process and those that it started when the input ends."""
    while os.read(0, 1):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def tell(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def compile_into(task: Mapping[str, Any], step: Callable[[str], None]) -> None:
    """Compile a graph and leave its files in a folder; ``step`` is told what begins.

    ``task``: "manifest" of the engine that is being made, as text; "graph", a name of it; "weights", the folder that
    its own file of weights lies in; "compiler"; "into", the folder. Errors: GlmError("compile-failed"), OSError.
    """
    from glmcore.compiled import build
    from glmcore.compiled.manifest import manifest_from_json
    from glmcore.compiled.modules import stage_graph
    from glmcore.compiled.opening import device_of, mapped, with_tied_head
    from glmcore.plan import plan_from_json

    manifest = manifest_from_json(task["manifest"])
    [graph] = [graph for graph in manifest.graphs if graph.name == task["graph"]]
    step(f"exporting {graph.name}")
    config, stage = manifest.config, manifest.stages[graph.stage]
    types = plan_from_json(json.dumps(manifest.plan), config).types
    constants = with_tied_head(config, mapped(Path(task["weights"]), manifest))
    module = stage_graph(config, types, stage, graph, constants)
    shape, device = build.Shape(manifest.batch, manifest.total_len), device_of(stage.device)
    program = build.export(module, build.example(config, stage, graph, shape, device), shape)
    step(f"compiling {graph.name}")
    for path in build.compile_graph(program, task["compiler"], device):
        shutil.copy(path, task["into"])


if __name__ == "__main__":
    home = str(Path(__file__).resolve().parents[2])
    if home not in sys.path:
        sys.path.insert(0, home)  # the glmcore that this file is of, installed or not
    main()
