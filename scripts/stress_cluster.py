"""Kills a cluster's processes again and again under load, and says what became of answers, rows and time.

python scripts/stress_cluster.py [--kills 50] [--stages 1|2] [--clients 4]

The demo model in int8 is served over two nodes of Ray's on this machine. Under clients that never stop asking, one
process of a replica after the other is killed (signal 9), each once service is whole again. Every answer that comes
whole is compared with the engine's alone; every other one has to end with an error that says so. Figures are printed as
a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "glmcore" / "cluster"))

from cluster_machines import Rays, Served, processes, rays, served

import glmcore
from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.place import quantize_checkpoint

TEXTS = ("what is libcuda?", "hello", "why is it slow?", "which driver?", "what is a link?", "how do I undo?")
LONG = {"max_tokens": 400, "logit_bias": {"2": -100}}  # without its end
HONEST = ("replica-lost", "stage-lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stages", type=int, default=1, help="of the replica that is killed")
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glm-stress-") as folder, rays() as cluster:
        cluster.add()
        model = Path(folder, "int8")
        with open_checkpoint(demo.folder()) as source:
            quantize_checkpoint(source, model, "int8")
        kills(cluster, model, options)


def kills(cluster: Rays, model: Path, options: argparse.Namespace) -> None:
    engine = glmcore.load(model, threads=1)
    expected = {(text, long): answer_of(engine, text, long) for text in TEXTS for long in (False, True)}
    wanted = 2 // options.stages
    with served(cluster, model.parent, "--model", model, "--stages", options.stages, "--threads", "1") as server:
        crowd = Crowd(server, expected, options.clients)
        said, back = [], []
        for number in range(options.kills):
            server.until(lambda now: len(now["replicas"]) == wanted, 60)
            crowd.settle()
            losses = server.cluster()["losses"]
            victim = random.choice([*processes(cluster, "ray::Replica"), *processes(cluster, "ray::StageProcess")])
            started = time.perf_counter()
            victim.kill()
            server.until(lambda now, losses=losses: now["losses"] > losses, 30)
            said.append(time.perf_counter() - started)
            server.until(lambda now: len(now["replicas"]) == wanted, 60)
            back.append(time.perf_counter() - started)
            times = f"said {said[-1]:.2f} s, back {back[-1]:.1f} s"
            print(f"kill {number + 1}: {times}; {dict(crowd.endings)}", file=sys.stderr)
        endings = crowd.stop()
        idle = server.until(lambda now: not any(rows(each) for each in now["replicas"]), 30)
        wrong = endings.pop("wrong", 0)
        print(json.dumps({
            "kills": options.kills, "stages": options.stages, "said_s": spread(said), "back_s": spread(back),
            "answers": dict(endings), "wrong": wrong, "rows_left": sum(map(rows, idle["replicas"])),
            "nodes_serving": sum(node["state"] == "serving" for node in idle["nodes"]), "losses": idle["losses"],
        }))  # fmt: skip


class Crowd:
    """Clients that ask again and again, whole and streamed, short and long, and keep count of how it ended."""

    def __init__(self, server: Served, expected: dict[tuple[str, bool], str], clients: int) -> None:
        self.server, self.expected = server, expected
        self.endings: Counter[str] = Counter()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(number,), daemon=True) for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self.ended.is_set():
            text, long, stream = chance.choice(TEXTS), chance.random() < 0.5, chance.random() < 0.5
            status, body, headers = self.server.chat(text, stream=stream, **(LONG if long else {}))
            ending = judged(status, body, headers, stream, self.expected[text, long])
            self.endings[ending] += 1
            if ending.startswith("refused"):
                time.sleep(0.2)

    def settle(self) -> None:
        """Until as many answers as there are clients were right again."""
        before, end = self.endings["right"], time.monotonic() + 60
        while self.endings["right"] < before + len(self.threads):
            assert time.monotonic() < end, self.endings
            time.sleep(0.02)

    def stop(self) -> Counter[str]:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        return self.endings


def judged(status: int, body: Any, headers: Any, stream: bool, expected: str) -> str:
    """right, wrong, refused (503 with a time to come back), or cut (an event that says so)."""
    if status == 503:
        honest = body["error"]["code"] in HONEST if isinstance(body, dict) else any(word in body for word in HONEST)
        return "refused" if honest and "retry-after" in headers else "wrong"
    if status != 200:
        return "wrong"
    if not stream:
        return "right" if body["choices"][0]["message"]["content"] == expected else "wrong"
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event.get("choices"))
    if "error" in events[-1]:
        return "cut" if events[-1]["error"]["code"] in HONEST and expected.startswith(text) else "wrong"
    return "right" if text == expected else "wrong"


def answer_of(engine: Any, text: str, long: bool) -> str:
    asked = {"max_new_tokens": 400, "logit_bias": ((2, -100.0),)} if long else {"max_new_tokens": 2048}
    return "".join(engine.stream([{"role": "user", "content": text}], temperature=0, **asked))


def rows(replica: dict[str, Any]) -> int:
    return replica["batch"].get("rows_taken", 0)


def spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {"median": round(statistics.median(ordered), 2), "most": round(ordered[-1], 2)}


if __name__ == "__main__":
    main()
