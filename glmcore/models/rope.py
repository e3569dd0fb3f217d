"""Rotary position embeddings as the generations compute them.

The angles follow the original's arithmetic, so that float32 agrees to the last bits. ChatGLM-6B and ChatGLM2-6B in
float16 also compute the angles in float16. In bfloat16 they do not here: positions above 256 would run together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glmcore.config import ModelConfig, Yarn

Rotation = tuple[Tensor, ...]  # cosines and sines, broadcastable to [B, heads, S, …]


def rotation(config: ModelConfig, positions: Tensor, dtype: torch.dtype) -> Rotation:
    """Cosines and sines of ``positions`` ([B, S]; two-dimensional ones [B, 2, S]), a pair for each part of a head."""
    turn = glm1_rotation if config.traits.rotary == "halves" else glm2_rotation
    return turn(config, positions, dtype)


def glm2_rotation(config: ModelConfig, positions: Tensor, dtype: torch.dtype) -> Rotation:
    """Cosine and sine [B, 1, S, T/2] of ``positions`` [B, S]: the first T = ``config.turned`` values of each head turn,
    in neighbouring pairs."""
    turned = config.turned
    traits = config.traits
    own = dtype if traits.angles_in_half and dtype == torch.float16 else torch.float32
    base = 10000 * (1 if traits.squeezes_positions else config.rope_ratio)
    theta = 1.0 / (base ** (torch.arange(0, turned, 2, dtype=own, device=positions.device) / turned))
    amplitude = 1.0
    if config.yarn is not None:
        theta, amplitude = stretched(theta, base, config.yarn)
    places = positions.to(own)
    if traits.squeezes_positions and config.rope_ratio != 1:
        # ChatGLM2-6B-32k squeezes the positions; the later generations enlarge the base.
        places = places / config.rope_ratio
    angles = (places[:, None, :, None] * theta).float()
    return (angles.cos() * amplitude).to(dtype), (angles.sin() * amplitude).to(dtype)


def stretched(theta: Tensor, base: float, yarn: Yarn) -> tuple[Tensor, float]:
    """YaRN's frequencies [T/2] of plain ones, and its amplitude (https://arxiv.org/abs/2309.00071, sections 3.2, 3.4).

    A pair that turns more than ``beta_fast`` times over the trained length keeps its frequency, one that turns less
    than ``beta_slow`` times is slowed by the whole factor, and between them the share of both goes linearly.
    """
    pairs = len(theta)
    low, high = (
        pairs * math.log(yarn.original_length / (turns * 2 * math.pi)) / math.log(base)
        for turns in (yarn.beta_fast, yarn.beta_slow)
    )
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    steps = torch.arange(pairs, dtype=torch.float32, device=theta.device)
    slowed = ((steps - low) / ((high - low) or 0.001)).clamp(0, 1)
    amplitude = yarn.amplitude if yarn.amplitude is not None else 0.1 * math.log(yarn.factor) + 1
    return theta * (1 - slowed) + theta / yarn.factor * slowed, amplitude


def rotate_pairs(x: Tensor, rotation: Rotation) -> Tensor:
    """[B, heads, S, D] → the same: as many of a head's first dimensions turn as there are angles for, even with odd."""
    cos, sin = rotation
    turned, kept = x.tensor_split([2 * cos.shape[-1]], dim=-1)
    even, odd = turned[..., 0::2], turned[..., 1::2]
    pairs = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    return torch.cat((pairs.flatten(-2), kept), dim=-1)


def glm1_rotation(config: ModelConfig, positions: Tensor, dtype: torch.dtype) -> Rotation:
    """Cosine and sine [B, 1, S, D'] for ChatGLM-6B, one pair for each row of ``positions``.

    positions: [B, 2, S] (position and block position, D' = D/2 each) or [B, S] (one-dimensional, D' = D).
    """
    rows = positions.unbind(1) if config.position_2d else (positions,)
    size = config.head_dim // len(rows)
    exponents = torch.arange(0, size, 2, device=positions.device).float() / size
    # The original rounds the frequencies to half precision, whatever the model's type.
    theta = (1.0 / 10000**exponents).half()
    own = dtype if config.traits.angles_in_half and dtype == torch.float16 else torch.float32
    rotation: list[Tensor] = []
    for row in rows:
        angles = row.to(own)[:, None, :, None] * theta.to(own)
        angles = torch.cat((angles, angles), dim=-1)
        rotation += [angles.cos().to(dtype), angles.sin().to(dtype)]
    return tuple(rotation)


def rotate_halves(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn ChatGLM-6B's heads [B, heads, S, D], each of the one or two parts with its own cosine and sine.

    The first half of a part turns with its second.
    """
    parts = x.chunk(len(rotation) // 2, dim=-1)
    turned = [
        part * cos + torch.cat((-part.chunk(2, -1)[1], part.chunk(2, -1)[0]), dim=-1) * sin
        for part, cos, sin in zip(parts, rotation[0::2], rotation[1::2], strict=True)
    ]
    return torch.cat(turned, dim=-1)
