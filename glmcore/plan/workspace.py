"""The memory that a prompt takes on its way through one layer, from what the layer holds at each moment.

Tests hold these sums to the peak that torch's allocator shows for each generation.
"""

from __future__ import annotations

from glmcore.config import ModelConfig
from glmcore.layout import mlp_rows, qkv_rows
from glmcore.plan.costs import DTYPE_BYTES, Precision
from glmcore.plan.devices import Device

LOGITS_BYTES = 4  # sampling is done in float32


def workspace_bytes(
    config: ModelConfig, precision: Precision, prompt: int, context: int, batch: int, device: Device
) -> int:
    """The largest sum of values that live at once while the last ``prompt`` tokens of ``context`` go through a layer.

    Quantised layers on the CPU are counted as its kernel computes them, which expands nothing; on a card each matrix is
    expanded for a prompt.
    """
    value = DTYPE_BYTES[precision.on(device.name).computing]
    rows, hidden = batch * prompt, config.hidden_size
    moments = [moment * rows for moment in (turning(config), gating(config))]
    moments.append(looking(config, prompt, context, batch))
    if precision.bits and device.is_cuda:
        moments.append(rows * (held(config) + hidden + mlp_rows(config)) + mlp_rows(config) * hidden)
    tables = rows * 2 * config.head_dim
    logits = batch * config.vocab_size * (value + LOGITS_BYTES)
    mask = mask_values(config, prompt, context, batch)  # one byte each
    return max((max(moments) + tables) * value + mask, rows * hidden * value + logits)


def held(config: ModelConfig) -> int:
    """Values for each token that a layer holds throughout: what came in and its norm, and that scaled."""
    return config.hidden_size * (3 if config.traits.residual_scale != 1 else 2)


def turning(config: ModelConfig) -> int:
    """Values for each token while the keys are rotated: the fused projection, the queries, and the keys in parts."""
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    parts = 2 * keys if config.traits.rotary == "halves" else max(queries, 3 * keys) // 2
    return held(config) + qkv_rows(config) + queries + parts


def gating(config: ModelConfig) -> int:
    """Values for each token in the MLP: its input and sum, the wide projection, and what becomes of it (twice where a
    gate is multiplied)."""
    return held(config) + config.hidden_size + 2 * mlp_rows(config)


def looking(config: ModelConfig, prompt: int, context: int, batch: int) -> int:
    """Values in the attention: queries, sums, and the mask in the values' type, or later the sums once more in order;
    keys and values expanded to all heads."""
    rows, queries = batch * prompt, config.num_heads * config.head_dim
    projected = qkv_rows(config) if config.traits.modules == "glm1" else 0  # the original's form holds on to it
    masked = max(mask_values(config, prompt, context, batch), rows * queries)
    expanded = 2 * batch * context * queries * (config.num_kv_heads != config.num_heads)
    return rows * (held(config) + projected + 2 * queries) + masked + expanded


def mask_values(config: ModelConfig, prompt: int, context: int, batch: int) -> int:
    """Cells of the attention mask; a causal prompt on an empty cache needs none."""
    if not config.traits.causal:
        return batch * prompt * context
    return prompt * context * (context > prompt)
