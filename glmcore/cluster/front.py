"""What the server has in place of an engine: prompts and settings are made here, answers elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from glmcore.cluster.remote import Remote, RemoteAnswer
from glmcore.cluster.router import Router
from glmcore.config import ModelConfig
from glmcore.engine.engine import Engine
from glmcore.engine.stats import Stats
from glmcore.errors import GlmError
from glmcore.tokenizers import Tokenizer


class Front(Engine):
    """An engine that computes nothing: it sends each prompt to one of its replicas, which come and go."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        self.understand(config, tokenizer)
        self.plan = None
        self.stats = Stats()
        self.remotes: dict[str, Remote] = {}
        self._router: Router[str] = Router()
        self._lock = threading.Lock()

    def add(self, remote: Remote) -> None:
        with self._lock:
            self.remotes[remote.name] = remote
            self._router.add(remote.name, remote.about["parallel"])

    def remove(self, remote: Remote) -> None:
        with self._lock:
            self.remotes.pop(remote.name, None)
            self._router.remove(remote.name)

    def ended(self, remote: Remote, answer: RemoteAnswer) -> None:
        """To be told of each answer, before whoever asked is."""
        with self._lock:
            self._router.ended(remote.name, (*answer.sequence.prompt, *answer.sequence.output))

    def placement(self) -> dict[str, list[int]]:
        """node/device → its layers."""
        return {
            f"{stage['node']}/{device['name']}": device["layers"]
            for remote in list(self.remotes.values()) for stage in remote.about["stages"] for device in stage["devices"]
        }  # fmt: skip

    def prefix_cache(self) -> dict[str, int]:
        """The sums of all replicas."""
        names = ("bytes", "limit_bytes", "entries", "found_tokens")
        return {name: sum(each.figures.get(name, 0) for each in list(self.remotes.values())) for name in names}

    def together(self) -> AbstractContextManager[object]:
        """Answers of one request may go to several replicas."""
        return nullcontext()

    @property
    def tells_states(self) -> bool:
        """Whether every replica does; while none is there, nothing says that one will."""
        remotes = list(self.remotes.values())
        return bool(remotes) and all(len(remote.about["stages"]) == 1 for remote in remotes)

    def _check_states(self, where: str) -> None:
        """While no replica is there, a request for states may be right in a while."""
        if not self.remotes:
            raise none_ready()
        super()._check_states(where)

    @property
    def weights_bytes(self) -> int:
        """Of one replica; nothing is known while none is there."""
        about = next((remote.about for remote in list(self.remotes.values())), {"stages": ()})
        return sum(device["weights_bytes"] for stage in about["stages"] for device in stage["devices"])

    def idle_within(self, seconds: float) -> bool:
        return True  # whatever is under way elsewhere ends with its process

    @property
    def context(self) -> int:
        """Tokens of a prompt and its answer: what all replicas have room for."""
        return min((remote.about["context"] for remote in list(self.remotes.values())), default=self.config.max_length)

    @property
    def backend(self) -> str:
        backends = dict.fromkeys(remote.about["backend"] for remote in list(self.remotes.values()))
        return f"{len(self.remotes)} replicas: {', '.join(backends) or 'none is ready'}"

    @property
    def parallel(self) -> int:
        return max(1, self._router.parallel)

    def submit(
        self, prompt: str | Sequence[int], *, max_new_tokens: int = 512, **asked: Any
    ) -> RemoteAnswer:
        """As ``Engine.submit``. Errors: GlmError("context-full"), and "replica-lost" where no replica is there."""
        sequence = self.sequence(self.prompt_ids(prompt), max_new_tokens)
        answer = RemoteAnswer(sequence, self.backend, asked.get("observer"))
        with self._lock:
            name = self._router.choose(answer.sequence.prompt)
            remote = None if name is None else self.remotes[name]
        if remote is None:
            raise none_ready()
        self.stats = answer.stats
        remote.take(answer, {"max_new_tokens": answer.sequence.max_new_tokens, **asked})
        return answer


def none_ready() -> GlmError:
    return GlmError("replica-lost", "no replica is ready", hint="ask again in a while")
