"""Whether the kernel has ended programs of this container or session to get memory back."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok
from glmdoctor.checks.causes import LITTLE_MEMORY
from glmdoctor.checks.system import limited
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import MemoryKills
from glmdoctor.messages import Text, text

TITLE = text("Programs killed for memory")
# As the kernel names what runs a model: the program's name, cut to 15 letters, or its thread's.
OURS = re.compile(r"python|pt_|glmcore|jupyter|ipython|ipykernel|torchrun|accelerate|uvicorn|gunicorn|ray::|streamlit")


def killed(host: Machine) -> Iterator[Finding]:
    kills = known(host.memory_kills)
    evidence = {
        "machine": kills.machine,
        "group": kills.group,
        "cgroup": kills.group_path,
        "log": kills.log,
        "killed": {str(process.pid): process.name for process in kills.killed},
    }
    ours = [process for process in kills.killed if OURS.match(process.name)]
    # Where the log names others alone, and as many as the kernel counts, the counter speaks of those.
    others = bool(kills.killed) and not ours
    if not kills.machine and not kills.group:
        yield ok(TITLE, text("None since the start."), **evidence)
    elif ours or (kills.group and not others):
        memory = maybe(host.memory)
        yield bad(
            Status.WARN,
            "process-killed-ram",
            text("Programs were killed for memory"),
            text(
                "{reading}{names}{limit}.",
                reading=_reading(kills),
                names=text(": {names}", names=", ".join(f"{p.name} ({p.pid})" for p in ours[-4:])) if ours else "",
                limit=limited(memory.limit) if memory else "",
            ),
            **evidence,
        )
    else:
        names = ", ".join(dict.fromkeys(process.name for process in kills.killed[-4:]))
        who = text("the log names {names}", names=names) if names else text("whom is not known here")
        yield ok(TITLE, text("{reading}; {who}.", reading=_reading(kills), who=who), **evidence)


def _reading(kills: MemoryKills) -> Text:
    if kills.group:
        return text("The kernel killed {count} in this container or session", count=kills.group)
    return text("The kernel killed {count} on this machine since its start", count=kills.machine or len(kills.killed))


CHECKS = (
    Check(
        "system.kills",
        TITLE,
        killed,
        problems=("process-killed-ram",),
        needs=("memory_kills",),
        explained_by=LITTLE_MEMORY,
    ),
)
