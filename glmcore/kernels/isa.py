"""The instruction sets that the kernels are written for, and what this CPU has of them."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass

# The first processor's block of /proc/cpuinfo is well within this; reading all of a large machine's takes milliseconds.
CPUINFO_BYTES = 16384


@dataclass(frozen=True)
class Isa:
    """An instruction set: the CPU flags it takes (as Linux names them) and the compiler's options for it."""

    name: str
    needs: frozenset[str]
    flags: tuple[str, ...]


def _isa(name: str, needs: str, *flags: str) -> Isa:
    return Isa(name, frozenset(needs.split()), flags)


_AVX512 = ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl")
_VNNI_NEEDS, _VNNI = "avx512f avx512bw avx512vl avx512_vnni fma", ("-DGLM_AVX512VNNI", *_AVX512, "-mavx512vnni")

# Best first.
ISAS: dict[str, Isa] = {
    isa.name: isa
    for isa in (
        _isa("avx512bf16", f"{_VNNI_NEEDS} avx512_bf16", *_VNNI, "-DGLM_BF16", "-mavx512bf16"),
        _isa("avx512vnni", _VNNI_NEEDS, *_VNNI),
        _isa("avxvnni", "avx2 fma f16c avx_vnni", "-DGLM_AVXVNNI", "-mavx2", "-mfma", "-mf16c", "-mavxvnni"),
        _isa("avx512", "avx512f avx512bw avx512vl fma", "-DGLM_AVX512", *_AVX512),
        _isa("avx2", "avx2 fma f16c", "-DGLM_AVX2", "-mavx2", "-mfma", "-mf16c"),
        _isa("neon-i8mm", "asimd asimddp i8mm", "-DGLM_NEON", "-march=armv8.2-a+dotprod+i8mm"),
        _isa("neon-dotprod", "asimd asimddp", "-DGLM_NEON", "-march=armv8.2-a+dotprod"),
        _isa("plain", ""),
    )
}


@functools.cache
def cpu_features() -> frozenset[str]:
    """The CPU's feature flags as Linux names them."""
    if platform.system() == "Darwin":
        return frozenset({"asimd", "asimddp"} if platform.machine() == "arm64" else {"avx2", "fma", "f16c"})
    try:
        with open("/proc/cpuinfo", "rb") as file:
            lines = file.read(CPUINFO_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = [line.partition(":")[2] for line in lines if line.split(":")[0].strip() in ("flags", "Features")]
    return frozenset(flags[0].split()) if flags else frozenset()


def usable_isas() -> tuple[Isa, ...]:
    """What this CPU can run, best first; plain C always."""
    return tuple(isa for isa in ISAS.values() if isa.needs <= cpu_features())
