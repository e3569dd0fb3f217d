"""One cache of built kernels for all tests of this folder."""

import functools

import pytest

from glmcore.kernels.build import ensure_kernel
from glmcore.kernels.isa import usable_isas


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def built(kernel_cache):
    """``built(isa)``: the library for an instruction set that this CPU has."""
    return functools.cache(lambda isa: ensure_kernel(isa=isa, cache=kernel_cache))


NAMES = [isa.name for isa in usable_isas()]


# avx512bf16 multiplies as avx512vnni does.
@pytest.fixture(scope="session", params=[n for n in NAMES if n != "avx512vnni" or "avx512bf16" not in NAMES])
def library(request, built):
    """The library of each instruction set in turn."""
    return built(request.param)
