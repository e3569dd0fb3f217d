"""How grave a fault is on this machine, by what the machine is for.

- A card without a working driver is a failure; without a card the CPU path stays open and nothing of CUDA fails.
- What only a model needs (memory, packages, kernels, toolkit libraries of cpm_kernels) fails when ``--model`` names
  one that needs it, and is a warning or no finding at all before.
- What works all the same, or is merely slower, is a warning.
"""

from __future__ import annotations

from glmdoctor.findings import Status
from glmdoctor.host.facts import Checkpoint
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.machine import Machine, maybe


def grade(host: Machine) -> Status:
    """How grave a fault of the CUDA side is: without a card the CPU path stays open, so it is only worth a warning."""
    return Status.FAIL if has_card(host) else Status.WARN


def model_grade(host: Machine) -> Status:
    """How grave a fault is that hinders running a model: ``--model`` makes what the model needs a failure."""
    return Status.WARN if model(host) is None else Status.FAIL


def model(host: Machine) -> Checkpoint | None:
    """The checkpoint named by ``--model``, where there is one on the disk."""
    checkpoint = maybe(host.checkpoint)
    return checkpoint if checkpoint and checkpoint.exists and checkpoint.is_folder else None
