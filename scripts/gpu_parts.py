"""One part of ``gpu_check.py``, in a process of its own: ``python scripts/gpu_parts.py PART [--cpu]``.

Each figure and each note is a line of JSON on stdout as soon as it is known, so what follows can fail or be ended and
loses nothing that was measured. ``--cpu`` runs the same code on the CPU with small shapes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from glmcore.bench.measure import read_bandwidth, synchronize, weight_bytes
from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import NAMED, ModelConfig
from glmcore.engine.graph import GraphStep, StaticStep
from glmcore.engine.pipeline import prefill_chunks
from glmcore.engine.runner import Runner, layer_devices, layer_dtypes
from glmcore.kernels.cuda import choice
from glmcore.models import build
from glmcore.models.cache import KVCache
from glmcore.place.hops import pieces_of
from glmcore.place.loader import UNCOUNTED, dtype_name, load_model
from glmcore.place.multi_devices import place_model
from glmcore.plan import CUDA_CONTEXT_BYTES, Device, Precision, make_plan

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
CASES = ("v1/base", "v1/int4", "v2/base", "v2/int4", "v2/int8", "glm4/int4")
KINDS = {"fp16": 0, "bf16": 0, "int8": 8, "int4": 4}
# Of a float16 model on a card, as a share of the largest logit; int4 and int8 carry the same rounding of activations.
TOLERANCE = 0.02


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

    def dtype(self, kind: str) -> torch.dtype:
        return (torch.bfloat16 if kind == "bf16" else torch.float16) if self.on_card else torch.float32


def small(name: str, bits: int = 0) -> ModelConfig:
    return replace(
        NAMED[name], num_layers=4, hidden_size=64, num_heads=4, head_dim=16, ffn_hidden_size=128, vocab_size=400,
        num_kv_heads=4 if name == "chatglm-6b" else 2, gmask_token_id=390, bos_token_id=391, mask_token_id=389,
        quantization_bit=bits,
    )  # fmt: skip


CARD = Scale(torch.device("cuda", 0), NAMED["chatglm3-6b"], (1, 8, 32), (512, 8192), 32, 2048, 8192)
CPU = Scale(torch.device("cpu"), small("chatglm3-6b"), (1, 2), (16,), 2, 8, 64)


def figure(name: str, value: float) -> None:
    print(json.dumps({"figure": name, "value": value}), flush=True)


def note(name: str, text: str) -> None:
    print(json.dumps({"note": name, "text": text}), flush=True)


def attempt(name: str, action: Callable[[], None]) -> None:
    """One step of a part; its failure is a note, since the others' figures are worth having."""
    try:
        action()
    except Exception as error:
        note(name, f"failed: {type(error).__name__}: {str(error)[:300]}")


