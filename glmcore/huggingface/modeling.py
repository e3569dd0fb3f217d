"""The models for transformers: the native modules under a ``PreTrainedModel`` that speaks its caches and masks."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from glmcore.errors import GlmError
from glmcore.huggingface.caches import CACHE_NAME, CacheAdapter, filled_of, one_of
from glmcore.huggingface.chat import ChatMixin
from glmcore.huggingface.configuration import ChatGLMConfig
from glmcore.huggingface.placing import run_where_it_lies
from glmcore.huggingface.positions import forward_inputs, grown, marks, positions_from
from glmcore.kernels.load import kernel_or_torch
from glmcore.models import build
from glmcore.quant.convert import attach_kernel
from glmcore.quant.halves import HalfLinear
from glmcore.quant.linear import QuantEmbedding, QuantLinear

# From 5.x on a caller says how many of the tokens are new; before, ``cache_position`` did.
TELLS_LENGTH = "next_sequence_length" in signature(GenerationMixin.prepare_inputs_for_generation).parameters


class ChatGLMForConditionalGeneration(ChatMixin, PreTrainedModel, GenerationMixin):
    """Any of the four generations. Parameters carry the names of the original files."""

    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    main_input_name = "input_ids"
    _no_split_modules = ["Layer"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"rotary(_pos)?_emb\.inv_freq", r"prefix_encoder\."]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values", "cache"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # transformers 4 would otherwise keep the file's types where the first tensor (packed integers) has the model's.
    _supports_param_buffer_assignment = False
    _supports_cache_class = True
    _supports_static_cache = True

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.gradient_checkpointing = False
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
        """As the base class; over several devices the model is then run by ``place``, on the CPU by the kernel."""
        kwargs.setdefault("offload_buffers", True)  # packed weights for the CPU are buffers, and belong there
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for module in model.modules():
            if isinstance(module, QuantEmbedding):
                module.dtype = next(parameter.dtype for parameter in model.parameters())
        run_where_it_lies(model)
        model.use_kernel()
        return loaded

    def use_kernel(self) -> None:
        """Let layers on the CPU that are quantised, or keep 16 bits, run through glmcore's kernel."""
        kept = [module for module in self.modules() if isinstance(module, (QuantLinear, HalfLinear))]
        if any(module.weight.device.type == "cpu" for module in kept):
            attach_kernel(self, kernel_or_torch())

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_logits_to_keep: int = 0,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache: Cache | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits [B, S, vocabulary]; with ``labels`` (-100: ignored) the mean loss of predicting each next token.

        attention_mask: [B, total], 1 where a key is no padding; for ChatGLM-6B also the original's booleans
        [B, 1, S, total], True where a query must not look. Positions and masks default to those of whole prompts.
        inputs_embeds: [B, S, hidden size], in place of ``input_ids``. logits_to_keep: so many of the last (0: all), or
        the indices [K] of those that are wanted.
        hidden_states: the embeddings and what each layer returns, of ChatGLM-6B's last layer after the last norm, as
        the original has them. num_items_in_batch: what the sum of losses is divided by, in place of its own count.
        output_attentions: GlmError("usage"), since attention is computed without keeping its weights.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise GlmError("usage", "forward takes either input_ids or inputs_embeds")
        if self.config.output_attentions if output_attentions is None else output_attentions:
            raise GlmError("usage", "these classes compute attention without keeping its weights",
                           hint="leave output_attentions out")  # fmt: skip
        config, past = self.native.config, one_of(cache, past_key_values)
        ids = marks(config, self.native.embedding, inputs_embeds) if input_ids is None else input_ids
        if past is None and (not self.training if use_cache is None else use_cache):
            past = DynamicCache()
        held = CacheAdapter(past) if past is not None else None
        positions, mask = forward_inputs(config, ids, attention_mask, position_ids, held)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        states: list[Tensor] | None = [] if wanted else None
        keep = num_logits_to_keep if isinstance(logits_to_keep, int) and not logits_to_keep else logits_to_keep
        logits = self.native(
            ids, positions, mask, held, isinstance(keep, int) and keep == 1 and not wanted,
            embeddings=inputs_embeds, states=states, call=self._checkpointing(past),
        )[:, slice(-keep, None) if isinstance(keep, int) else keep].to(ids.device)  # fmt: skip
        loss = None if labels is None else next_token_loss(logits, labels, num_items_in_batch)
        hidden = None if states is None else tuple(states)
        if return_dict is False:
            return tuple(value for value in (loss, logits, past, hidden) if value is not None)
        return CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=hidden, **{CACHE_NAME: past})

    def _checkpointing(self, cache: Cache | None) -> Any:
        """torch's checkpoint function where it was asked for and can act: a cache would be written twice."""
        asked = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        return self._gradient_checkpointing_func if asked and cache is None else None

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the base class: ids [B, S] → [B, S + new]; takes the [B, 1, S, S] masks of ChatGLM-6B's tokenizer too."""
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 4:
            kwargs["attention_mask"] = (~mask[:, 0, -1]).long()  # the last token looks at all that is no padding
        if kwargs.get("inputs_embeds") is not None and inputs is None and kwargs.get("input_ids") is None:
            kwargs["embeddings_alone"] = True
        if not self.native.config.traits.causal:
            self._check_glm1(inputs, kwargs)
        return super().generate(inputs, *args, **kwargs)

    def _check_glm1(self, inputs: Tensor | None, kwargs: dict[str, Any]) -> None:
        """ChatGLM-6B's prompt is read in one piece, and counted in one dimension it has to be told from the answer."""
        given = kwargs.get("generation_config") or self.generation_config
        if kwargs.get("prefill_chunk_size") or getattr(given, "prefill_chunk_size", None):
            raise GlmError("usage", "ChatGLM-6B reads a prompt in one piece", hint="leave prefill_chunk_size out")
        if not self.native.config.position_2d:
            if kwargs.get("position_ids") is not None and kwargs["position_ids"].dim() == 3:
                del kwargs["position_ids"]  # the original's tokenizer writes two rows for every ChatGLM-6B
            names = ("input_ids", "inputs_embeds")
            prompt = inputs if inputs is not None else next((kwargs[n] for n in names if n in kwargs), None)
            if prompt is not None:
                kwargs.setdefault("prompt_length", prompt.shape[1])

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: Cache | None = None,
        next_sequence_length: int | None = None,
        cache_position: Tensor | None = None,
        prompt_length: int | None = None,
        embeddings_alone: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What ``forward`` is given for the tokens that the cache does not hold yet, in its shapes.

        input_ids: [B, all tokens so far].
        """
        config, past = self.native.config, one_of(cache, past_key_values)
        if kwargs.get("use_cache") is False:
            past = None  # transformers 4 makes one all the same
        ids = input_ids
        if inputs_embeds is not None and embeddings_alone:  # ``input_ids`` are the answer's
            ids = torch.cat((marks(config, self.native.embedding, inputs_embeds), ids), dim=1)
        held = filled_of(past)
        told = next_sequence_length or ids.shape[1] if TELLS_LENGTH else ids.shape[1] - held
        count = told if cache_position is None else cache_position.shape[-1]
        start = ids.shape[1] - count
        if position_ids is not None:
            position_ids = position_ids[..., -count:]
        elif held + count == ids.shape[1]:  # else the cache holds what ``ids`` do not tell, and ``forward`` counts
            position_ids = positions_from(config, ids, attention_mask, start, prompt_length)
        embeddings = None
        if inputs_embeds is not None and start < inputs_embeds.shape[1]:
            answer = self.native.embedding(ids[:, inputs_embeds.shape[1] :])
            embeddings = torch.cat((inputs_embeds, answer), dim=1)[:, start:]
        return {
            "input_ids": ids[:, start:] if embeddings is None else None,
            "inputs_embeds": embeddings,
            "position_ids": position_ids,
            "attention_mask": attention_mask,
            "past_key_values": past,  # by the name that PEFT knows
            "use_cache": kwargs.get("use_cache"),
            "output_attentions": kwargs.get("output_attentions"),
            "output_hidden_states": kwargs.get("output_hidden_states"),
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
            model_kwargs["position_ids"] = grown(self.native.config, positions, kwargs.get("num_new_tokens", 1))
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


def next_token_loss(logits: Tensor, labels: Tensor, count: Tensor | int | None = None) -> Tensor:
    """The mean over the tokens that are not ignored; or their sum, divided by ``count``.

    logits [B, S, vocabulary], labels [B, S] (-100: ignored) → a scalar in float32.
    """
    scores, wanted = logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten().to(logits.device)
    if count is None:
        return F.cross_entropy(scores, wanted, ignore_index=-100)
    return F.cross_entropy(scores, wanted, ignore_index=-100, reduction="sum") / count
