"""Everything that needs a card, in one call: the doctor, correctness on every backend, then speed at real shapes.

    python scripts/gpu_check.py [--out FOLDER] [--seconds 460] [--cpu]

Writes gpu_check.json and gpu_check.md. A part that the time no longer allows or that fails is named with the reason,
and the others go on. ``--cpu`` runs the same code on the CPU with small shapes, which checks this script, no speed.
The golden data is looked for as the tests do: GLM_GOLDEN, else ../shared/golden.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from glmcore.bench.measure import read_bandwidth, synchronize, weight_bytes
from glmcore.bench.workloads import random_model
from glmcore.config import NAMED, ModelConfig
from glmcore.engine.graph import GraphStep, StaticStep
from glmcore.kernels.cuda import choice
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState
from glmcore.place.hops import pieces_of
from glmcore.place.loader import load_model
from glmcore.place.multi_devices import place_model

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("GLM_GOLDEN", ROOT.parent / "shared" / "golden"))
KINDS = {"fp16": 0, "int8": 8, "int4": 4}
# Of a float16 model on a card, as a share of the largest logit; int4 and int8 carry the same rounding of activations.
TOLERANCE = 0.02
# Ratios that are aimed at on a card of the H200's class: (name, what is divided, by what, at least).
GOALS = (
    ("fp16 decode, share of copy bandwidth", "decode fp16 1x512 share", None, 0.7),
    ("int4 decode over fp16", "decode int4 1x512", "decode fp16 1x512", 2.2),
    ("int8 decode over fp16", "decode int8 1x512", "decode fp16 1x512", 1.6),
    ("int4 decode over cpm_kernels", "decode int4 1x512", "decode int4 1x512 by cpm_kernels", 4.0),
    ("fp16 decode over generate()", "decode fp16 1x512", "generate fp16", 3.0),
    ("prefill of 2k tokens, share of the bf16 rate", "prefill bf16 2048 share", None, 0.6),
)


@dataclass(frozen=True)
class Scale:
    """How large everything is: the real shapes on a card, small ones to try the script."""

    device: torch.device
    config: ModelConfig
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    steps: int
    prefill: int
    square: int  # rows and columns of the matrices whose product gives the matrix rate

    @property
    def on_card(self) -> bool:
        return self.device.type == "cuda"


CARD = Scale(torch.device("cuda", 0), NAMED["chatglm3-6b"], (1, 8, 32), (512, 8192), 32, 2048, 8192)
SMALL = replace(
    NAMED["chatglm3-6b"], num_layers=2, hidden_size=64, num_heads=4, head_dim=16, ffn_hidden_size=128, vocab_size=200
)
CPU = Scale(torch.device("cpu"), SMALL, (1, 2), (16,), 2, 8, 64)


class Record:
    """Figures by name, what failed or was left out, and the time that is left."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.figures: dict[str, float] = {}
        self.notes: dict[str, str] = {}

    def part(self, name: str, action: Callable[[], None]) -> None:
        """Run one part; its failure is a note, since the other parts' figures are worth having."""
        if time.monotonic() > self.ends:
            self.notes[name] = "left out: no time left"
            return
        started = time.monotonic()
        try:
            action()
        except Exception as error:
            self.notes[name] = f"failed: {type(error).__name__}: {error}"
        print(f"{name}: {self.notes.get(name, 'done')} ({time.monotonic() - started:.1f} s)", file=sys.stderr)


@contextmanager
def wanted(backend: str | None) -> Iterator[None]:
    """Let quantised layers use this backend, whatever the self-test would choose."""
    before = os.environ.pop(choice.WANTED, None)
    if backend is not None:
        os.environ[choice.WANTED] = backend
    try:
        yield
    finally:
        os.environ.pop(choice.WANTED, None)
        if before is not None:
            os.environ[choice.WANTED] = before


