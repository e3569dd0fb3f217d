"""llama.cpp's whole model through llama-cpp-python: tokens/s of prefill and decode. Run by the peers' interpreter.

python llama.py FILE THREADS PROMPTS STEPS     PROMPTS for example 128,512; STEPS tokens are decoded after the shortest
"""

from __future__ import annotations

import json
import sys
import time

import llama_cpp
import numpy as np


@llama_cpp.llama_log_callback
def silent(level: int, text: bytes, data: object) -> None:
    """llama.cpp writes a line for every tensor."""


def feed(context, tokens: np.ndarray) -> float:
    """Seconds for the logits behind one more batch of tokens."""
    held = (llama_cpp.llama_token * len(tokens))(*tokens.tolist())  # the batch only points at them
    batch = llama_cpp.llama_batch_get_one(held, len(tokens))
    started = time.perf_counter()
    status = llama_cpp.llama_decode(context, batch)
    llama_cpp.llama_synchronize(context)
    if status:
        raise SystemExit(f"llama_decode: {status}")
    return time.perf_counter() - started


def measure(path: str, threads: int, lengths: list[int], steps: int) -> dict[str, object]:
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit("llama.cpp does not load the file")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = max(lengths) + steps + 8, max(lengths), 512
    settings.n_threads = settings.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, settings)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    tokens = np.random.default_rng(0).integers(10, vocab // 2, max(lengths) + steps)
    feed(context, tokens[:8])
    prefill = {}
    for length in sorted(lengths, reverse=True):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        prefill[str(length)] = length / feed(context, tokens[:length])
    taken = [feed(context, tokens[i : i + 1]) for i in range(steps)]
    return {"prefill": prefill, "decode": 1 / float(np.median(taken))}


def main() -> None:
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    path, threads, prompts, steps = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    print(json.dumps(measure(path, threads, [int(length) for length in prompts.split(",")], steps)))


if __name__ == "__main__":
    main()
