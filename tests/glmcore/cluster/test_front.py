"""The server asks a cluster's front for nothing that it has not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="pip install .[ray]")

import glmcore.server
from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.cluster.front import Front
from glmcore.errors import GlmError
from glmcore.server.errors import from_glm_error
from glmcore.tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def front() -> Front:
    with open_checkpoint(demo.folder()) as checkpoint:
        return Front(checkpoint.config, load_tokenizer(demo.folder(), checkpoint.config))


def test_it_has_what_the_server_asks_of_an_engine(front: Front) -> None:
    """A model, its cache and its thread are elsewhere."""
    sources = [path.read_text("utf-8") for path in Path(glmcore.server.__file__).parent.rglob("*.py")]
    asked = {name for source in sources for name in re.findall(r"\b(?<!\.)(?:self\.|answers\.)?engine\.(\w+)", source)}
    own = {name for source in sources for name in re.findall(r"glmcore\.engine\.(\w+)", source)}
    for name in asked - own:
        getattr(front, name)
    assert {"submit", "prompt", "together"} <= asked and not asked & {"loop", "runner"}
    # Tokens of a remote answer are drawn and worded elsewhere.
    assert not [found for source in sources if (found := re.findall(r"answer\.(?:sampler|words)\b", source))]


@pytest.mark.parametrize(
    "ask",
    [
        lambda front: front.submit("hello"),
        lambda front: front.mean_state("hello"),
        lambda front: front.prompt_logprobs([1, 2]),
    ],
)
def test_without_a_replica_it_says_when_to_come_back(front: Front, ask: Callable[[Front], object]) -> None:
    """To requests too that replicas in stages do not answer: whole ones may come."""
    with pytest.raises(GlmError) as caught:
        ask(front)
    told = from_glm_error(caught.value)
    assert (told.status, told.code, told.headers) == (503, "replica-lost", {"Retry-After": "2"})


def test_without_a_replica_it_describes_itself(front: Front) -> None:
    assert front.parallel == 1 and front.placement() == {} and "none is ready" in front.describe()
