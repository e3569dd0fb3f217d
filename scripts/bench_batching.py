"""What many answers at once cost and give: throughput, stalls, first tokens, lookup, a peer, and a soak of a server.

python scripts/bench_batching.py table [--threads 2] [--peers-python PYTHON --work FOLDER] [--soak] [--into FILE]
python scripts/bench_batching.py model [--model chatglm2-6b] [--quant int4] [--precision fast] [--only PART ...]
python scripts/bench_batching.py soak [--requests 5000] [--clients 24]
python scripts/bench_batching.py expected

``table`` measures everything beside its goal, each part in a process of its own, and writes a section of FILE between
markers; PYTHON has llama-cpp-python and gguf, FOLDER keeps its model file (3.5 GB). ``model`` and ``soak`` print every
figure as a line of JSON. Run these on a machine that does nothing else. ``expected`` weighs drafts by tables of what
steps cost, on any machine: no model is run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from batching.table import BEGIN, END, PRECISIONS, section
from bench_load import cpu_name, memory_total
from layers import sizes
from sections import put_into

from glmcore.config import find_config
from glmcore.kernels.threads import default_threads

SCRIPTS = Path(__file__).resolve().parent
PARTS = ("throughput", "stall", "first", "lookup")
# Which parts a precision is measured in: how prompts are read is the same in both.
MEASURED = {"fast": PARTS, "light": ("throughput", "lookup")}
CHILD_SECONDS = 1200
ROWS, PROMPT, STEPS = 8, 32, 16  # of the peer


def run(command: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of JSON that a measurement prints; those it printed before it failed, which is said."""
    print("$", *command[:4], file=sys.stderr, flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            printed, _ = child.communicate(timeout=CHILD_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            printed, _ = child.communicate()
    if child.returncode:
        print(f"{command[1]} failed with status {child.returncode}", file=sys.stderr, flush=True)
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def ours(options: argparse.Namespace, precision: str) -> list[dict[str, Any]]:
    layers = ["--layers", str(options.layers)] if options.layers else []
    return run([
        sys.executable, str(SCRIPTS / "bench_batching.py"), "model", "--precision", precision, *layers,
        "--threads", str(options.threads), "--rounds", str(options.rounds), "--longest", str(options.longest),
        "--only", *MEASURED[precision],
    ])  # fmt: skip


def llama(options: argparse.Namespace) -> list[dict[str, Any]]:
    """llama.cpp with the same shapes."""
    if not options.peers_python or not options.work:
        return []
    config = find_config("chatglm2-6b")
    layers = options.layers or config.num_layers
    file = options.work / ("q4_0.gguf" if layers == config.num_layers else f"q4_0-{layers}-layers.gguf")
    peers = SCRIPTS / "peers"
    if not file.exists():
        options.work.mkdir(parents=True, exist_ok=True)
        shape = json.dumps({**sizes(config), "layers": layers})
        subprocess.run([options.peers_python, str(peers / "gguf_random.py"), shape, "Q4_0", str(file)], check=True)
    numbers = map(str, (options.threads, ROWS, PROMPT, STEPS))
    [figures] = run([options.peers_python, str(peers / "llama_rows.py"), str(file), *numbers]) or [{}]
    return [{"part": "llama.cpp", **figures}] if figures else []


def table(options: argparse.Namespace) -> None:
    """Everything, beside its goal."""
    figures = [line for precision in PRECISIONS for line in ours(options, precision)] + llama(options)
    if options.soak:
        figures += run([
            sys.executable, str(SCRIPTS / "bench_batching.py"), "soak", "--requests", str(options.requests),
        ])  # fmt: skip
    peers = " --peers-python PYTHON --work FOLDER" if options.peers_python else ""
    soak = f" --soak --requests {options.requests}" if options.soak else ""
    about = {
        "machine": f"{cpu_name()}, {options.threads} threads of {os.cpu_count()} cores, "
        f"{memory_total() / 2**30:.0f} GiB, Python {platform.python_version()}, "
        f"Linux {platform.release().partition('-')[0]}",
        "date": datetime.date.today().isoformat(),
        "command": f"python scripts/bench_batching.py table --threads {options.threads}{peers}{soak}",
    }
    text = section(figures, about)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.into:
        put_into(options.into, BEGIN, END, text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    all_of_it, model, soak, _ = (commands.add_parser(name) for name in ("table", "model", "soak", "expected"))
    for each in (all_of_it, model):
        each.add_argument("--threads", type=int, default=default_threads(), help="physical cores by default")
        each.add_argument("--layers", type=int, help="fewer than the model has, to try the script")
        each.add_argument("--rounds", type=int, default=1, help="of a lookup task, with drafts and without")
        each.add_argument("--longest", type=int, default=100, help="tokens of a lookup task's answer")
    for each in (all_of_it, soak):
        each.add_argument("--requests", type=int, default=5000)
    all_of_it.add_argument("--peers-python", metavar="PATH", help="an interpreter that has llama-cpp-python and gguf")
    all_of_it.add_argument("--work", type=Path, help="folder for the peer's model file")
    all_of_it.add_argument("--soak", action="store_true", help="the soak too, some minutes")
    all_of_it.add_argument("--into", type=Path, help="document whose section is replaced")
    all_of_it.add_argument("--json", type=Path, metavar="FILE", help="everything measured")
    model.add_argument("--model", default="chatglm2-6b")
    model.add_argument("--quant", default="int4")
    model.add_argument("--precision", default="fast")
    model.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    soak.add_argument("--clients", type=int, default=24)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.command == "table":
        table(options)
    elif options.command == "model":
        from batching.model import measure

        measure(options)
    elif options.command == "expected":
        from batching.expected import expected

        expected(options)
    else:
        from batching.soak import soak

        soak(options.requests, options.clients)


if __name__ == "__main__":
    main()
