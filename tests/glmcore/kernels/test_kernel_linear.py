"""The kernels through torch tensors: against float64, and as the layer that models use."""

import ctypes
import logging
import os

import pytest
import torch
from golden_cases import GOLDEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from glmcore.errors import GlmError
from glmcore.kernels import abi, load, reading, reference, threads
from glmcore.kernels.load import Kernel
from glmcore.packing import dequantize, pack_int4
from glmcore.quant.convert import attach_kernel, quantize_model, quantize_module
from glmcore.quant.halves import HalfLinear

# Float32 sums: the share of full scale that rounding may cost.
TOLERANCE = 2e-6


@pytest.fixture(params=load.PRECISIONS)
def kernel(request, library):
    return Kernel(library, threads=2, precision=request.param)


def random_weight(n, k, bits, generator, extreme=False):
    low = -(2 ** (bits - 1))
    if extreme:  # nothing but the ends of the range: what would overflow narrow sums
        values = torch.where(torch.rand(n, k, generator=generator) < 0.5, low, -low - 1).to(torch.int8)
    else:
        values = torch.randint(low, -low, (n, k), generator=generator).to(torch.int8)
    return pack_int4(values) if bits == 4 else values


def activation_bits(kernel, bits, rows):
    """How many bits the library keeps of so many activation rows."""
    code = ctypes.CDLL(str(kernel.library.path))
    kept = code.glm_precision(bits, kernel.precision_number, ctypes.c_int64(rows))
    assert kept >= ({"exact": 24, "fast": 16 if rows <= 16 else 8, "light": 8}[kernel.precision])
    return kept


def assert_right(kernel, x, weight, scale, bits, bias=None):
    y = kernel.linear(x, weight, scale, bias, bits=bits)
    kept = x if kernel.precision == "exact" else reference.rounded(x, activation_bits(kernel, bits, len(x)))
    error = (y - reference.linear(kept, weight, scale, bits, bias)).abs()
    bound = reference.full_scale(kept, scale, bits, bias)
    assert (error <= TOLERANCE * bound + 1e-30).all(), (error / bound).max()


@pytest.mark.parametrize("bits", [4, 8])
def test_however_weights_are_read_the_bits_are_the_same(kernel, bits):
    generator, n, k = torch.Generator().manual_seed(6), 611, 514
    weight, scale = random_weight(n, k, bits, generator), torch.rand(n, generator=generator)
    code = load.declared(kernel.library)
    for rows in (1, 3):
        x, found = torch.randn(rows, k, generator=generator), []
        for way in (kernel.library.reading, (0, 64, 1 << 12, 1), (4096, 0, 1 << 30, 1 << 40)):
            code.glm_read_by(abi.Reading(*way))
            found.append(kernel.linear(x, weight, scale, bits=bits))
        code.glm_read_by(abi.Reading(*kernel.library.reading))
        assert all(torch.equal(found[0], other) for other in found[1:])


def test_another_way_of_reading_has_to_be_faster_by_more_than_chance():
    own, near, far = (256, 1, 1, 1), (512, 1, 1, 1), (1024, 1, 1, 1)
    assert reading.choose({own: [1.0, 1.0, 3.0], near: [0.96, 0.96, 2.85], far: [0.5, 1.2, 3.3]}) == own
    # The machine was three times as slow in the last round, for all of them.
    assert reading.choose({own: [1.0, 1.0, 3.0], near: [0.9, 0.9, 2.6], far: [0.8, 0.8, 2.4]}) == far


