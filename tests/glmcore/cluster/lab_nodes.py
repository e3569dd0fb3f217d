"""A node of Ray's inside a machine of the lab, whose mounts nothing else sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster_machines import Rays

from glmcore.folders import user_folder

sys.path.insert(0, str(Path(__file__).parents[2] / "lab"))

from machine import Machine
from possible import ROOT, why_not

JOINING = Path(__file__).with_name("joining.py")


@contextmanager
def lab_node(rays: Rays, build: Callable[[Machine], object]) -> Iterator[None]:
    """Joins the cluster for the length of the block; skips the test where the lab cannot mount."""
    if reason := why_not():
        pytest.skip(reason)
    lab = Path(tempfile.mkdtemp(prefix="glmdoctor-lab-"))
    lab.chmod(0o755)
    try:
        (lab / "stubs").mkdir()
        machine = Machine(lab / "0", lab / "stubs", rootless=None if ROOT else os.geteuid(), connected=True)
        # Where the kernel has been built.
        machine.environment["XDG_CACHE_HOME"] = os.path.dirname(str(user_folder("cache", "glmcore")))
        build(machine)
        command, environment = machine.entered([sys.executable, str(JOINING), rays.address])
        with subprocess.Popen(command, env={**environment, **rays.variables}, stdin=subprocess.PIPE):
            yield
    finally:
        shutil.rmtree(lab)
