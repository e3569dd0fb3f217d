"""Prompts, answers and streaming text of the four generations: pure functions over text and token ids."""

from glmcore.chat.responses import process_response

__all__ = ["process_response"]