@given(m=st.integers(1, 40), n=st.integers(1, 140), pairs=st.integers(1, 200), bits=st.sampled_from((4, 8)),
       extreme=st.booleans(), spread=st.sampled_from((1e-30, 1.0, 1e4, 1e30)), seed=st.integers(0, 2**31))  # fmt: skip
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_agrees_with_float64(kernel, m, n, pairs, bits, extreme, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = random_weight(n, 2 * pairs, bits, generator, extreme)
    x = torch.randn(m, 2 * pairs, generator=generator) * spread
    scale, bias = torch.rand(n, generator=generator) + 0.01, torch.randn(n, generator=generator)
    assert_right(kernel, x, weight, scale, bits, bias)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("m", [1, 3, 9, 64])
def test_largest_values_do_not_overflow(kernel, bits, m):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for value in (low, low + 1, high):
        weight = torch.full((70, 384), value, dtype=torch.int8)
        weight = pack_int4(weight) if bits == 4 else weight
        for sign in (1.0, -1.0):
            assert_right(kernel, torch.full((m, 384), sign), weight, torch.ones(70), bits)


@pytest.mark.parametrize("m", [1, 40])
def test_blocks_of_zeros_and_outliers(kernel, m):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(m, 512, generator=generator)
    x[:, 128:256] = 0
    x[:, 300] = 3e4  # as transformers have them: one channel a thousand times the others
    assert_right(kernel, x, random_weight(33, 512, 4, generator), torch.ones(33), 4)
    assert kernel.linear(torch.zeros(m, 512), random_weight(33, 512, 8, generator), torch.ones(33), bits=8).eq(0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("m", [1, 40])
def test_values_that_are_not_finite_are_reported(kernel, bad, m):
    x = torch.ones(m, 200)
    x[m - 1, 199] = bad
    with pytest.raises(GlmError) as caught:
        kernel.linear(x, torch.ones(5, 200, dtype=torch.int8), torch.ones(5), bits=8)
    assert caught.value.code == "not-finite"


def test_number_of_threads_changes_nothing(library):
    x, weight, scale = torch.randn(50, 256), torch.randint(-127, 127, (300, 128), dtype=torch.int8), torch.rand(300)
    for m in (1, 50):
        results = [Kernel(library, threads=t, precision="fast").linear(x[:m], weight, scale, bits=4) for t in (1, 2, 9)]
        assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_shapes_that_do_not_fit_are_refused(kernel):
    weight, scale = torch.ones(6, 64, dtype=torch.int8), torch.ones(6)
    with pytest.raises(ValueError, match="width 100"):
        kernel.linear(torch.ones(1, 100), weight, scale, bits=4)
    with pytest.raises(ValueError, match="does not fit"):
        kernel.linear(torch.ones(1, 64), weight.T.contiguous().T, scale, bits=8)
    with pytest.raises(ValueError, match="6 float32"):
        kernel.linear(torch.ones(1, 64), weight, scale.half(), bits=8)
    with pytest.raises(ValueError, match="6 float32"):
        kernel.linear(torch.ones(1, 64), weight, scale, torch.ones(5), bits=8)
    assert kernel.linear(torch.ones(0, 64), weight, scale, bits=8).shape == (0, 6)


@pytest.mark.parametrize("dtype", load.TYPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_layer_gives_the_same_through_kernel_and_torch(kernel, dtype, bits):
    layer = quantize_module(nn.Linear(96, 50), bits)
    x = torch.randn(2, 3, 96).to(dtype)
    with torch.no_grad():
        expected = layer(x.float())
        layer.kernel = kernel
        y = layer(x)
    assert y.dtype == dtype and y.shape == (2, 3, 50)
    rounding = 0.02 if kernel.precision != "exact" else 4 * torch.finfo(dtype).eps
    assert ((y.float() - expected).norm() <= rounding * expected.norm()).item()


def test_layer_keeps_gradients_and_follows_new_weights(library):
    layer = quantize_module(nn.Linear(64, 8), 8)
    layer.kernel = Kernel(library, threads=1)
    x = torch.randn(4, 64, requires_grad=True)
    layer(x).sum().backward()  # through torch: the kernel has no gradient
    assert x.grad is not None
    other = quantize_module(nn.Linear(64, 8), 8)
    with torch.no_grad():
        layer(x)
        layer.load_state_dict(other.state_dict())
        torch.testing.assert_close(layer(x), other(x), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer.half().float()(x), other(x), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_head_of_16_bits_computes_in_float32(library, dtype):
    head = HalfLinear(70, 131, bias=False)
    head.weight = nn.Parameter(torch.randn(131, 70).to(dtype), requires_grad=False)
    x = torch.randn(2, 1, 70)
    expected = x.double() @ head.weight.double().T
    assert torch.allclose(head(x).double(), expected, atol=1e-4)
    head.kernel = Kernel(library, threads=2)
    assert torch.allclose(head(x).double(), expected, atol=1e-4)
    assert not head.kernel.takes16(torch.randn(9, 70), head.weight)
    with pytest.raises(GlmError, match="NaN"):
        head(torch.full((1, 70), float("nan")))
    with pytest.raises(ValueError, match="width 71"):
        head.kernel.linear16(torch.ones(1, 71), head.weight)


def test_reading_speed_is_a_plausible_number(library):
    assert 0.1 < Kernel(library).read_bandwidth(torch.zeros(1 << 24, dtype=torch.uint8)) < 5000


def test_attach_kernel_reaches_every_layer(library):
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])})
    kernel = Kernel(library)
    attach_kernel(quantize_model(model, 4), kernel)
    assert all(layer.kernel is kernel for layer in model["layers"])


