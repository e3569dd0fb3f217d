"""Which libcuda is the driver's own: one answer for those who judge and those who link."""

from __future__ import annotations

import pytest

from glmdoctor.host import facts
from glmdoctor.readings.driver import driver_libraries, driver_library

VERSION = "535.183.01"


class Machine:
    def __init__(self, *libraries: facts.Library) -> None:
        self.libraries = libraries
        self.os = facts.Os("Linux", "6.1", "x86_64", "debian", "12", "Debian 12", None, False, 1000, "glibc 2.36")
        self.kernel_driver = facts.KernelDriver(True, VERSION, None, False, False, (), (), ())


def libcuda(folder: str, **fields: object) -> facts.Library:
    file = f"{folder}/libcuda.so.{VERSION}"
    chain = (f"{folder}/libcuda.so.1", file)
    given = {"fault": None, "size": 1, "elf_class": 64, "machine": "x86_64", "version": VERSION, "real": file, **fields}
    return facts.Library("cuda", chain[0], chain, ("loader-folder",), **given)


@pytest.mark.parametrize(
    "folder", ["/usr/local/cuda/compat", "/usr/local/cuda/compat_orig", "/usr/lib/aarch64-linux-gnu/tegra"]
)
def test_what_lies_beside_the_driver_is_judged_and_linked_alike(folder: str) -> None:
    """compat_orig was unknown to the remedies, and so was Tegra."""
    beside, own = libcuda(folder), libcuda("/usr/lib/x86_64-linux-gnu")
    assert driver_libraries(Machine(beside)) == () and driver_library(Machine(beside)) is None
    assert driver_libraries(Machine(beside, own)) == (own,) and driver_library(Machine(beside, own)) == own
