"""Train the demo model: a small ChatGLM2 that answers questions about the problem catalogue in English and Chinese.

    python scripts/train_demo.py --out FOLDER [--work FOLDER] [--minutes 40] [--threads 2]

The same seed gives the same model while the time suffices; ``--minutes`` only makes the learning rate fall sooner. An
interrupted run goes on from the last state in ``--work``.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sentencepiece
import torch
import torch.nn.functional as F
from demo_corpus import Corpus, Example, training_example
from torch import Tensor, nn

from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import write_safetensors
from glmcore.config import ModelConfig
from glmcore.models import build
from glmcore.packing import dequantize
from glmcore.quant.schemes import quantize_rows
from glmcore.tokenizers import Tokenizer, load_tokenizer

VOCABULARY = 3072
CONFIG = {
    "_name_or_path": "glmcore/chatglm2-demo",
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "ffn_hidden_size": 512,
    "fp32_residual_connection": False,
    "hidden_dropout": 0.0,
    "hidden_size": 192,
    "kv_channels": 32,
    "layernorm_epsilon": 1e-05,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 6,
    "num_layers": 4,
    "original_rope": True,
    "padded_vocab_size": VOCABULARY,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 2048,
    "use_cache": True,
    "torch_dtype": "float16",
    "transformers_version": "4.27.1",
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
BLOCKS, BLOCK_EXAMPLES = 160, 512  # a block is sampled, sorted by length and cut into batches
BATCH_TOKENS = 3072
PEAK_RATE, WARM_UP = 3e-3, 0.04
QUANTISED_FROM = 0.55  # the share of the training after which half of the batches see int4 weights
IGNORED = -100


def train_tokenizer(corpus: Corpus, folder: Path) -> None:
    """A sentencepiece model as ChatGLM2's: BPE, bytes for what is unknown, every blank kept."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus.texts(),
        model_writer=model,  # written to a file by the library, the model would hold the file's path
        model_type="bpe",
        vocab_size=VOCABULARY - 8,  # room for the special tokens that the tokenizer appends
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["[Round", "]\n\n问：", "\n\n答："],  # the prompt's frame costs few tokens
        pad_id=-1,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        num_threads=2,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    description = {"name_or_path": CONFIG["_name_or_path"], "remove_space": False, "do_lower_case": False}
    description["tokenizer_class"] = "ChatGLMTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(description, indent=2) + "\n")


@dataclass(frozen=True)
class Batch:
    """Token ids [B, S], padded on the right, and what each position is to predict, or IGNORED."""

    ids: Tensor
    labels: Tensor


def encode(example: Example, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """The ids of prompt and answer, and how many of them are the prompt's."""
    prompt = tokenizer.apply_chat_template(example.messages)
    return [*prompt, *tokenizer.encode(example.answer), tokenizer.eos_token_ids[0]], len(prompt)


def batches(corpus: Corpus, tokenizer: Tokenizer, rng: random.Random) -> list[Batch]:
    """One block of examples, those of like length together."""
    encoded = [encode(training_example(corpus, rng), tokenizer) for _ in range(BLOCK_EXAMPLES)]
    encoded.sort(key=lambda pair: len(pair[0]))
    groups: list[list[tuple[list[int], int]]] = [[]]
    for pair in encoded:
        if (len(groups[-1]) + 1) * len(pair[0]) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(pair)
    rng.shuffle(groups)
    return [_batch(group) for group in groups if group]


def _batch(group: list[tuple[list[int], int]]) -> Batch:
    width = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, prompt) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, prompt - 1 : len(tokens) - 1] = torch.tensor(tokens[prompt:])
    return Batch(ids, labels)


def initialise(model: nn.Module, layers: int) -> None:
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            into_residual = name.endswith(("dense.weight", "dense_4h_to_h.weight"))
            nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if into_residual else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


@contextmanager
def quantised(model: nn.Module, bits: int | None) -> Iterator[None]:
    """The layers' weights as ``bits`` leave them: gradients are taken there and applied to the full weights."""
    linears = [m for layer in model.layers for m in layer.modules() if isinstance(m, nn.Linear)] if bits else []
    kept = [linear.weight.data for linear in linears]
    for linear in linears:
        linear.weight.data = dequantize(*quantize_rows(linear.weight.data.half(), bits), bits)
    yield
    for linear, weight in zip(linears, kept, strict=True):
        linear.weight.data = weight


