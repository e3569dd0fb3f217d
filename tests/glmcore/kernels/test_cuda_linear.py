"""The card's products without a card: Triton's interpreter, the compiler's word, and who is chosen."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glmcore.errors import GlmError
from glmcore.kernels.cuda import choice, cpm
from glmcore.kernels.cuda.choice import Backend, choose, torch_linear
from glmcore.quant.linear import QuantLinear

CPU = torch.device("cpu")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_fused_products_in_tritons_interpreter():
    script = Path(__file__).with_name("interpret_fused.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=280,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for case, error in json.loads(done.stdout).items():
        assert error < (2e-6 if "float32" in case else 2e-3), case


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_fused_products_compile_for_cards_that_are_not_here(tmp_path):
    script = Path(__file__).with_name("compile_fused.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=280,
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_cpm_kernels_is_imported_only_when_it_is_asked_for():
    code = "import sys, glmcore.kernels.cuda.cpm, glmcore.quant.linear; sys.exit('cpm_kernels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a card")
def test_cpm_kernels_without_a_driver_raises_and_is_passed_over(caplog):
    with caplog.at_level(logging.INFO, "glmcore"):
        assert choose(["cpm_kernels"], choice.open_backend, CPU) is None
    assert "no cpm_kernels on cpu" in caplog.text


@pytest.mark.skipif(shutil.which("nvcc", path="/usr/local/cuda/bin") is None, reason="no CUDA compiler")
def test_the_extraction_compiles(tmp_path):
    nvcc = shutil.which("nvcc", path="/usr/local/cuda/bin")
    source = Path(cpm.__file__).with_name("extract.cu")
    done = subprocess.run([nvcc, "-ptx", "-o", str(tmp_path / "out.ptx"), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out.ptx").read_text()
    assert "extract_int4" in text and "extract_int8" in text


def broken(name: str) -> Backend:
    if name == "absent":
        raise ImportError("no such package")
    if name == "wrong":
        return Backend(name, lambda *args: torch_linear(*args) * 1.5)
    if name == "nan":
        return Backend(name, lambda *args: torch_linear(*args) * float("nan"))
    return Backend(name, torch_linear)


def test_the_first_right_one_is_chosen(caplog):
    with caplog.at_level(logging.INFO, "glmcore"):
        assert choose(["absent", "wrong", "nan", "right", "torch"], broken, CPU).name == "right"
    assert "no absent on cpu: ImportError" in caplog.text
    assert caplog.text.count("gives wrong numbers") == 2


def test_none_is_chosen_where_none_is_right():
    assert choose(["absent", "wrong"], broken, CPU) is None


def test_a_wanted_backend_must_exist(monkeypatch):
    monkeypatch.setenv(choice.WANTED, "fast")
    with pytest.raises(GlmError, match="'fast' is no backend") as caught:
        choice.backend_for(torch.device("cuda", 0))
    assert caught.value.code == "usage"


def test_quantised_layers_ask_the_cards_backend(monkeypatch):
    """On the meta device in the card's place: what is asked for is the dispatch, not the numbers."""
    layer, asked = QuantLinear(8, 4, 4, True), []

    def record(x, weight, scale, bias, bits):
        asked.append(bits)
        return torch_linear(x, weight, scale, bias, bits)

    monkeypatch.setattr("glmcore.quant.linear.on_card", lambda x: True)
    monkeypatch.setattr(choice, "backend_for", lambda device: Backend("recorded", record))
    assert layer(torch.ones(2, 8)).shape == (2, 4) and asked == [4]
    with torch.enable_grad():
        layer(torch.ones(2, 8, requires_grad=True))
    assert asked == [4]  # only torch's way gives gradients
