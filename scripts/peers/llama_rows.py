"""What llama.cpp gives several clients: one after the other, and side by side. Run by the peers' interpreter.

python llama_rows.py FILE THREADS ROWS PROMPT STEPS

llama-cpp-python's server answers one request at a time: its clients together get what one gets, "alone". llama.cpp's
own server decodes its slots in one batch, which is measured here by the same call, "together". Tokens/s of all rows,
after a prompt of PROMPT tokens each.
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


class Rows:
    """A context in which several sequences grow side by side."""

    def __init__(self, path: str, threads: int, rows: int, length: int) -> None:
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit("llama.cpp does not load the file")
        settings = llama_cpp.llama_context_default_params()
        settings.n_seq_max, settings.n_ctx = rows, rows * length
        settings.n_batch = settings.n_ubatch = 512
        settings.n_threads = settings.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def feed(self, tokens: dict[int, list[int]], place: int) -> float:
        """Seconds for the logits behind each sequence's next tokens, which begin at ``place``."""
        batch = self.batch
        batch.n_tokens = 0
        for row, own in tokens.items():
            for at, token in enumerate(own):
                number = batch.n_tokens
                batch.token[number], batch.pos[number] = token, place + at
                batch.n_seq_id[number], batch.seq_id[number][0] = 1, row
                batch.logits[number] = at == len(own) - 1
                batch.n_tokens += 1
        started = time.perf_counter()
        status = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_synchronize(self.context)
        if status:
            raise SystemExit(f"llama_decode: {status}")
        return time.perf_counter() - started


def measure(path: str, threads: int, rows: int, prompt: int, steps: int) -> dict[str, float]:
    """The median step of one sequence, and of all of them."""
    held = Rows(path, threads, rows, prompt + 2 * steps + 8)
    tokens = np.random.default_rng(0).integers(10, held.vocab // 2, (rows, prompt + 2 * steps)).tolist()
    for row in range(rows):
        held.feed({row: tokens[row][:prompt]}, 0)
    together = [
        held.feed({row: [tokens[row][prompt + step]] for row in range(rows)}, prompt + step) for step in range(steps)
    ]
    alone = [held.feed({0: [tokens[0][prompt + steps + step]]}, prompt + steps + step) for step in range(steps)]
    return {"alone": 1 / float(np.median(alone)), "together": rows / float(np.median(together))}


def main() -> None:
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    path, *numbers = sys.argv[1:]
    print(json.dumps(measure(path, *map(int, numbers))))


if __name__ == "__main__":
    main()
