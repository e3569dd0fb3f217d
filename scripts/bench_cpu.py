"""Measure our decoding and prefill on the CPU beside the peers and the machine's limits, in one run and in turn.

    python scripts/bench_cpu.py --threads 2 --peers-python VENV/bin/python --work FOLDER [--into docs/benchmarks.md]

Every measurement is a process of its own, so that never two large models are held at once; the parts take turns, round
by round. FOLDER keeps random model files (14 GB) for the next run. VENV may hold llama-cpp-python and gguf, openvino,
onnxruntime and onnx, and matplotlib for the picture; what is missing is named and left out. ``--quick`` measures small
shapes, to try the script itself.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from bench_load import cpu_name, memory_total, warm
from document import printed, section
from layers import head_shape, layer_shapes, sizes
from sections import put_into
from summary import BEGIN, END, PRECISIONS, ROW_GOALS, Shape, goals, other_goals, points

from glmcore import demo
from glmcore.config import ModelConfig, find_config
from glmcore.kernels.threads import default_threads

SCRIPTS = Path(__file__).resolve().parent
PEERS = SCRIPTS / "peers"
CHILD_SECONDS = 900
LOADS = 5
# Large, or with a ratio so far from its goal that a round less loses nothing.
MOST_ROUNDS = {"v1": 1, "glm4": 2, "int8": 2, "llama.cpp Q8_0": 2, "OpenVINO": 2, "onnxruntime": 2, "original": 1}
MODEL = "chatglm2-6b"
QUICK = {"hidden_size": 256, "num_attention_heads": 4, "kv_channels": 64, "ffn_hidden_size": 384}
# Packages of the peers' interpreter, and how long a part takes for the first guess of the remaining time, in seconds.
NEEDS = {
    "llama.cpp Q4_0": ("llama_cpp", "gguf"), "llama.cpp Q8_0": ("llama_cpp", "gguf"),
    "OpenVINO": ("openvino", "numpy"), "onnxruntime": ("onnxruntime", "onnx"),
}  # fmt: skip
GUESSES = {
    "machine": 8, "int4": 60, "llama.cpp Q4_0": 70, "OpenVINO": 20, "onnxruntime": 25, "original": 15,
    "our layers": 12, "int8": 50, "llama.cpp Q8_0": 50, "v1": 30, "glm4": 45, "load": 8, "demo": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is measured, with what."""

    threads: int
    rounds: int
    work: Path
    peers_python: str | None
    quick: bool
    config: ModelConfig = field(repr=False)

    @property
    def lengths(self) -> tuple[int, int]:
        return (16, 32) if self.quick else (128, 512)

    @property
    def contexts(self) -> tuple[int, int]:
        return (32, 64) if self.quick else (512, 8192)

    @property
    def sizes(self) -> dict[str, int]:
        """The shape as the peers take it."""
        return sizes(self.config)

    @property
    def shape(self) -> Shape:
        layer = sum(rows * columns for rows, columns in layer_shapes(self.sizes))
        rows, columns = head_shape(self.sizes)
        return Shape(self.config.num_layers * layer, rows * columns, self.lengths, self.contexts)

    @property
    def loads(self) -> int:
        return 1 if self.quick else LOADS

    @property
    def steps(self) -> int:
        return 4 if self.quick else 20


