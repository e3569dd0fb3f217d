"""How often `glmdoctor explain` names the right problem first, on labelled logs.

    python scripts/score_explain.py tests/glmdoctor/explain/unseen.jsonl [--wrong tuning]

The file holds one JSON object a line: id, problem ("none" for a healthy log, "unrelated" for trouble with something
else), also (problems that fit as well, where only a probe decides), half ("tuning" or "held-out"), log. Signatures may
be improved on the tuning half; the held-out half is for measuring: who looks at its wrong answers ends its use.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from glmdoctor.explain import explain

HARMLESS = ("none", "unrelated")
HALVES = ("tuning", "held-out")


@dataclass(frozen=True)
class Log:
    id: str
    problem: str
    half: str
    also: tuple[str, ...]
    text: str

    @property
    def answers(self) -> list[str]:
        return [match.problem for match in explain(io.BytesIO(self.text.encode())).matches]


@dataclass(frozen=True)
class Score:
    right: int  # the labelled problem stands first
    fitting: int  # or one that fits as well
    faulty: int
    wrong: dict[str, tuple[str, list[str]]]  # id → label and answers
    alarms: dict[str, list[str]]  # id → answers, where there should be none
    harmless: int

    @property
    def first(self) -> float:
        return self.right / self.faulty

    @property
    def alarm_rate(self) -> float:
        return len(self.alarms) / self.harmless


def read_logs(path: Path) -> list[Log]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Log(r["id"], r["problem"], r["half"], tuple(r["also"]), r["log"]) for r in rows]


def score(logs: Iterable[Log]) -> Score:
    right = fitting = faulty = harmless = 0
    wrong: dict[str, tuple[str, list[str]]] = {}
    alarms: dict[str, list[str]] = {}
    for log in logs:
        answers = log.answers
        if log.problem in HARMLESS:
            harmless += 1
            if answers:
                alarms[log.id] = answers
            continue
        faulty += 1
        right += answers[:1] == [log.problem]
        fitting += bool(answers) and answers[0] in (log.problem, *log.also)
        if answers[:1] != [log.problem]:
            wrong[log.id] = (log.problem, answers)
    return Score(right, fitting, faulty, wrong, alarms, harmless)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often `glmdoctor explain` names the right problem first.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--wrong", choices=HALVES, help="also list the wrong answers of this half")
    options = parser.parse_args()
    logs = read_logs(options.file)
    print(f"{'half':<10} {'first':>14} {'or fitting':>11} {'false alarms':>15}")
    for half in HALVES:
        s = score(log for log in logs if log.half == half)
        alarms = f"{len(s.alarms)}/{s.harmless} {s.alarm_rate:.1%}"
        print(f"{half:<10} {f'{s.right}/{s.faulty} {s.first:.1%}':>14} {s.fitting / s.faulty:>11.1%} {alarms:>15}")
        if half == options.wrong:
            for identity, (label, answers) in s.wrong.items():
                print(f"  {identity} {label}: {', '.join(answers) or 'no answer'}")
            for identity, answers in s.alarms.items():
                print(f"  {identity} false alarm: {', '.join(answers)}")


if __name__ == "__main__":
    main()
