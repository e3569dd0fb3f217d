"""Machines whose ``--model`` is a compiled engine: for this machine, for another one, damaged, or none at all.

Its files are what the manifest says of them and hold no code: the doctor loads none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from case import Case
from driver_machines import gpu_machine
from machine import Machine

import glmcore
from glmcore import demo
from glmcore.compiled.checks import kernel_hash
from glmcore.compiled.manifest import ARCHIVE, MANIFEST, Built, Graph, Manifest, Stage, Weights
from glmcore.config import ModelConfig
from glmcore.digest import sum_of
from glmcore.layout import pieces

TORCH = "2.10.0+cpu"


def engine(machine: Machine, here: str = TORCH, cuda: str | None = None, **built: object) -> Path:
    """An engine of the torch that is there for a CPU of any kind, in the home folder; the command line names it."""
    machine.patient(here, cuda)
    config = replace(ModelConfig.from_folder(demo.folder()), raw={})
    folder = machine.folder / "home" / "engine"
    checkpoint = machine.folder / "home" / "checkpoint"
    folder.mkdir()
    checkpoint.mkdir()
    for path in (folder / ARCHIVE, folder / "tokenizer.model", folder / "weights.safetensors", folder / "config.json"):
        path.write_bytes(path.name.encode() * 100)
    (checkpoint / "model.safetensors").write_bytes(b"weights" * 100)
    own, mapped = sum_of(folder / "weights.safetensors"), sum_of(checkpoint / "model.safetensors")
    manifest = Manifest(
        glmcore=glmcore.__version__,
        name=config.name,
        config=config,
        dtype="float32",
        quantize=None,
        total_len=512,
        batch=(1, 1),
        built=replace(Built("cpu", here, kernel_hash(), ()), **built),
        plan={"devices": []},
        stages=(Stage("cpu", tuple(piece.name for piece in pieces(config)), (), "float32", "float32"),),
        graphs=(Graph.of("prefill", 256, 0), Graph.of("decode", 1, 0)),
        weights=(
            Weights("weights.safetensors", "inside", own.size, own.sha256, {}),
            Weights(str(checkpoint / "model.safetensors"), "mapped", mapped.size, mapped.sha256, {}),
        ),
        files={name: sum_of(folder / name) for name in (ARCHIVE, "tokenizer.model", "config.json")},
    )
    (folder / MANIFEST).write_text(manifest.text())
    machine.arguments += ["--model", str(folder)]
    return folder


def compiled_here(machine: Machine) -> None:
    engine(machine)


def compiled_here_and_hashed(machine: Machine) -> None:
    engine(machine)
    machine.arguments += ["--deep", "--only", "deep.engine"]


def built_for(what: str, **built: object) -> Callable[[Machine], None]:
    def build(machine: Machine) -> None:
        engine(machine, **built)

    build.__name__ = f"engine_of_another_{what}"
    return build


def engine_of_another_card(machine: Machine) -> None:
    gpu_machine(machine)
    engine(machine, "2.4.1+cu121", "12.1", device="cuda", capability="9.0")


def engine_without_its_archive(machine: Machine) -> None:
    (engine(machine) / ARCHIVE).unlink()


def engine_that_was_changed(machine: Machine) -> None:
    """Of the same size: its hash alone tells."""
    path = engine(machine) / ARCHIVE
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def engine_whose_checkpoint_moved(machine: Machine) -> None:
    engine(machine)
    (machine.folder / "home" / "checkpoint").rename(machine.folder / "home" / "elsewhere")


def engine_whose_checkpoint_lies_inside(machine: Machine) -> None:
    folder = engine(machine)
    (machine.folder / "home" / "checkpoint" / "model.safetensors").rename(folder / "model.safetensors")


def engine_of_changed_weights(machine: Machine) -> None:
    path = engine(machine) / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    machine.arguments += ["--deep", "--only", "deep.engine"]


def manifest_that_is_cut(machine: Machine) -> None:
    path = engine(machine) / MANIFEST
    path.write_bytes(path.read_bytes()[:500])


FOREIGN, DAMAGED = {"model.engine": "engine-foreign"}, {"model.engine": "engine-damaged"}
CASES = (
    Case(compiled_here, clears=("model.engine",)),
    Case(compiled_here_and_hashed, clears=("deep.engine",)),
    Case(built_for("torch", torch="2.13.0+cpu"), FOREIGN),
    Case(built_for("kernel", kernel="0123456789abcdef0123"), FOREIGN),
    Case(built_for("processor", instructions=("amx_fp1024",)), FOREIGN),
    Case(engine_of_another_card, FOREIGN),
    Case(engine_without_its_archive, DAMAGED),
    Case(engine_that_was_changed, DAMAGED),
    Case(engine_whose_checkpoint_moved, DAMAGED),
    Case(engine_whose_checkpoint_lies_inside, clears=("model.engine",)),
    Case(engine_of_changed_weights, {"deep.engine": "engine-damaged"}),
    Case(manifest_that_is_cut, {"model.engine": "engine-invalid"}),
)