def commands(setting: Setting) -> dict[str, list[str]]:
    """How each part is measured once, in the order of a round."""
    threads, sizes = str(setting.threads), json.dumps(setting.sizes)
    lengths = ",".join(map(str, setting.lengths))
    theirs = setting.peers_python or ""

    def ours(
        model: str, quant: str, lengths: Sequence[int], precisions: Sequence[str], contexts=(), rows=()
    ) -> list[str]:
        task = {
            "model": dict(setting.config.raw) if setting.quick else model, "quant": quant, "threads": setting.threads,
            "lengths": lengths, "steps": setting.steps, "contexts": contexts, "precisions": precisions, "rows": rows,
        }  # fmt: skip
        return [sys.executable, str(PEERS / "ours.py"), "model", json.dumps(task)]

    def llama(kind: str, lengths: str) -> list[str]:
        return [theirs, str(PEERS / "llama.py"), str(gguf(setting, kind)), threads, lengths, str(setting.steps)]

    def by_layers(python: str, script: str) -> list[str]:
        return [python, str(PEERS / script), sizes, threads, lengths]

    own, short = sys.executable, setting.lengths[:1]
    return {
        "machine": [own, str(PEERS / "machine.py"), sizes, threads],
        "int4": ours(MODEL, "int4", setting.lengths, PRECISIONS, setting.contexts, list(ROW_GOALS["fast"])),
        "llama.cpp Q4_0": llama("Q4_0", lengths),
        "OpenVINO": by_layers(theirs, "openvino_layers.py"),
        "onnxruntime": by_layers(theirs, "onnxruntime_layers.py"),
        "original": by_layers(own, "original_layers.py"),
        "our layers": by_layers(own, "our_layers.py"),
        "int8": ours(MODEL, "int8", short, PRECISIONS),
        "llama.cpp Q8_0": llama("Q8_0", str(setting.lengths[0])),
        "v1": ours("chatglm-6b", "int4", short, PRECISIONS[:1]),
        "glm4": ours("glm-4-9b", "int4", short, PRECISIONS[:1]),
        "load": [own, str(PEERS / "ours.py"), "load", str(checkpoint(setting)), threads],
        "demo": [own, str(PEERS / "ours.py"), "demo", threads],
    }


def schedule(parts: Sequence[str], rounds: int, loads: int = LOADS) -> list[str]:
    """Round after round, some parts in the first ones only; loading, the most scattered, is added at the end."""
    listed = [part for at in range(rounds) for part in parts if at < MOST_ROUNDS.get(part, rounds)]
    return listed + ["load"] * max(0, loads - rounds) * ("load" in parts)


def gguf(setting: Setting, kind: str) -> Path:
    return setting.work / f"{'quick-' if setting.quick else ''}{kind.lower()}.gguf"


def checkpoint(setting: Setting) -> Path:
    """The folder that loading is measured with."""
    return Path(demo.folder()) if setting.quick else setting.work / f"{MODEL}-int4"


def prepare(setting: Setting, parts: Sequence[str]) -> None:
    """The files that the parts read, unless an earlier run left them."""
    setting.work.mkdir(parents=True, exist_ok=True)
    for kind in ("Q4_0", "Q8_0"):
        if f"llama.cpp {kind}" in parts and not gguf(setting, kind).exists():
            say(f"writing {gguf(setting, kind)}")
            script = [str(PEERS / "gguf_random.py"), json.dumps(setting.sizes), kind, str(gguf(setting, kind))]
            subprocess.run([setting.peers_python, *script], check=True)
    if "load" in parts and not (checkpoint(setting) / "config.json").exists():
        say(f"writing {checkpoint(setting)}")
        script = [str(SCRIPTS / "make_random_checkpoint.py"), MODEL, str(checkpoint(setting)), "--quant", "int4"]
        subprocess.run([sys.executable, *script], check=True)


def missing(peers_python: str | None, parts: Sequence[str]) -> dict[str, str]:
    """Peers that cannot run, and why."""
    wanted = sorted({package for part in parts for package in NEEDS.get(part, ())})
    if peers_python is None:
        return {part: "no --peers-python was given" for part in parts if part in NEEDS}
    lacking = [package for package in wanted if not has(peers_python, package)]
    short = {part: [name for name in NEEDS.get(part, ()) if name in lacking] for part in parts}
    return {part: f"{peers_python} lacks {', '.join(names)}" for part, names in short.items() if names}


