"""``ChatGLMConfig``: the original config.json as transformers wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from glmcore.config import GENERATION_KEY, ModelConfig


class ChatGLMConfig(PretrainedConfig):
    """Holds the original keys as they are, and beside them the names that transformers' own code asks for."""

    model_type = "chatglm"
    attribute_map = {"num_hidden_layers": "num_layers", "max_position_embeddings": "seq_length"}  # noqa: RUF012
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        # The folder's own code is not to be found by what is loaded or saved from here.
        kwargs.pop("auto_map", None)
        native = ModelConfig.from_dict({**kwargs, "model_type": self.model_type})
        kwargs.pop("num_hidden_layers", None)
        kwargs |= {
            GENERATION_KEY: native.generation,
            "num_layers": native.num_layers,
            "hidden_size": native.hidden_size,
            "num_attention_heads": native.num_heads,
            "num_key_value_heads": native.num_kv_heads,
            "head_dim": native.head_dim,
            "vocab_size": native.vocab_size,
            "seq_length": native.max_length,
            "pad_token_id": native.pad_token_id,
            "tie_word_embeddings": native.tie_embeddings,
        }
        kwargs.setdefault("eos_token_id", native.eos_token_ids[0])
        kwargs["tokenizer_class"] = "ChatGLMTokenizer"
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As the base class. What only the folder's name and other files tell is kept in the configuration."""
        path = kwargs.get("name_or_path")
        folder = Path(path) if path and Path(path).is_dir() else None
        native = ModelConfig.from_dict(config_dict, folder=folder)
        told = {GENERATION_KEY: native.generation, "quantization_bit": native.quantization_bit}
        return super().from_dict({**config_dict, **told}, **kwargs)

    @property
    def native(self) -> ModelConfig:
        """What glmcore's models are built from."""
        return ModelConfig.from_dict({**self.to_dict(), "model_type": self.model_type})