def doctor(record: Record, scale: Scale) -> None:
    command = [sys.executable, "-m", "glmdoctor", "check", "--json", *(["--deep"] if scale.on_card else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=ROOT)
    record.notes["doctor says"] = json.loads(done.stdout)["verdict"]


def correctness(record: Record, scale: Scale) -> None:
    """The golden logits from the whole model on every backend, and from models split over the card and the CPU."""
    if not GOLDEN.is_dir():
        raise FileNotFoundError(f"no golden data at {GOLDEN}")
    for backend in choice.NAMES if scale.on_card else ("torch",):
        with wanted(backend):
            for case in ("v1/base", "v1/int4", "v2/base", "v2/int4", "v2/int8", "glm4/int4"):
                record.part(f"logits {case} {backend}", lambda case=case, backend=backend: check_logits(
                    record, scale, case, backend))  # fmt: skip


def check_logits(record: Record, scale: Scale, case: str, backend: str) -> None:
    golden = load_file(GOLDEN / case / "golden.safetensors")
    ids, expected = golden["prompt.input_ids"], golden["prompt.logits"]
    model = load_model(GOLDEN / case, dtype="float16" if scale.on_card else "float32")
    names = [name for name, _ in pieces_of(model)]
    other = "cpu" if scale.on_card else "cpu:1"
    for kind, places in (
        ("whole", [str(scale.device)] * len(names)),
        ("split", [str(scale.device), other] * len(names)),
    ):
        placement = dict(zip(names, places, strict=False))
        if model.config.tie_embeddings:
            placement["lm_head"] = placement["embedding"]
        place_model(model, placement)
        with torch.inference_mode():
            got = model(ids.to(next(model.embedding.parameters(), next(model.embedding.buffers(), None)).device))
        error = float((got.float().cpu() - expected).abs().max() / expected.abs().max())
        record.figures[f"error {case} {kind} by {backend}"] = error
        if not error < TOLERANCE:
            raise AssertionError(f"{kind}: error {error:.3g}")


def machine(record: Record, scale: Scale) -> None:
    record.figures["copy GB/s"] = read_bandwidth(scale.device, None) / 1e9
    size, dtype = scale.square, torch.bfloat16
    left, right = (torch.randn(size, size, dtype=dtype, device=scale.device) for _ in range(2))
    seconds = timed(scale, lambda: left @ right, 10)
    record.figures["bf16 TFLOP/s"] = 2 * size**3 / seconds / 1e12


def decoding(record: Record, scale: Scale, kind: str) -> None:
    """Tokens/s of every batch and context; the cache counts as filled, what is in it costs the same."""
    model = random_on(scale, kind, torch.float16 if scale.on_card else torch.float32)
    for context in scale.contexts:
        for batch in scale.batches:
            name = f"decode {kind} {batch}x{context}"
            record.part(name, lambda n=name, b=batch, c=context: decode(record, scale, model, n, b, c))
    if kind == "int4" and scale.on_card:
        name = f"decode int4 1x{scale.contexts[0]} by cpm_kernels"
        with wanted("cpm_kernels"):
            record.part(name, lambda: decode(record, scale, model, name, 1, scale.contexts[0], recorded=False))


def decode(
    record: Record, scale: Scale, model: torch.nn.Module, name: str, batch: int, context: int, recorded: bool = True
) -> None:
    dtype = model.layers[0].input_layernorm.weight.dtype
    cache = KVCache(model.config, batch, context + scale.steps + 8, dtype, scale.device)
    cache.length = context
    with torch.inference_mode():
        step = (GraphStep if recorded and scale.on_card else StaticStep)(model, cache)
        ids = torch.full((batch, 1), 7, device=scale.device)
        positions = torch.full((batch, 1), context, device=scale.device)
        seconds = timed(scale, lambda: step(ids, positions), scale.steps)
    rate = batch / seconds
    read = weight_bytes(model) - model.embedding.weight.nbytes + cache.nbytes
    record.figures[name] = rate
    record.figures[f"{name} share"] = read / seconds / 1e9 / record.figures["copy GB/s"]


def prefilling(record: Record, scale: Scale) -> None:
    for kind, dtype in (("bf16", torch.bfloat16), ("int4", torch.float16)):
        model = random_on(scale, kind, dtype if scale.on_card else torch.float32)
        ids = torch.full((1, scale.prefill), 7, device=scale.device)
        inputs = PositionState(model.config, ids).prompt()
        with torch.inference_mode():
            seconds = timed(scale, lambda m=model, i=ids, k=inputs: m(i, last_only=True, **k), 3)
        name = f"prefill {kind} {scale.prefill}"
        layers = sum(p.numel() for layer in random_shapes(scale) for p in layer.parameters() if p.dim() == 2)
        record.figures[name] = scale.prefill / seconds
        record.figures[f"{name} share"] = 2 * layers * scale.prefill / seconds / 1e12 / record.figures["bf16 TFLOP/s"]
        del model
        release(scale)


def random_shapes(scale: Scale) -> torch.nn.ModuleList:
    """The layers of the model that is not quantised, without memory."""
    from glmcore.models import build

    with torch.device("meta"):
        return build(scale.config).layers


def generating(record: Record, scale: Scale) -> None:
    """transformers' own GLM at the same shapes through its own generate()."""
    from transformers import GlmConfig, GlmForCausalLM

    own = scale.config
    config = GlmConfig(
        vocab_size=own.vocab_size, hidden_size=own.hidden_size, intermediate_size=own.ffn_hidden_size,
        num_hidden_layers=own.num_layers, num_attention_heads=own.num_heads, num_key_value_heads=own.num_kv_heads,
        head_dim=own.head_dim, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    with scale.device:
        model = GlmForCausalLM(config).eval().half() if scale.on_card else GlmForCausalLM(config).eval()
    ids = torch.full((1, scale.contexts[0]), 7, device=scale.device)

    def tokens(count: int) -> None:
        model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, min_new_tokens=count
        )

    few, many = timed(scale, lambda: tokens(1), 2), timed(scale, lambda: tokens(1 + scale.steps), 2)
    record.figures["generate fp16"] = scale.steps / max(many - few, 1e-9)


def random_on(scale: Scale, kind: str, dtype: torch.dtype) -> torch.nn.Module:
    config = replace(scale.config, quantization_bit=KINDS.get(kind, 0))
    names = ["embedding", *(f"layer.{i}" for i in range(config.num_layers)), "final_norm", "lm_head"]
    model = random_model(config, dtype, placement=dict.fromkeys(names, str(scale.device)) if scale.on_card else None)
    release(scale)
    return model


def release(scale: Scale) -> None:
    if scale.on_card:
        torch.cuda.empty_cache()


def timed(scale: Scale, action: Callable[[], Any], rounds: int) -> float:
    """Seconds for one round, after one that does not count."""
    action()
    synchronize(scale.device)
    started = time.perf_counter()
    for _ in range(rounds):
        action()
    synchronize(scale.device)
    return (time.perf_counter() - started) / rounds


def goals(figures: dict[str, float]) -> list[dict[str, Any]]:
    """Each goal with what was reached; None where a figure is missing."""
    found = []
    for name, above, below, least in GOALS:
        reached = figures.get(above)
        if below is not None:
            reached = reached / figures[below] if reached is not None and figures.get(below) else None
        found.append({"goal": name, "at_least": least, "reached": reached})
    return found


def markdown(result: dict[str, Any]) -> str:
    lines = [f"# GPU check: {result['device']}", "", "| goal | at least | reached |", "|---|---|---|"]
    for goal in result["goals"]:
        reached = "not measured" if goal["reached"] is None else f"{goal['reached']:.2f}"
        lines.append(f"| {goal['goal']} | {goal['at_least']} | {reached} |")
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in result["figures"].items()]
    lines += ["", *(f"- {name}: {note}" for name, note in result["notes"].items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check"))
    parser.add_argument("--seconds", type=float, default=460, help="no new part is begun after this time")
    parser.add_argument("--cpu", action="store_true", help="small shapes on the CPU, to check the script")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        sys.exit("gpu_check: torch sees no card; --cpu runs the parts that need none")
    scale, record = CPU if options.cpu else CARD, Record(options.seconds)
    record.part("doctor", lambda: doctor(record, scale))
    record.part("correctness", lambda: correctness(record, scale))
    record.part("machine", lambda: machine(record, scale))
    for kind in KINDS:
        record.part(f"decoding {kind}", lambda kind=kind: decoding(record, scale, kind))
        release(scale)
    record.part("prefilling", lambda: prefilling(record, scale))
    record.part("generate", lambda: generating(record, scale))
    result = {
        "device": torch.cuda.get_device_name(0) if scale.on_card else "CPU, small shapes: no speed to go by",
        "backend": choice.backend_for(scale.device).name if scale.on_card else "torch",
        "figures": record.figures, "goals": goals(record.figures), "notes": record.notes,
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu_check.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "gpu_check.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))
    sys.exit(any(note.startswith("failed") for note in record.notes.values()))


if __name__ == "__main__":
    main()
