"""An answer that its asker has begun: the last message of the talk, from whose text the model goes on."""

from __future__ import annotations

from collections.abc import Sequence

from glmcore.chat.messages import Message, turns
from glmcore.errors import GlmError
from glmcore.traits import TRAITS

WHERE = "continue_final_message"


def check_begun(messages: Sequence[Message], generation: str) -> None:
    """Errors: GlmError("usage") where the talk does not end with such a text, or the model cannot go on from it."""
    last = turns(messages)[-1]
    if last.role != "assistant" or last.calls or not last.content.strip():
        what = "there is no answer to go on from: the last message must be the assistant's, with a text and no calls"
        raise GlmError("usage", what, where=WHERE)
    if TRAITS[generation].thinks:
        raise GlmError("usage", "this model thinks before it answers: its answer cannot be begun for it", where=WHERE)
