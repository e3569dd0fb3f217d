"""Answers by a grammar: which tokens may come next, so that an answer is what was asked for by construction."""

from __future__ import annotations

from glmcore.grammar.forms import Grammar

__all__ = ["Grammar"]
