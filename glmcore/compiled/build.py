"""A stage of a model as a compiled graph: exported by torch.export, compiled by AOTInductor, its weights outside."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from glmcore import programs
from glmcore.compiled.manifest import INPUTS, Graph, Stage
from glmcore.compiled.products import shims
from glmcore.compiled.stages import StageGraph
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.folders import user_folder

COMPILERS = ("g++", "c++", "clang++")
CACHE = "TORCHINDUCTOR_CACHE_DIR"
# Options of the code of the CPU: those of the instruction set that is named in the manifest, and no others.
NO_MARCH = ""
# Slots that an example looks at: more than one, and fewer than all.
SOME_SLOTS = 8
# What Linux calls those of the compiler's options -m… that it spells otherwise.
FLAGS = {"avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16", "amx-tile": "amx_tile", "amx-bf16": "amx_bf16",
         "amx-int8": "amx_int8", "amx-fp16": "amx_fp16"}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The rows and slots of an engine's graphs."""

    batch: tuple[int, int]  # least and most rows
    total_len: int

    @property
    def rows(self) -> int:
        """Those of an example: of a symbolic batch neither 0 nor 1, which would be taken for fixed."""
        return self.batch[0] if self.batch[0] == self.batch[1] else 2


def example(config: ModelConfig, stage: Stage, graph: Graph, shape: Shape, device: torch.device) -> tuple[Tensor, ...]:
    """Inputs of the graph's shapes, on its device."""
    rows, length = shape.rows, graph.length
    behind = "layer.0" not in stage.pieces and not any(piece.startswith("layer.") for piece in stage.pieces)
    integers: dict[str, Any] = {"dtype": torch.int64, "device": device}
    if "embedding" in stage.pieces:
        taken = torch.zeros(rows, length, **integers)
    else:
        computing = getattr(torch, stage.computing)
        taken = torch.zeros(rows, 1 if behind else length, config.hidden_size, dtype=computing, device=device)
    plane = torch.zeros(rows, length, **integers)
    positions = torch.zeros((rows, 2, length) if config.position_2d else (rows, length), **integers)
    last, order = torch.zeros(rows, **integers), torch.arange(min(SOME_SLOTS, shape.total_len), **integers)
    size = (rows, config.num_kv_heads, shape.total_len + 1, config.head_dim)
    caches = [torch.zeros(size, dtype=getattr(torch, stage.cache), device=device) for _ in stage.caches]
    return taken, plane, positions, plane + 1, last, order, *caches


def dynamic(shape: Shape, caches: int) -> dict[str, Any]:
    """Which sizes of the inputs may differ from call to call."""
    least, most = shape.batch
    rows = {} if least == most else {0: Dim("rows", min=least, max=most)}
    slots = {0: Dim("slots", min=1, max=shape.total_len)}
    named: dict[str, Any] = {name: dict(rows) for name in INPUTS}
    return {**named, "order": slots, "caches": tuple(dict(rows) for _ in range(caches))}


def export(module: StageGraph, inputs: tuple[Tensor, ...], shape: Shape) -> ExportedProgram:
    """The stage as a graph whose constants keep their names; inputs: of ``example``'s shapes."""
    shapes = dynamic(shape, len(inputs) - len(INPUTS))
    with torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)


def compiler() -> str:
    """The absolute path of a C++ compiler. Errors: GlmError("compile-failed") where there is none."""
    wanted = os.environ.get("CXX")
    found = next(filter(None, map(programs.which, [wanted] if wanted else COMPILERS)), None)
    if found is None:
        what = f"CXX names no program: {wanted}" if wanted else "none of " + ", ".join(COMPILERS) + " is on PATH"
        raise GlmError(
            "compile-failed", f"compiling a graph takes a C++ compiler, and {what}",
            hint=f"{'correct CXX' if wanted else 'install g++ here'}; opening and running an engine takes none",
        )  # fmt: skip
    return found


def keep_cache() -> None:
    """Let Inductor keep what it precompiles in this user's cache, where no other name is given."""
    folder = user_folder("cache", "glmcore")
    if folder is not None:
        os.environ.setdefault(CACHE, os.path.join(folder, "inductor"))


def compile_graph(program: ExportedProgram, cxx: str, device: torch.device) -> list[str]:
    """The files of a graph compiled for ``device``, which lie in Inductor's cache.

    Errors: GlmError("compile-failed") with what the compiler said first.
    """
    from torch._inductor import aot_compile

    options = {
        "aot_inductor.package": True,
        "aot_inductor.package_constants_in_so": False,
        "aot_inductor.custom_ops_to_c_shims": shims() if device.type == "cpu" else {},
        "aot_inductor.precompile_headers": False,
        "aot_inductor.enable_line_tables": False,
        "aot_inductor.enable_frame_pointer": False,
        "cpp.cxx": (None, cxx),
        "cpp.march": NO_MARCH,
    }
    args, kwargs = program.example_inputs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of its own use of itself
            return aot_compile(program.module(check_guards=False), args, kwargs, options=options)
    except OSError:
        raise  # a full disk, a file that cannot be written
    except Exception as error:  # torch's compiler fails in types of its own
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), fullest()) from error
        raise GlmError("compile-failed", f"a graph could not be compiled: {first_line(error)}", where=cxx) from error


def fullest() -> str:
    """Of the two folders that torch and the compiler write into the one that has less room."""
    folders = [folder for folder in (os.environ.get(CACHE), tempfile.gettempdir()) if folder and os.path.isdir(folder)]
    return min(folders, key=lambda folder: shutil.disk_usage(folder).free)


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()]
    return (telling or lines or [type(error).__name__])[0]


def instructions() -> tuple[str, ...]:
    """The CPU flags that compiled code takes, as Linux names them."""
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    options = (option.removeprefix("-m") for option in pick_vec_isa().build_arch_flags().split())
    return tuple(sorted({FLAGS.get(option, option) for option in options}))
