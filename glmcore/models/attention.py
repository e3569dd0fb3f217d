"""Scaled dot-product attention over a cache that keeps keys and values before their expansion to all heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[queries, keys] booleans, True where a query may look; the last query stands at the last key."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def attention_mask_of(
    keep: Tensor | None, queries: int, keys: int, device: torch.device, prefix: int = 0
) -> Tensor | None:
    """What ``attend`` takes, from a mask of the caller's.

    keep: None; [B, keys], 1 where a key is no padding; or [B, 1, queries, keys] booleans, True where a query may look.
    prefix: how many keys, besides, stand before these; every query sees them.
    """
    if prefix:
        keys += prefix
        keep = None if keep is None else F.pad(keep, (prefix, 0), value=1)
    if keep is None:
        return None if queries in (1, keys) else causal_mask(queries, keys, device)
    if keep.dim() == 4:
        return keep
    allowed = keep[:, None, None, :keys].bool()
    if queries == 1:
        return allowed
    # A padded query would see nothing, and softmax over nothing is NaN: it sees itself.
    itself = torch.eye(queries, keys, dtype=torch.bool, device=device).roll(keys - queries, dims=1)
    return (allowed & causal_mask(queries, keys, device)) | itself


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """[B, H, S, D] queries over [B, n, T, D] keys and values → [B, S, H*D]; n divides H.

    Without a mask one query looks at everything and several look causally.
    """
    batch, heads, length, size = query.shape
    groups = key.shape[1]
    if length == 1 and heads != groups:
        # The queries of a group share its keys: as a sequence of their own they need no expanded copy of the cache.
        grouped = query.reshape(batch, groups, heads // groups, size)
        return F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask).reshape(batch, 1, heads * size)
    if heads != groups:
        key, value = (x.repeat_interleave(heads // groups, dim=1) for x in (key, value))
    causal = mask is None and length > 1
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    return out.transpose(1, 2).reshape(batch, length, heads * size)