@pytest.mark.parametrize("case", ["v1/int8", "v1/int4", "v2/int8", "v2/int4"])
def test_products_with_the_original_weights(library, case):
    with safe_open(GOLDEN / case / "model.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    with safe_open(GOLDEN / case / "dequantized.safetensors", "pt") as file:
        originals = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kernel, bits, generator = Kernel(library, threads=1), 4 if "int4" in case else 8, torch.Generator().manual_seed(5)
    for name, original in originals.items():
        stem = name.removesuffix("dequantized") + "weight"
        x = torch.randn(5, original.shape[1], generator=generator)
        y = kernel.linear(x, weights[stem], weights[stem + "_scale"].float(), bits=bits)
        torch.testing.assert_close(y, x @ original.T, atol=2e-5, rtol=1e-5)


def test_entry_points_of_the_original_kernel(library):
    """What the remote code's quantization.py calls in its ``kernel_file``."""
    code = ctypes.CDLL(str(library.path))
    pointer = lambda tensor: ctypes.c_void_p(tensor.data_ptr())  # noqa: E731
    code.set_num_threads(ctypes.c_int(2))
    generator = torch.Generator().manual_seed(1)
    values, scale = torch.randint(-8, 8, (7, 12), generator=generator, dtype=torch.int8), torch.rand(7)
    packed, out4, out8 = torch.empty(7, 6, dtype=torch.int8), torch.empty(7, 12), torch.empty(7, 12)
    code.compress_int4_weight(pointer(values), pointer(packed), ctypes.c_int32(7), ctypes.c_int32(6))
    assert torch.equal(packed, pack_int4(values))
    code.extract_int4_weight_to_float(
        pointer(packed), pointer(scale), pointer(out4), ctypes.c_int32(7), ctypes.c_int32(6)
    )
    code.extract_int8_weight_to_float(
        pointer(values), pointer(scale), pointer(out8), ctypes.c_int32(7), ctypes.c_int32(12)
    )
    assert torch.equal(out4, dequantize(packed, scale, 4)) and torch.equal(out8, out4)


def test_missing_compiler_is_announced_once(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(load.KERNEL_FILE, raising=False)
    load._announce.cache_clear()
    with caplog.at_level(logging.WARNING, "glmcore"):
        assert load.kernel_or_torch() is None and load.kernel_or_torch() is None
    assert [record.getMessage().count("no C compiler found") for record in caplog.records] == [1]
    assert load.backend_name(None) == "torch"


def test_file_that_was_asked_for_must_work(monkeypatch, tmp_path, library):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(load.KERNEL_FILE, str(tmp_path / "missing.so"))
    with pytest.raises(GlmError, match="no such file"):
        load.kernel_or_torch()
    monkeypatch.setenv(load.KERNEL_FILE, str(library.path))
    kernel = load.kernel_or_torch(threads=1, precision="fast")
    assert kernel.library.path == library.path and load.backend_name(kernel).endswith("fast, 1 thread")
    with pytest.raises(GlmError, match="precision"):
        load.load_kernel(precision="sloppy")


def test_threads_count_cores_not_their_siblings(tmp_path):
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert threads.physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert threads.physical_cores({0, 2}, tmp_path) == 1
    assert threads.physical_cores({5, 6}, tmp_path) == 2  # nothing known about them


@pytest.mark.parametrize(
    ("file", "text", "cpus"),
    [("cpu.max", "150000 100000", 1.5), ("cpu.max", "max 100000", float("inf")), ("other", "", float("inf"))],
)
def test_threads_honour_the_control_group(tmp_path, file, text, cpus):
    (tmp_path / file).write_text(text)
    assert threads.quota(tmp_path) == cpus
    assert threads.default_threads() >= 1


def test_waiting_threads_are_told_to_sleep_unless_the_user_said_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    threads.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    threads.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    threads.share_cores()
    assert "GOMP_SPINCOUNT" not in os.environ
