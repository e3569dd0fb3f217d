"""Handing this process over to another program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from glmdoctor.cli import output

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it


def start(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Become ``command`` with ``variables`` set (an empty one is taken away); comes back only where it cannot start."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if variables.get(name) != ""}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if os.name == "nt":  # exec there returns to the shell at once and loses the exit status
            return subprocess.call(list(command), env=environment)
        os.execvpe(command[0], list(command), environment)  # noqa: S606
    except FileNotFoundError:
        output.note(f"cannot start {command[0]}: no such program")
        return NOT_FOUND
    except OSError as error:
        output.note(f"cannot start {command[0]}: {error.strerror}")
        return NOT_EXECUTABLE
