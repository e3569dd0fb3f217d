"""ChatGLM2-6B, ChatGLM3-6B, GLM-4-9B and what followed: one architecture, its switches in the configuration.

The modules carry the names of the original checkpoints; where the files have others, ``layout`` says which.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmcore.config import ModelConfig
from glmcore.models.attention import attend, attention_mask_of
from glmcore.models.cache import KVCache
from glmcore.models.layers import Call, run_layers
from glmcore.models.prefix import Prefix
from glmcore.models.rope import Rotation, glm2_rotation, rotate_pairs


class RMSNorm(nn.Module):
    """Divides by the root mean square, which is taken in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] → the same, in the type of ``x``."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def make_norm(config: ModelConfig) -> nn.Module:
    kind = RMSNorm if config.rmsnorm else nn.LayerNorm
    return kind(config.hidden_size, eps=config.norm_eps)


class Attention(nn.Module):
    """Self-attention whose keys and values are shared by groups of heads (of one head each without multi-query)."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.config, self.index = config, index
        rows = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, rows, bias=config.qkv_bias or config.linear_bias)
        self.dense = nn.Linear(config.num_heads * config.head_dim, config.hidden_size, bias=config.linear_bias)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """[B, S, hidden size] → the same. mask as ``attend`` takes it; the cache is written where there is one."""
        query, key, value = self.split(self.query_key_value(x))
        query, key = rotate_pairs(query, rotation), rotate_pairs(key, rotation)
        if cache is not None:
            key, value = cache.update(self.index, key, value)
        return self.dense(attend(query, key, value, mask))

    def split(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The fused projection [B, S, rows] → query, key and value, [B, heads, S, D] each.

        With multi-query the rows hold all queries, then the keys, then the values; without, the three lie side by side
        within each head.
        """
        heads, groups, size = self.config.num_heads, self.config.num_kv_heads, self.config.head_dim
        if self.config.multi_query:
            parts = mixed.unflatten(-1, (heads + 2 * groups, size)).split((heads, groups, groups), dim=2)
        else:
            parts = mixed.unflatten(-1, (heads, 3 * size)).chunk(3, dim=-1)
        query, key, value = (part.transpose(1, 2) for part in parts)
        return query, key, value


class MLP(nn.Module):
    """SwiGLU; gate and value are the halves of one projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.ffn_hidden_size, bias=config.linear_bias)
        self.dense_4h_to_h = nn.Linear(config.ffn_hidden_size, config.hidden_size, bias=config.linear_bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, hidden size] → the same."""
        gate, value = self.dense_h_to_4h(x).chunk(2, dim=-1)
        return self.dense_4h_to_h(F.silu(gate) * value)


class Layer(nn.Module):
    """A transformer layer; takes and returns [B, S, hidden size]. What attention and MLP add passes a norm in some."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.residual_post_norm, self.sandwich = config.residual_post_norm, config.traits.sandwich
        self.input_layernorm = make_norm(config)
        self.self_attention = Attention(config, index)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = MLP(config)
        if self.sandwich:
            self.post_self_attn_layernorm, self.post_mlp_layernorm = make_norm(config), make_norm(config)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """[B, S, hidden size] → the same; ``rotation`` and ``mask`` as for the attention."""
        normed = self.input_layernorm(x)
        added = self.self_attention(normed, rotation, mask, cache)
        if self.sandwich:
            added = self.post_self_attn_layernorm(added)
        x = (normed if self.residual_post_norm else x) + added
        normed = self.post_attention_layernorm(x)
        added = self.mlp(normed)
        if self.sandwich:
            added = self.post_mlp_layernorm(added)
        return (normed if self.residual_post_norm else x) + added


class GLM2(nn.Module):
    """Token ids in, logits out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.prefix: Prefix | None = None
        encoder: dict[str, nn.Module] = {"layers": nn.ModuleList(Layer(config, i) for i in range(config.num_layers))}
        if config.post_layer_norm:
            encoder["final_layernorm"] = make_norm(config)
        embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.transformer = nn.ModuleDict(
            {
                "embedding": nn.ModuleDict({"word_embeddings": embedding}),
                "encoder": nn.ModuleDict(encoder),
                "output_layer": nn.Linear(config.hidden_size, config.vocab_size, bias=False),
            }
        )
        if config.tie_embeddings:
            self.lm_head.weight = embedding.weight

    @property
    def embedding(self) -> nn.Module:
        return self.transformer["embedding"]["word_embeddings"]

    @property
    def layers(self) -> nn.ModuleList:
        return self.transformer["encoder"]["layers"]

    @property
    def final_norm(self) -> nn.Module | None:
        return self.transformer["encoder"]["final_layernorm"] if self.config.post_layer_norm else None

    @property
    def lm_head(self) -> nn.Module:
        return self.transformer["output_layer"]

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: KVCache | None = None,
        last_only: bool = False,
        *,
        embeddings: Tensor | None = None,
        states: list[Tensor] | None = None,
        call: Call | None = None,
    ) -> Tensor:
        """Logits [B, S, vocabulary] of ``input_ids`` [B, S], or [B, 1, vocabulary] with ``last_only``.

        position_ids [B, S] default to those after the cache; attention_mask is described at ``attention_mask_of``.
        embeddings: [B, S, hidden size], in place of those of ``input_ids``. states: a list that is given, as by the
        original, the embeddings and what each layer returns, before the last norm. call: ``models.layers``.
        """
        hidden = self.embedding(input_ids) if embeddings is None else embeddings
        filled, count = cache.length if cache is not None else 0, input_ids.shape[1]
        if position_ids is None:
            position_ids = torch.arange(filled, filled + count, device=input_ids.device)[None]
        rotation = glm2_rotation(self.config, position_ids, hidden.dtype)
        if self.prefix is not None:
            cache = self.prefix.before(cache or KVCache(self.config, *input_ids.shape, hidden.dtype, hidden.device))
        before = cache.prefix if cache is not None else 0
        mask = attention_mask_of(attention_mask, count, filled + count, input_ids.device, before)
        hidden = run_layers(self.layers, hidden, rotation, mask, cache, states, call)
        if cache is not None:
            cache.advance(count)
        if states is not None:
            states.append(hidden)
        if last_only:
            hidden = hidden[:, -1:]
        return self.lm_head(self.final_norm(hidden) if self.final_norm is not None else hidden)
