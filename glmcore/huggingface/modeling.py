"""The models for transformers: the native modules under a ``PreTrainedModel`` that speaks its caches and masks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from glmcore.huggingface.configuration import ChatGLMConfig
from glmcore.kernels.load import kernel_or_torch
from glmcore.models import build
from glmcore.models.inputs import PositionState, prompt_inputs
from glmcore.quant.convert import attach_kernel
from glmcore.quant.linear import QuantEmbedding, QuantLinear


class CacheAdapter:
    """A transformers cache in the place of ``KVCache``; ``length`` counts the positions filled before this forward."""

    def __init__(self, cache: Cache) -> None:
        self.cache, self.length = cache, int(cache.get_seq_length())

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + key.shape[2]
        places = torch.arange(self.length, end, device=key.device)
        keys, values = self.cache.update(key, value, layer, {"cache_position": places})
        # A static cache returns its whole capacity.
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, count: int) -> None:
        """The cache counts by itself."""


class ChatGLMForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Any of the four generations. Parameters carry the names of the original files."""

    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    main_input_name = "input_ids"
    _no_split_modules = ["Layer"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"rotary(_pos)?_emb\.inv_freq", r"prefix_encoder\."]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    # transformers 4 would otherwise keep the file's types where the first tensor (packed integers) has the model's.
    _supports_param_buffer_assignment = False
    _supports_cache_class = True
    _supports_static_cache = True

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        native = build(config.native)
        # Both hold one table of children, so that a replaced layer (an adapter) is replaced for both. It is no child
        # itself: the parameters keep the names of the original files.
        self._modules.update(native._modules)
        native._modules = self._modules
        object.__setattr__(self, "native", native)
        if native.config.tie_embeddings:
            self._tied_weights_keys = tied_keys(native)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As the base class; quantised layers on the CPU are then computed by glmcore's kernel."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        prepare_quantized(model)
        return loaded

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        num_logits_to_keep: int = 0,
        return_dict: bool | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits [B, S, vocabulary]; with ``labels`` (-100: ignored) the mean loss of predicting each next token.

        attention_mask: [B, total], 1 where a key is no padding; for ChatGLM-6B also the original's booleans
        [B, 1, S, total], True where a query must not look. Positions and masks default to those of whole prompts.
        """
        if past_key_values is None and (not self.training if use_cache is None else use_cache):
            past_key_values = DynamicCache()
        cache = CacheAdapter(past_key_values) if past_key_values is not None else None
        filled = cache.length if cache is not None else 0
        mask = keep_mask(attention_mask, filled + input_ids.shape[1])
        if position_ids is None and filled and self.native.config.generation == "v1":
            raise ValueError("ChatGLM-6B needs position_ids for tokens that follow a prompt; generate() makes them")
        if position_ids is None and mask is not None and mask.dim() == 2 and not filled:
            position_ids = prompt_inputs(self.native.config, input_ids, mask)["position_ids"]
        last = (logits_to_keep or num_logits_to_keep) == 1
        logits = self.native(input_ids, position_ids, mask, cache, last_only=last)
        loss = None if labels is None else next_token_loss(logits, labels)
        if return_dict is False:
            return tuple(value for value in (loss, logits, past_key_values) if value is not None)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the base class; takes the four-dimensional masks of ChatGLM-6B's tokenizer too."""
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 4:
            kwargs["attention_mask"] = (~mask[:, 0, -1]).long()  # the last token looks at all that is no padding
        return super().generate(inputs, *args, **kwargs)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What ``forward`` is given for the tokens that the cache does not hold yet."""
        filled = int(past_key_values.get_seq_length()) if past_key_values is not None else 0
        if position_ids is None:
            position_ids = positions_after(self, input_ids, attention_mask, filled)
        elif filled:
            position_ids = position_ids[..., -(input_ids.shape[1] - filled) :]
        return {
            "input_ids": input_ids[:, filled:],
            "position_ids": position_ids,
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            "use_cache": kwargs.get("use_cache"),
        }

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> None:
        """None: ``prepare_inputs_for_generation`` makes them in each step, from all tokens so far."""

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """As the base class, except that positions that the caller gave go on as the generation counts them."""
        positions = model_kwargs.pop("position_ids", None)
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if positions is not None:
            model_kwargs["position_ids"] = grown(
                self.native.config.generation, positions, kwargs.get("num_new_tokens", 1)
            )
        return model_kwargs

    def get_input_embeddings(self) -> nn.Module:
        return self.native.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.native.lm_head

    def set_input_embeddings(self, value: nn.Module) -> None:
        replace(self, self.native.embedding, value)

    def set_output_embeddings(self, value: nn.Module) -> None:
        replace(self, self.native.lm_head, value)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(std=0.02)
            if getattr(module, "bias", None) is not None:
                module.bias.data.zero_()
        elif hasattr(module, "weight") and module.weight.is_floating_point():
            module.weight.data.fill_(1.0)


def prepare_quantized(model: ChatGLMForConditionalGeneration) -> None:
    """Let quantised layers on the CPU run through the kernel, and the embedding return the model's type."""
    packed = [module for module in model.modules() if isinstance(module, QuantLinear)]
    if not packed:
        return
    for module in model.modules():
        if isinstance(module, QuantEmbedding):
            module.dtype = next(parameter.dtype for parameter in model.parameters())
    if any(module.weight.device.type == "cpu" for module in packed):
        attach_kernel(model, kernel_or_torch())


