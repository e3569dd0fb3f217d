"""The GPU kernels inside a checkpoint's quantization.py: their architectures, read as data and bounded."""

from __future__ import annotations

import base64
import bz2
import struct

import pytest

from glmdoctor.host.probes.gpu_code import LIMIT, gpu_code
from glmdoctor.host.recorded import RecordedIO

CODE = """
import bz2, base64, ctypes
from cpm_kernels.kernels.base import LazyKernelCModule
quantization_code = "{code}"
kernels = LazyKernelCModule(bz2.decompress(base64.b64decode(quantization_code)))
raise SystemExit("nobody runs this")
"""
NOISE = bytes(range(256)) * 4  # so that little code fills more than a line


def fatbin(*targets: int, kind: int = 2) -> bytes:
    entries = b"".join(struct.pack("<HHIQ12xI32x", kind, 0x101, 64, 40, target) + bytes(40) for target in targets)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def cubin(flags: int, machine: int = 190) -> bytes:
    return struct.pack("<4s14xH28xI", b"\x7fELF", machine, flags) + NOISE


def read(code: bytes | str, text: str = CODE) -> tuple[int, ...]:
    packed = base64.b64encode(bz2.compress(code)).decode() if isinstance(code, bytes) else code
    return gpu_code(RecordedIO({"/m/quantization.py": text.replace("{code}", packed)}), "/m")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (fatbin(61, 70, 86) + NOISE, (61, 70, 86)),
        (cubin(75 | 75 << 16), (75,)),
        (fatbin(86, kind=1) + fatbin(61) + NOISE, ()),  # PTX: any later card compiles it
        (cubin(75, machine=62), ()),
        (NOISE, ()),
    ],
)
def test_machine_code_and_its_cards(code: bytes, found: tuple[int, ...]) -> None:
    assert read(code) == found


def test_the_mark_before_the_text_is_no_base64() -> None:
    packed = base64.b64encode(bz2.compress(fatbin(61) + NOISE)).decode()
    assert read("$" + packed) == (61,)


@pytest.mark.parametrize("code", ["", "A" * 400, "QlpoOTFBWSZTWQ" + "/" * 400])
def test_what_is_no_packed_code(code: str) -> None:
    assert read(code) == ()


def test_no_file_broken_code_and_a_bomb() -> None:
    assert gpu_code(RecordedIO({}), "/m") == ()
    assert read(b"", "import base64\n\0") == () and read(b"", "import base64 (") == ()
    assert read(fatbin(61) + NOISE + bytes(2 * LIMIT)) == (61,)
