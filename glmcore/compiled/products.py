"""The C functions through which compiled graphs on the CPU call the products of ``operators``: built, and bound.

A graph that goes through torch's registry into Python for every product spends 20 microseconds on each; these cost
nothing. ``products.so`` is compiled with the graphs and lies beside them. It holds no arithmetic: opening an engine
tells it the verified kernel's functions, or torch's where no kernel can be built.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from glmcore import programs
from glmcore.compiled import operators
from glmcore.errors import GlmError
from glmcore.kernels.load import FEW_ROWS, Kernel, failure

LIBRARY = "products.so"
SOURCE = Path(__file__).with_name("products.c")
COMPILE_SECONDS = 120
# What a graph is told of the functions.
SHIMS = {
    "packed_linear": "AOTITorchError aoti_torch_cpu_packed_linear(AtenTensorHandle x, AtenTensorHandle weight, "
    "AtenTensorHandle scale, AtenTensorHandle* bias, int64_t bits, int32_t head, AtenTensorHandle* y)",
    "half_linear": "AOTITorchError aoti_torch_cpu_half_linear(AtenTensorHandle x, AtenTensorHandle weight, "
    "int32_t brain, AtenTensorHandle* y)",
}
PACKED = ctypes.CFUNCTYPE(
    c_int, c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int
)
HALF = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int)


class Table(ctypes.Structure):
    """``Products`` of products.c."""

    _fields_ = (
        ("packed", c_void_p), ("few", c_void_p), ("many", c_void_p), ("few_rows", c_int64), ("answer_rows", c_int64),
        ("answers", c_int), ("prompts", c_int), ("threads", c_int), ("reading", c_int), ("status", c_int),
    )  # fmt: skip


def shims() -> dict[torch._ops.OpOverload, list[str]]:
    """Each operator and its C function, as AOTInductor wants them."""
    return {getattr(torch.ops.glmcore, name).default: [declaration] for name, declaration in SHIMS.items()}


def build(folder: Path, cxx: str) -> None:
    """Compile the library into ``folder``. Errors: GlmError("compile-failed")."""
    libraries = Path(torch.__file__).parent / "lib"
    command = [
        cxx, "-x", "c", "-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", str(SOURCE),
        "-x", "none", f"-L{libraries}", "-ltorch_cpu", "-Wl,--no-as-needed", "-o", str(folder / LIBRARY),
    ]  # fmt: skip
    done = programs.run(command, COMPILE_SECONDS, merged=True)
    if done.code:
        said = next(filter(None, (done.out or done.err).splitlines()), f"exit status {done.code}")
        raise GlmError("compile-failed", f"the products could not be compiled: {said}", where=cxx)


class Bound:
    """The functions that every graph of this process calls: those of the first engine that has brought them.

    (The loader finds a name once; all engines that may be opened here bring the same.)
    """

    def __init__(self) -> None:
        self.table: Table | None = None
        self.held: tuple[object, ...] = ()  # whose addresses the table has

    def load(self, path: Path) -> None:
        """Let graphs that are loaded from now on find the functions."""
        if self.table is None:
            self.table = Table.in_dll(ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL), "glm_products")

    def use(self, kernel: Kernel | None) -> None:
        """Let them be computed as ``operators.computing`` says, which has been told the same kernel."""
        table, many = self.table, HALF(half_by_torch)
        if table is None:
            return
        if kernel is None:
            packed, few = PACKED(packed_by_torch), many
        else:
            packed, few = kernel.packed_function, kernel.half_function
            table.answers, table.prompts = kernel.precision_number, operators.computing.prompts.precision_number
            table.threads = kernel.threads
        self.held = (packed, few, many)
        table.packed, table.few, table.many = (ctypes.cast(each, c_void_p).value for each in self.held)
        table.few_rows, table.answer_rows = FEW_ROWS, operators.SHORT_PROMPT

    def read(self, long: bool) -> None:
        """Whether a prompt of more than ``SHORT_PROMPT`` tokens is being read from now on."""
        operators.computing.reading = long
        if self.table is not None:
            self.table.reading = long

    def failed(self) -> Exception | None:
        """Why the last product failed, once; None where none did."""
        status = 0 if self.table is None else self.table.status
        if not status:
            return None
        self.table.status = 0
        return failure(status)


bound = Bound()


def packed_by_torch(bits, precision, weight, scale, bias, x, y, m, n, k, threads) -> int:
    """``glm_linear`` by plain torch."""
    columns = k * bits // 8
    made = operators.by_torch(
        at(x, torch.float32, m, k), at(weight, torch.int8, n, columns), at(scale, torch.float32, n),
        at(bias, torch.float32, n) if bias else None, bits,
    )  # fmt: skip
    at(y, torch.float32, m, n).copy_(made)
    return 0


def half_by_torch(brain, weight, x, y, m, n, k, threads) -> int:
    """``glm_linear16`` by torch."""
    kind = torch.bfloat16 if brain else torch.float16
    at(y, torch.float32, m, n).copy_(operators.widened(at(x, torch.float32, m, k), at(weight, kind, n, k)))
    return 0


def at(address: int, dtype: torch.dtype, *shape: int) -> Tensor:
    """The tensor of that type and shape at an address."""
    size = torch.Size(shape).numel()
    memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype, count=size).view(shape)
