"""What two replicas answer beside one, and which processes take the CPU for it.

python scripts/bench_cluster.py [--layers 3 --tokens 48 --answers 2] [--precision exact]

Two nodes of Ray's on this machine have one thread each. One replica and two are served in turns, twice each, to twice
as many clients as one replica answers at once: both are full, and as all answers are equally long they are so to the
end. Of each the better turn counts. Without ``--layers`` the model is the demo in int8, whose token takes hardly more
than what carries it; with it a random one in int8, of so many layers of ChatGLM2-6B's shape and of the demo's
vocabulary. Figures are printed as lines of JSON: tokens/s, the gain, and milliseconds of CPU that each kind of process
took for a token.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "glmcore" / "cluster"))

from cluster_machines import Rays, Served, rays, served
from make_random_checkpoint import write

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.config import NAMED, ModelConfig
from glmcore.place import quantize_checkpoint
from glmcore.tokenizers.files import NAMES

TEXTS = ("what is libcuda?", "hello", "why is it slow?", "which driver?", "what is a link?", "how do I undo?")
# Kinds of processes by what stands in their command lines.
KINDS = {"replicas": "ray::Replica", "front": "cluster serve", "raylets": "raylet/raylet", "gcs": "gcs_server"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, help="of a random model")
    parser.add_argument("--precision", default="fast", choices=["fast", "light", "exact"])
    parser.add_argument("--tokens", type=int, default=400, help="of each answer")
    parser.add_argument("--answers", type=int, default=3, help="to each client")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glm-bench-") as folder, rays() as cluster:
        cluster.add()
        model = Path(folder, "int8")
        if options.layers:
            random_model(model, options.layers)
        else:
            with open_checkpoint(demo.folder()) as source:
                quantize_checkpoint(source, model, "int8")
        compare(cluster, model, options)


def random_model(folder: Path, layers: int) -> None:
    """In int8, with the demo's tokenizer: all that it draws has a text."""
    demos = json.loads((demo.folder() / "config.json").read_text(encoding="utf-8"))
    large = NAMED["chatglm2-6b"]
    shape = {
        "num_layers": layers, "hidden_size": large.hidden_size, "ffn_hidden_size": large.ffn_hidden_size,
        "num_attention_heads": large.num_heads, "kv_channels": large.head_dim,
        "multi_query_group_num": large.num_kv_heads,
    }  # fmt: skip
    write(ModelConfig.from_dict({**demos, **shape}), folder, "int8")
    for name in NAMES.values():
        if (demo.folder() / name).exists():
            shutil.copy(demo.folder() / name, folder)


def compare(cluster: Rays, model: Path, options: argparse.Namespace) -> None:
    rates: dict[int, float] = {}
    asked = ["--model", model, "--threads", "1", "--precision", options.precision, "--no-lookup"]
    for count in (1, 2, 1, 2):
        with served(cluster, model.parent, *asked, "--replicas", count) as server:
            rate, costs = measured(cluster, server, options)
        rates[count] = max(rate, rates.get(count, 0.0))
        print(json.dumps({"replicas": count, "tokens_per_s": rate, "cpu_ms_per_token": costs}), flush=True)
    print(json.dumps({"tokens_per_s": rates, "gain": round(rates[2] / rates[1], 2)}))


def measured(cluster: Rays, server: Served, options: argparse.Namespace) -> tuple[float, dict[str, float]]:
    """Tokens/s, and by kinds of processes the milliseconds of CPU that each took for a token."""
    asked = {"max_tokens": options.tokens, "logit_bias": {"2": -100}}  # without its end
    clients = 2 * server.cluster()["replicas"][0]["parallel"]

    def ask(number: int) -> int:
        said = [server.chat(TEXTS[number % len(TEXTS)], **asked)[1] for _ in range(options.answers)]
        return sum(body["usage"]["completion_tokens"] for body in said)

    before, started = seconds(cluster, server), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        count = sum(pool.map(ask, range(clients)))
    taken = seconds(cluster, server) - before
    costs = {kind: round(each / count * 1e3, 3) for kind, each in taken.most_common()}
    return round(count / (time.perf_counter() - started), 1), costs


def seconds(cluster: Rays, server: Served) -> Counter[str]:
    """Of CPU until now, by kinds of processes; "clients" are this one."""
    found: Counter[str] = Counter(clients=sum(psutil.Process().cpu_times()[:2]))
    for parent in (cluster.process.pid, server.process.pid):
        for each in (psutil.Process(parent), *psutil.Process(parent).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # Ray's idle workers go
                found[kind_of(each)] += sum(each.cpu_times()[:2])
    return found


def kind_of(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next((kind for kind, word in KINDS.items() if word in line), "others")


if __name__ == "__main__":
    main()