def has(python: str, package: str) -> bool:
    """Whether an interpreter can find a package; nothing of it is imported."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def run(command: Sequence[str]) -> dict[str, Any] | str:
    """What a measurement printed, or why it has no result."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"did not end within {CHILD_SECONDS} s"
    except OSError as error:
        return f"did not start: {error.strerror}"
    if done.returncode < 0:
        return f"crashed with {signal.Signals(-done.returncode).name}"
    if done.returncode:
        return f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    setting: Setting, parts: Sequence[str], absent: dict[str, str], runner: Callable = run
) -> dict[str, list[dict[str, Any]]]:
    """All rounds; a part that fails is put into ``absent`` and not tried again."""
    how, results = commands(setting), {part: [] for part in parts}
    taken: dict[str, float] = {}
    listed = schedule([part for part in parts if part not in absent], setting.rounds, setting.loads)
    for at, part in enumerate(listed):
        left = sum(taken.get(name, GUESSES[name]) for name in listed[at:] if name not in absent)
        if part in absent:
            continue
        say(f"[{at + 1}/{len(listed)}] {part}, about {left / 60:.0f} min left")
        if part == "load":
            warm(checkpoint(setting))
        started = time.perf_counter()
        result = runner(how[part])
        taken[part] = time.perf_counter() - started
        if isinstance(result, str):
            say(f"{part} {result}")
            absent[part] = result
        else:
            results[part].append(result)
    return results


def draw(setting: Setting, measured: Mapping[str, Any], target: Path) -> bool:
    """The picture, if an interpreter here has matplotlib."""
    for python in filter(None, (setting.peers_python, sys.executable)):
        if has(python, "matplotlib"):
            script = [python, str(PEERS / "roofline.py"), str(target)]
            return subprocess.run(script, input=json.dumps(measured), text=True, check=False).returncode == 0
    return False


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def about(setting: Setting) -> dict[str, str]:
    linux = platform.release().partition("-")[0]
    peers = " --peers-python PYTHON" if setting.peers_python else ""
    return {
        "machine": f"{cpu_name()}, {setting.threads} threads of {os.cpu_count()} cores, "
        f"{memory_total() / 2**30:.0f} GiB, Python {platform.python_version()}, Linux {linux}",
        "date": datetime.date.today().isoformat(),
        "command": f"python scripts/bench_cpu.py --threads {setting.threads}{peers} --work FOLDER",
        "rounds": str(setting.rounds),
    }


def setting_of(options: argparse.Namespace) -> Setting:
    config = find_config(MODEL)
    if options.quick:
        config = ModelConfig.from_dict({**ModelConfig.from_folder(demo.folder()).raw, **QUICK})
    rounds = 1 if options.quick else options.rounds
    return Setting(options.threads, rounds, options.work, options.peers_python, options.quick, config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=default_threads(), help="physical cores by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers-python", metavar="PATH", help="an interpreter that has the peers")
    parser.add_argument("--work", type=Path, required=True, help="folder for the random model files")
    parser.add_argument("--only", nargs="+", choices=list(GUESSES), metavar="NAME", help=", ".join(GUESSES))
    parser.add_argument("--quick", action="store_true", help="small shapes, one round")
    parser.add_argument("--into", type=Path, help="document whose section is replaced; the picture lies beside it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything measured")
    options = parser.parse_args()
    setting, parts = setting_of(options), options.only or list(GUESSES)
    absent = missing(setting.peers_python, parts)
    for part, reason in absent.items():
        say(f"without {part}: {reason}")
    prepare(setting, [part for part in parts if part not in absent])
    results = measure(setting, parts, absent)
    absent |= {part: "left out by --only" for part in GUESSES if part not in parts}
    picture = ""
    if options.into and results.get("machine"):
        target = options.into.parent / "roofline.svg"
        picture = target.name if draw(setting, points(results, setting.shape), target) else ""
    text = section(results, setting.shape, about(setting), absent, picture)
    print(text)
    if options.json:
        reached = [goal for precision in PRECISIONS for goal in goals(results, setting.shape, precision)]
        listed = [printed(goal) for goal in (*reached, *other_goals(results, setting.shape))]
        options.json.write_text(json.dumps({"results": results, "absent": absent, "goals": listed}, indent=1) + "\n")
    if options.into:
        put_into(options.into, BEGIN, END, text)


if __name__ == "__main__":
    main()
