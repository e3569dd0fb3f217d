"""What loading costs: memory by the kernel's own count, and no imports that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import save_checkpoint
from glmcore.config import ModelConfig
from glmcore.layout import expected

ROOT = Path(__file__).resolve().parents[3]
CONFIG = {
    "_name_or_path": "THUDM/chatglm2-6b", "model_type": "chatglm", "num_layers": 4, "hidden_size": 2048,
    "ffn_hidden_size": 5504, "kv_channels": 128, "num_attention_heads": 16, "multi_query_attention": True,
    "multi_query_group_num": 2, "padded_vocab_size": 8192, "add_qkv_bias": True, "seq_length": 128,
}  # fmt: skip
PROGRAM = """
import json, resource, sys
from pathlib import Path
import torch
from glmcore.place import load_model

def status(field):
    return next(int(l.split()[1]) * 1024 for l in Path("/proc/self/status").read_text().splitlines() if field in l)

before = status("VmRSS:")
model = load_model(sys.argv[1], quantize=sys.argv[2] or None)
tensors = [*model.parameters(), *model.buffers()]
print(json.dumps({
    "model": sum(t.nbytes for t in tensors), "largest": max(t.nbytes for t in tensors),
    "rss": status("VmRSS:") - before,
    "peak": status("VmHWM:") - before, "modules": [m for m in ("sympy", "torch._dynamo") if m in sys.modules],
}))
"""


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float16 checkpoint of 410 MB, 7 parts in 8 of it in the layers."""
    folder = tmp_path_factory.mktemp("floats")
    layout = {n: TensorInfo(torch.float16, spec.shape) for n, spec in expected(ModelConfig.from_dict(CONFIG)).items()}

    def produce(names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        torch.manual_seed(0)
        return ((name, torch.rand(layout[name].shape).half()) for name in names)

    save_checkpoint(folder, CONFIG, layout, produce, shard_bytes=100_000_000)
    return folder


def load_alone(folder: Path, quantize: str = "") -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), quantize], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return json.loads(done.stdout)


def test_quantising_on_the_way_holds_the_result_and_little_more(floats: Path, tmp_path: Path):
    found = load_alone(floats, "int4")
    assert found["peak"] <= 1.15 * found["model"] + found["largest"]
    assert found["modules"] == [], "loading imports torch's compiler"
    done = subprocess.run(
        [sys.executable, "-m", "glmcore", "quantize", str(floats), "--quant", "int4", "-o", str(tmp_path / "int4")],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    packed = load_alone(tmp_path / "int4")
    # The original layout keeps 16 bits of embedding and head; loading makes bytes of them, with a scale for each row.
    rows, columns = CONFIG["padded_vocab_size"], CONFIG["hidden_size"]
    assert packed["model"] - found["model"] == 2 * rows * (2 * columns - (columns + 2))
    assert packed["rss"] <= 1.1 * packed["model"]
    assert packed["modules"] == []
