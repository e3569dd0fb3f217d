"""ChatGLM-6B: two-dimensional rotary positions, a prompt that sees itself both ways, residuals scaled by alpha.

The modules carry the names of the original checkpoints, so a file's tensor names are the model's parameter names.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from glmcore.config import ModelConfig
from glmcore.models.attention import attend, attention_mask_of
from glmcore.models.cache import KVCache
from glmcore.models.inputs import prompt_inputs
from glmcore.models.layers import Call, run_layers
from glmcore.models.prefix import Prefix
from glmcore.models.rope import Rotation, glm1_rotation, rotate_halves


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value of a head lie side by side in the fused projection.

    The original divides the queries by (layer + 1) and multiplies the scores by it again in float32, against overflow
    in float16; the attention used here keeps its scores in float32 anyway.
    """

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.num_heads, self.index = config.num_heads, index
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """[B, S, hidden size] → the same. mask as ``attend`` takes it; the cache is written where there is one."""
        mixed = self.query_key_value(x).unflatten(-1, (self.num_heads, -1))
        query, key, value = (part.transpose(1, 2) for part in mixed.chunk(3, dim=-1))
        query, key = rotate_halves(query, rotation), rotate_halves(key, rotation)
        if cache is not None:
            key, value = cache.update(self.index, key, value)
        return self.dense(attend(query, key, value, mask))


class MLP(nn.Module):
    """Two projections with the tanh form of GELU between."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.ffn_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.ffn_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, hidden size] → the same."""
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh"))


class Layer(nn.Module):
    """A transformer layer; takes and returns [B, S, hidden size]. The residual is what the norm returns."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.alpha = config.traits.residual_scale
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = Attention(config, index)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """[B, S, hidden size] → the same; ``rotation`` and ``mask`` as for the attention."""
        normed = self.input_layernorm(x)
        x = normed * self.alpha + self.attention(normed, rotation, mask, cache)
        normed = self.post_attention_layernorm(x)
        return normed * self.alpha + self.mlp(normed)


class GLM1(nn.Module):
    """Token ids in, logits out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.prefix: Prefix | None = None
        self.transformer = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config.vocab_size, config.hidden_size),
                "layers": nn.ModuleList(Layer(config, i) for i in range(config.num_layers)),
                "final_layernorm": nn.LayerNorm(config.hidden_size, eps=config.norm_eps),
            }
        )
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight

    @property
    def embedding(self) -> nn.Module:
        return self.transformer["word_embeddings"]

    @property
    def layers(self) -> nn.ModuleList:
        return self.transformer["layers"]

    @property
    def final_norm(self) -> nn.Module:
        return self.transformer["final_layernorm"]

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

        position_ids [B, 2, S] ([B, S] for the one-dimensional form) and the mask default to those of a whole prompt; on
        top of a cache the positions have to be given (``models.inputs``), for they depend on the prompt. embeddings:
        [B, S, hidden size], in place of those of ``input_ids``. states: a list that is given, as by the original, the
        embeddings, what each layer returns, and of the last layer what the last norm makes of it. call:
        ``models.layers``.
        """
        filled, count = cache.length if cache is not None else 0, input_ids.shape[1]
        if not filled:
            keep = attention_mask if attention_mask is not None and attention_mask.dim() == 2 else None
            prompt = prompt_inputs(self.config, input_ids, keep)
            attention_mask = prompt["attention_mask"] if attention_mask is None or keep is not None else attention_mask
            position_ids = prompt["position_ids"] if position_ids is None else position_ids
        assert position_ids is not None, "after the prompt, ChatGLM-6B needs the positions from models.inputs"
        hidden = self.embedding(input_ids) if embeddings is None else embeddings
        rotation = glm1_rotation(self.config, position_ids, hidden.dtype)
        if self.prefix is not None:
            cache = self.prefix.before(cache or KVCache(self.config, *input_ids.shape, hidden.dtype, hidden.device))
        before = cache.prefix if cache is not None else 0
        mask = attention_mask_of(attention_mask, count, filled + count, input_ids.device, before)
        hidden = run_layers(self.layers, hidden, rotation, mask, cache, states, call)
        if cache is not None:
            cache.advance(count)
        if last_only:
            hidden = hidden[:, -1:]
        hidden = self.final_norm(hidden)
        if states is not None:
            states.append(hidden)
        return self.lm_head(hidden)
