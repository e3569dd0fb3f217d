"""What a model in stages costs beside the same in one piece: seconds of a token, in one process and thread of control.

``python scripts/bench_stages.py [MODEL]`` measures a checkpoint (int8 while loading; the demo model by default) and a
random one of 28 narrow layers, in one, two and four stages, in turns; medians of many rounds. Bits are compared too.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file

from glmcore import demo
from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import ModelConfig
from glmcore.engine.runner import Runner
from glmcore.engine.stages.load import load_stage
from glmcore.engine.stages.pipeline import Local, Pipeline
from glmcore.engine.stages.runner import StagedRunner

ROUNDS, STEPS, PROMPT = 40, 8, 64


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else demo.folder()
    report(folder.name, folder)
    with tempfile.TemporaryDirectory() as made:
        report("28 narrow layers", narrow(Path(made)))


def narrow(folder: Path) -> Path:
    """A checkpoint with the demo model's vocabulary and 28 layers of 256 values, whose weights are random."""
    raw = json.loads((demo.folder() / "config.json").read_text(encoding="utf-8"))
    raw |= {"num_layers": 28, "num_hidden_layers": 28}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    model = random_model(replace(ModelConfig.from_folder(folder), quantization_bit=0), torch.float16)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return folder


def report(name: str, folder: Path) -> None:
    config = ModelConfig.from_folder(folder).quantised(8)
    counts = [count for count in (1, 2, 4) if count <= config.num_layers]
    runners = {f"{count} stage(s)": in_stages(folder, config, count) for count in counts}
    whole = load_stage(folder, 0, config.num_layers, quantize="int8", threads=1)
    runners = {"in one piece": Runner(whole.model, config)} | runners
    taken: dict[str, list[float]] = {key: [] for key in runners}
    for turn in range(ROUNDS):
        found = {key: answer(runner, prompt_ids(config, PROMPT, turn), taken[key]) for key, runner in runners.items()}
        if not all(torch.equal(found["in one piece"], each) for each in found.values()):
            raise SystemExit(f"{name}: the bits differ")
    usual = statistics.median(taken["in one piece"])
    print(f"{name}: {config.num_layers} layers, int8, 1 thread; the same bits")
    for key, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"  {key:12} {middle * 1e3:7.3f} ms a token, {(middle - usual) * 1e3:+.3f} ms")


def in_stages(folder: Path, config: ModelConfig, count: int) -> StagedRunner:
    edges = [config.num_layers * number // count for number in range(count + 1)]
    stages = [load_stage(folder, first, last, quantize="int8", threads=1) for first, last in pairwise(edges)]
    return StagedRunner(Pipeline([Local(stage) for stage in stages]), config)


def answer(runner: Runner, prompt: list[int], taken: list[float]) -> torch.Tensor:
    """The last logits [V] of a few tokens behind a prompt, each of which is timed."""
    token = int(runner.prefill(prompt).argmax())
    for _ in range(STEPS):
        started = time.perf_counter()
        logits = runner.decode(token)
        taken.append(time.perf_counter() - started)
        token = int(logits.argmax())
    return logits


if __name__ == "__main__":
    main()