def doctor(scale: Scale) -> None:
    command = [sys.executable, "-m", "glmdoctor", "check", "--json", *(["--deep"] if scale.on_card else [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    report = json.loads(done.stdout)
    note("doctor says", report["verdict"])


def machine(scale: Scale) -> None:
    used = card_used() if scale.on_card else 0
    note("device", torch.cuda.get_device_name(0) if scale.on_card else "CPU, small shapes: no speed to go by")
    size, dtype = scale.square, torch.bfloat16
    left, right = (torch.randn(size, size, dtype=dtype, device=scale.device) for _ in range(2))
    figure("bf16 TFLOP/s", 2 * size**3 / timed(scale, lambda: left @ right, 10) / 1e12)
    figure("copy GB/s", read_bandwidth(scale.device, None) / 1e9)
    if scale.on_card:
        # What the card lost since this process began, beyond what torch asked for.
        figure("CUDA context MiB", (card_used() - used - torch.cuda.memory_reserved()) / 2**20)
        figure("CUDA context MiB as planned", CUDA_CONTEXT_BYTES / 2**20)
        note("backend", choice.backend_for(scale.device).name)


def card_used() -> int:
    import pynvml

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used


def logits(scale: Scale, backend: str) -> None:
    """Logits on the card, whole and split with the CPU: small random models against the CPU's own, and golden ones."""
    with_backend(backend)
    for name in ("chatglm-6b", "chatglm2-6b", "glm-4-9b"):
        for bits in (0, 8, 4):
            attempt(f"logits {name} {bits} by {backend}", lambda n=name, b=bits: random_logits(scale, n, b, backend))
    if not GOLDEN.is_dir():
        note("golden", f"left out: no golden data at {GOLDEN}")
        return
    for case in CASES:
        attempt(f"logits {case} by {backend}", lambda c=case: golden_logits(scale, c, backend))


def random_logits(scale: Scale, name: str, bits: int, backend: str) -> None:
    model = random_model(small(name, bits), torch.float32)
    ids = torch.tensor([prompt_ids(model.config, 24)])
    with torch.inference_mode():
        expected = model(ids)
    compare(scale, model, ids, expected, f"{name} {f'int{bits}' if bits else 'fp16'} {{}} by {backend}")


def golden_logits(scale: Scale, case: str, backend: str) -> None:
    golden = load_file(GOLDEN / case / "golden.safetensors")
    model = load_model(GOLDEN / case, dtype="float16" if scale.on_card else "float32")
    compare(scale, model, golden["prompt.input_ids"], golden["prompt.logits"], f"{case} {{}} by {backend}")


@torch.inference_mode()
def compare(scale: Scale, model: torch.nn.Module, ids: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """The whole model, one split piece by piece, that one's prompt in chunks, and a recorded step."""
    card, other = str(scale.device), "cpu" if scale.on_card else "cpu:1"
    place_model(model, placement_of(model, [card]))
    check(model(ids.to(scale.device)), expected, name.format("whole"))
    if model.config.traits.causal:
        cache = cache_for(model)
        model(ids[:, :-1].to(scale.device), cache=cache)
        step = (GraphStep if scale.on_card else StaticStep)(model, cache)
        places = torch.full((len(ids),), cache.length)
        check(step(ids[:, -1:], places[:, None], places)[:, None], expected[:, -1:], name.format("recorded"))
    place_model(model, placement_of(model, [card, other]))
    check(model(ids.to(scale.device)), expected, name.format("split"))
    if model.config.traits.causal:
        parts = ids.to(scale.device).split(5, dim=1)
        check(prefill_chunks(model, parts, cache_for(model)), expected[:, -1:], name.format("split in chunks"))


def placement_of(model: torch.nn.Module, places: list[str]) -> dict[str, str]:
    names = [name for name, _ in pieces_of(model)]
    placement = {name: places[number % len(places)] for number, name in enumerate(names)}
    return placement | ({"lm_head": placement["embedding"]} if model.config.tie_embeddings else {})


def cache_for(model: torch.nn.Module) -> KVCache:
    return KVCache(model.config, 1, 64, layer_dtypes(model), layer_devices(model))


def check(got: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    error = float((got.float().cpu() - expected).abs().max() / expected.abs().max())
    figure(f"error {name}", error)
    if not error < TOLERANCE:
        note(f"logits {name}", f"failed: error {error:.3g}")


def decoding(scale: Scale, kind: str, backend: str | None = None) -> None:
    """Tokens/s of every batch and context; the cache counts as filled, what is in it costs the same."""
    with_backend(backend)
    model = random_on(scale, kind)
    for context in scale.contexts:
        for batch in scale.batches:
            name = f"decode {kind} {batch}x{context}" + (f" by {backend}" if backend else "")
            attempt(name, lambda n=name, b=batch, c=context: decode(scale, model, n, b, c, recorded=backend is None))


@torch.inference_mode()
def decode(scale: Scale, model: torch.nn.Module, name: str, batch: int, context: int, *, recorded: bool) -> None:
    cache = KVCache(model.config, batch, context + scale.steps + 8, hidden_type(model), scale.device)
    cache.length = context
    step = (GraphStep if recorded and scale.on_card else StaticStep)(model, cache)
    ids, lengths = torch.full((batch, 1), 7), torch.full((batch,), context)
    seconds = timed(scale, lambda: step(ids, lengths[:, None], lengths), scale.steps)
    read = weight_bytes(model) - model.embedding.weight.nbytes + cache.nbytes
    figure(name, batch / seconds)
    figure(f"{name} GB/s", read / seconds / 1e9)


@torch.inference_mode()
def prefilling(scale: Scale, kind: str) -> None:
    """A prompt as the engine takes it, in chunks on its cache; and what that took beside what was planned."""
    model = random_on(scale, kind)
    runner, count = Runner(model, model.config), scale.prefill
    prompts = [[10 + number, *[7] * (count - 1)] for number in range(4)]  # none begins like another
    taken = iter(prompts)
    seconds = timed(scale, lambda: runner.prefill(next(taken)), 3)
    layers = sum(p.numel() for layer in shapes(scale).layers for p in layer.parameters() if p.dim() == 2)
    figure(f"prefill {kind} {count}", count / seconds)
    figure(f"prefill {kind} {count} TFLOP/s", 2 * layers * count / seconds / 1e12)
    if scale.on_card:
        precision = Precision("bfloat16" if kind == "bf16" else "float16", KINDS[kind])
        plan = make_plan(scale.config, [Device("cuda:0", 2**40)], precision=precision, context=count)
        planned = plan.devices[0].total_bytes - CUDA_CONTEXT_BYTES
        figure(f"prefill {kind} peak over planned bytes", torch.cuda.max_memory_allocated() / planned)


def shapes(scale: Scale) -> torch.nn.Module:
    """The model that is not quantised, without memory."""
    with torch.device("meta"):
        return build(scale.config)


def generating(scale: Scale) -> None:
    """transformers' own GLM at the same shapes through its own generate()."""
    from transformers import GlmConfig, GlmForCausalLM

    own = scale.config
    config = GlmConfig(
        vocab_size=own.vocab_size, hidden_size=own.hidden_size, intermediate_size=own.ffn_hidden_size,
        num_hidden_layers=own.num_layers, num_attention_heads=own.num_heads, num_key_value_heads=own.num_kv_heads,
        head_dim=own.head_dim, max_position_embeddings=max(scale.contexts) + 64, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(scale.dtype("fp16"))
    try:
        with scale.device:
            model = GlmForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    wanted = [(batch, scale.contexts[0]) for batch in scale.batches] + [(1, scale.contexts[-1])]
    for batch, context in dict.fromkeys(wanted):
        name = f"generate fp16 {batch}x{context}"
        attempt(name, lambda n=name, b=batch, c=context: figure(n, generated(scale, model, b, c)))


def generated(scale: Scale, model: Any, batch: int, context: int) -> float:
    """Tokens/s from the first token, which waits for the prompt, to the last."""
    ids = torch.full((batch, context), 7, device=scale.device)
    known: list[float] = []

    def stamp(tokens: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        synchronize(scale.device)
        known.append(time.perf_counter())
        return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)

    for _ in range(2):  # the first round does not count
        known.clear()
        model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=1 + scale.steps,
            stopping_criteria=[stamp],
        )  # fmt: skip
    return batch * (len(known) - 1) / (known[-1] - known[0])


def random_on(scale: Scale, kind: str) -> torch.nn.Module:
    config = replace(scale.config, quantization_bit=KINDS[kind])
    precision = Precision.of(config, dtype_name(scale.dtype(kind)))
    return random_model(config, plan=make_plan(config, [Device(str(scale.device), UNCOUNTED)], precision=precision))


def hidden_type(model: torch.nn.Module) -> torch.dtype:
    return model.layers[0].input_layernorm.weight.dtype


def with_backend(backend: str | None) -> None:
    """Let quantised layers use this backend in this process, whatever the self-test would choose."""
    if backend is not None:
        os.environ[choice.WANTED] = backend


def timed(scale: Scale, action: Callable[[], Any], rounds: int) -> float:
    """Seconds for one round, after one that does not count."""
    action()
    synchronize(scale.device)
    started = time.perf_counter()
    for _ in range(rounds):
        action()
    synchronize(scale.device)
    return (time.perf_counter() - started) / rounds


PARTS: dict[str, Callable[[Scale], None]] = {
    "doctor": doctor,
    "machine": machine,
    "generate": generating,
    "decode int4 by cpm_kernels": lambda scale: decoding(scale, "int4", "cpm_kernels" if scale.on_card else "torch"),
    **{f"logits {name}": lambda scale, n=name: logits(scale, n) for name in choice.NAMES},
    **{f"decode {kind}": lambda scale, k=kind: decoding(scale, k) for kind in ("fp16", "int8", "int4")},
    **{f"prefill {kind}": lambda scale, k=kind: prefilling(scale, k) for kind in ("bf16", "int4")},
}


if __name__ == "__main__":
    if "--cpu" in sys.argv:
        torch.set_num_threads(1)  # nothing here is large enough for more
        PARTS[sys.argv[1]](CPU)
    else:
        PARTS[sys.argv[1]](CARD)