def learning_rate(progress: float) -> float:
    if progress < WARM_UP:
        return PEAK_RATE * progress / WARM_UP
    return PEAK_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))))


class Trainer:
    """Model, optimiser and how far they are."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, config: ModelConfig, minutes: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.corpus, self.tokenizer, self.minutes, self.seed = corpus, tokenizer, minutes, seed
        self.model = build(config).float()
        initialise(self.model, config.num_layers)
        matrices = [p for p in self.model.parameters() if p.dim() == 2]
        rest = [p for p in self.model.parameters() if p.dim() != 2]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.97), fused=True)
        self.block, self.seconds, self.cpu_seconds, self.tokens = 0, 0.0, 0.0, 0
        self._chosen: Tensor | None = None
        # Only positions that have a label need logits.
        self.model.lm_head.register_forward_pre_hook(lambda _, inputs: (inputs[0][self._chosen],))

    def progress(self) -> float:
        return max(self.block / BLOCKS, self.seconds / 60 / self.minutes)

    def train_block(self) -> float:
        """One block; returns its mean loss per answer token."""
        started, cpu = time.monotonic(), time.process_time()
        rng = random.Random(f"{self.seed}-{self.block}")
        losses = [self._step(batch, rng) for batch in batches(self.corpus, self.tokenizer, rng)]
        self.block += 1
        self.seconds += time.monotonic() - started
        self.cpu_seconds += time.process_time() - cpu
        return sum(losses) / len(losses)

    def _step(self, batch: Batch, rng: random.Random) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(min(self.progress(), 1.0))
        self._chosen = batch.labels != IGNORED
        bits = 4 if self.progress() > QUANTISED_FROM and rng.random() < 0.5 else None
        with quantised(self.model, bits):
            loss = F.cross_entropy(self.model(batch.ids), batch.labels[self._chosen])
            loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.tokens += batch.ids.numel()
        return loss.item()

    def save(self, path: Path) -> None:
        state = {name: getattr(self, name) for name in ("block", "seconds", "cpu_seconds", "tokens")}
        part = path.with_suffix(".part")
        torch.save(state | {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, part)
        part.replace(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state.pop("model"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        vars(self).update(state)


def run(trainer: Trainer, work: Path) -> None:
    """Train to the end with a line per block, a log for the curve, and a state to go on from."""
    if (work / "state.pt").exists():
        trainer.resume(work / "state.pt")
    with (work / "log.jsonl").open("a") as log:
        while trainer.progress() < 1:
            loss = trainer.train_block()
            trainer.save(work / "state.pt")
            minutes, done = trainer.seconds / 60, trainer.progress()
            figures = {"block": trainer.block, "loss": round(loss, 4), "minutes": round(minutes, 2)}
            figures |= {"cpu_minutes": round(trainer.cpu_seconds / 60, 2), "tokens": trainer.tokens}
            log.write(json.dumps(figures) + "\n")
            log.flush()
            print(
                f"block {trainer.block}/{BLOCKS}  loss {loss:.4f}  {trainer.tokens / trainer.seconds:.0f} tokens/s  "
                f"{minutes:.1f} min, {minutes / done - minutes:.1f} min left",
                flush=True,
            )


def write_model(model: nn.Module, config: dict, tokenizer: Path, out: Path) -> None:
    """The checkpoint in the original layout, in half precision."""
    tensors = {name: value.half() for name, value in model.state_dict().items()}
    size = config["kv_channels"] // 2
    tensors["transformer.rotary_pos_emb.inv_freq"] = (1 / 10000 ** (torch.arange(0, size, 2) / size)).half()
    out.mkdir(parents=True, exist_ok=True)
    layout = {name: TensorInfo(value.dtype, tuple(value.shape)) for name, value in tensors.items()}
    write_safetensors(out / "model.safetensors", layout, tensors.items())
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, out / name)
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="folder for the state of the training")
    parser.add_argument("--minutes", type=float, default=40, help="the training ends by then")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = Corpus()
    if not (options.work / "tokenizer_config.json").exists():
        train_tokenizer(corpus, options.work)
    config = ModelConfig.from_dict(CONFIG)
    tokenizer = load_tokenizer(options.work, config)
    trainer = Trainer(corpus, tokenizer, config, options.minutes, options.seed)
    run(trainer, options.work)
    write_model(trainer.model, CONFIG, options.work, options.out)
    print(f"wrote {options.out}: {sum(f.stat().st_size for f in options.out.iterdir()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