def tied_keys(native: nn.Module) -> Any:
    """The name of the head's weight, with that of the embedding's where this transformers asks for it (5 and later)."""
    names = {id(module): name for name, module in native.named_modules()}
    head, embedding = (f"{names[id(module)]}.weight" for module in (native.lm_head, native.embedding))
    if not hasattr(PreTrainedModel, "get_expanded_tied_weights_keys"):
        return [head]
    # transformers 5 ties parameters only; packed weights are buffers.
    return {head: embedding} if isinstance(native.lm_head, nn.Linear) else {}


def replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in model.named_modules() if module is old)
    parent, _, attribute = name.rpartition(".")
    model.get_submodule(parent)._modules[attribute] = new


def keep_mask(mask: Tensor | None, total: int) -> Tensor | None:
    """A caller's mask as the models take it; None where it hides nothing."""
    if mask is None or mask.dim() == 2:
        return None if mask is None or bool(mask.all()) else mask[:, :total]
    # The original leaves padded queries with nothing to look at; softmax over nothing is NaN, so they see themselves.
    itself = torch.eye(mask.shape[-2], mask.shape[-1], dtype=torch.bool, device=mask.device)
    return ~mask | itself.roll(mask.shape[-1] - mask.shape[-2], dims=-1)


def positions_after(model: ChatGLMForConditionalGeneration, ids: Tensor, mask: Tensor | None, filled: int) -> Tensor:
    """Positions of the tokens of ``ids`` [B, S] behind the first ``filled``."""
    config, keep = model.native.config, keep_mask(mask, ids.shape[1])
    if not filled:
        return prompt_inputs(config, ids, keep)["position_ids"]
    state = PositionState(config, ids[:, :filled], None if keep is None else keep[:, :filled])
    return state.step(ids[:, filled:])["position_ids"]


def grown(generation: str, positions: Tensor, count: int) -> Tensor:
    """Positions with ``count`` more: ChatGLM-6B's stay at the mask and count on in the block, the others count on."""
    steps = torch.arange(1, count + 1, device=positions.device)
    if generation == "v1":
        steps = steps * torch.tensor([[0], [1]], device=positions.device) if positions.dim() == 3 else steps * 0
    return torch.cat((positions, positions[..., -1:] + steps), dim=-1)


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
