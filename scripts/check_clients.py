"""Suites nobody here wrote: the calls of well-known clients against ``glmcore serve``.

``python scripts/check_clients.py FOLDER [CLIENT …] [--model DIR]``: FOLDER keeps an environment for each client (they
pin each other's versions), into which the newest release is installed unless it is there. The programs are in
``scripts/clients``. While they run nothing but loopback is reached: proxies lead nowhere, and HOME is empty. Prints a
table of what passed; exit status 1 where anything failed. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "scripts" / "clients"
# Client → what is installed for its program.
PACKAGES = {
    "openai": ["openai"],
    "anthropic": ["anthropic"],
    "ollama": ["ollama"],
    "langchain": ["langchain-openai"],
    "llm": ["llm"],
    "litellm": ["litellm"],
    "instructor": ["instructor"],
    "lm_eval": ["lm-eval", "requests", "aiohttp", "tenacity"],
}
PROGRAM_S, INSTALL_S, LOAD_S = 600, 1800, 600


@dataclass(frozen=True)
class Result:
    """What became of one call of a client."""

    client: str
    version: str
    call: str
    error: str | None

    def line(self) -> str:
        return f"{self.client:11} {self.version:10} {self.call:44} {'passed' if self.error is None else 'FAILED'}"


@contextmanager
def served(model: list[str], key: str, log: Path) -> Iterator[tuple[str, str]]:
    """A server on loopback: its address, and the name of its model."""
    command = [sys.executable, "-m", "glmcore", "serve", "--port", "0", *model]
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, "GLMCORE_API_KEY": key, "PYTHONUTF8": "1"},
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            description, address = process.stdout.readline(), process.stdout.readline()
            found = re.search(r"http://\S+:\d+", address)
            if found is None:
                raise SystemExit(f"the server did not begin: {description}{address}{log.read_text(encoding='utf-8')}")
            yield found[0], description.partition(" ")[0]
        finally:
            process.terminate()
            process.wait(timeout=60)


def environment(folder: Path, client: str) -> Path:
    """The interpreter of the client's environment, which is made where it is not there."""
    python = folder / client / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    finished = folder / client / "installed"
    if not finished.exists():
        print(f"installing {', '.join(PACKAGES[client])} …", file=sys.stderr)
        venv.create(folder / client, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[client]]
        subprocess.run(pip, check=True, timeout=INSTALL_S)
        finished.touch()
    return python


def version_of(python: Path, package: str) -> str:
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def alone(home: Path) -> dict[str, str]:
    """Variables of a program that reaches loopback alone, and keeps what it writes in ``home``."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "SYSTEMROOT", "TMPDIR")}
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    here = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    own = {"HOME": str(home), "USERPROFILE": str(home), "LLM_USER_PATH": str(home / "llm"), "PYTHONUTF8": "1"}
    return {**kept, **nowhere, **here, **own, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def results_of(client: str, python: Path, server: dict[str, str], home: Path) -> list[Result]:
    """What the client's program tells: a line of JSON for each call."""
    version = version_of(python, PACKAGES[client][0])
    program = [python, PROGRAMS / f"with_{client}.py"]
    with TemporaryDirectory() as folder:
        env = {**alone(Path(folder)), **server}
        try:
            done = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, timeout=PROGRAM_S)
            out, ended = done.stdout, f"exit status {done.returncode}" if done.returncode else None
            (home / f"{client}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        except subprocess.TimeoutExpired as error:
            out, ended = str(error.stdout or ""), f"not done after {PROGRAM_S} s"
    told = [json.loads(line) for line in out.splitlines() if line.startswith('{"call"')]
    results = [Result(client, version, each["call"], each["error"]) for each in told]
    ended = ended or (None if told else "it told of no call")
    return [*results, Result(client, version, "the program itself", ended)] if ended else results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="keeps the environments and the programs' output")
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(PACKAGES)}; all by default")
    parser.add_argument("--model", help="a model's folder; by default the demo model")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    clients: list[str] = asked.clients or list(PACKAGES)
    if unknown := set(clients) - set(PACKAGES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    pythons = {client: environment(folder, client) for client in clients}
    key = secrets.token_hex(16)
    results: list[Result] = []
    with served(["--model", asked.model] if asked.model else [], key, folder / "server.log") as (url, model):
        server: dict[str, Any] = {"GLMCORE_URL": url, "GLMCORE_MODEL": model, "GLMCORE_KEY": key}
        for client, python in pythons.items():
            for result in results_of(client, python, server, folder):
                results.append(result)
                print(result.line(), flush=True)
    failed = [result for result in results if result.error is not None]
    for result in failed:
        print(f"\n{result.client}, {result.call}:\n{result.error}")
    print(f"\n{len(results) - len(failed)} of {len(results)} calls passed")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
