"""Positions and masks for what transformers passes: whole prompts, their parts, padded batches, embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glmcore.config import ModelConfig
from glmcore.huggingface.caches import CacheAdapter
from glmcore.models.inputs import PositionState

UNKNOWN = -1  # stands for a token that is given by its embedding alone


def forward_inputs(
    config: ModelConfig, ids: Tensor, mask: Tensor | None, positions: Tensor | None, cache: CacheAdapter | None
) -> tuple[Tensor | None, Tensor | None]:
    """(position_ids, attention_mask) for the native model, from those of a caller, of which either may be missing.

    ids [B, S]; mask, positions and results in the shapes that ``ChatGLMForConditionalGeneration.forward`` and
    ``models.inputs.Inputs`` say. Errors: ValueError where ChatGLM-6B goes on behind a prompt that nobody knows.
    """
    if positions is not None and positions.dim() == 3 and not config.position_2d:
        positions = None  # the original's tokenizer writes two rows for every ChatGLM-6B
    if not config.traits.causal:
        return _glm1_inputs(config, ids, mask, positions, cache)
    count = ids.shape[1]
    total = count + (cache.length if cache is not None else 0)
    keep = keep_mask(mask, total)
    if positions is None and keep is not None and keep.dim() == 2:
        positions = PositionState(config, keep, keep).places[:, -count:]
    return positions, keep


def _glm1_inputs(
    config: ModelConfig, ids: Tensor, mask: Tensor | None, positions: Tensor | None, cache: CacheAdapter | None
) -> tuple[Tensor | None, Tensor | None]:
    count = ids.shape[1]
    held = cache.length if cache is not None else 0
    if not held or (cache is not None and cache.known is None and _is_prompt(config, ids)):
        if held:  # by a learnt prefix, whose length PEFT adds to positions that know nothing of it
            positions, mask = None, None if mask is None else mask[..., held:]
        keep = keep_mask(mask, count)
        own = keep if keep is None or keep.dim() == 2 else keep[:, 0, -1]  # the last token looks at all but padding
        state = PositionState(config, ids, own)
        if cache is not None:
            cache.put_behind(state)
        inputs = state.prompt()
        whole = keep is not None and keep.dim() == 4
        return inputs["position_ids"] if positions is None else positions, keep if whole else inputs["attention_mask"]
    assert cache is not None  # something is held
    if mask is not None:
        mask = mask[..., cache.prefix :]
    if cache.prefix or positions is None:
        if cache.known is None:
            raise ValueError("ChatGLM-6B needs position_ids for tokens that follow a prompt; generate() makes them")
        positions = cache.known.state.following(held, count)
    return positions, keep_mask(mask, held + count)


def _is_prompt(config: ModelConfig, ids: Tensor) -> bool:
    return bool((ids == config.bos_token_id).any(1).all())


def keep_mask(mask: Tensor | None, total: int) -> Tensor | None:
    """A caller's mask as the models take it; None where it hides nothing.

    mask: [B, total], or the original's [B, 1, S, total], True where a query must not look.
    """
    if mask is None or mask.dim() == 2:
        return None if mask is None or bool(mask.all()) else mask[:, :total]
    # The original leaves padded queries with nothing to look at; softmax over nothing is NaN, so they see themselves.
    itself = torch.eye(mask.shape[-2], mask.shape[-1], dtype=torch.bool, device=mask.device)
    return ~mask | itself.roll(mask.shape[-1] - mask.shape[-2], dims=-1)


def marks(config: ModelConfig, embedding: nn.Module, embeddings: Tensor) -> Tensor:
    """[B, S] ids: those that ChatGLM-6B's positions depend on are found by their vectors, the others are unknown."""
    ids = embeddings.new_full(embeddings.shape[:2], UNKNOWN, dtype=torch.long)
    if not config.traits.causal:
        for token in (config.bos_token_id, config.gmask_token_id, config.mask_token_id):
            vector = embedding(ids.new_tensor([token])).to(embeddings.dtype)
            ids[(embeddings == vector).all(-1)] = token
    return ids


def positions_from(
    config: ModelConfig, ids: Tensor, mask: Tensor | None, start: int, prompt_length: int | None
) -> Tensor:
    """Positions of ``ids`` [B, S] from index ``start`` on; the rest of them is held by the cache.

    prompt_length: of how many of ``ids`` the prompt is; None where that makes no difference.
    """
    keep = keep_mask(mask, ids.shape[1])
    if config.traits.causal:
        return PositionState(config, ids, keep).places[:, start:]
    prompt = prompt_length or start or ids.shape[1]
    state = PositionState(config, ids[:, :prompt], None if keep is None else keep[:, :prompt])
    parts = [state.prompt()["position_ids"]]
    if prompt < ids.shape[1]:
        parts.append(state.step(ids[:, prompt:])["position_ids"])
    return torch.cat(parts, dim=-1)[..., start:]


def grown(config: ModelConfig, positions: Tensor, count: int) -> Tensor:
    """Positions [B, S] or [B, 2, S] with ``count`` more.

    ChatGLM-6B's stay at the mask and count on in the block, the others count on.
    """
    steps = torch.arange(1, count + 1, device=positions.device)
    if not config.traits.causal:
        steps = steps * torch.tensor([[0], [1]], device=positions.device) if positions.dim() == 3 else steps * 0
    return torch.cat((positions, positions[..., -1:] + steps), dim=-1)
