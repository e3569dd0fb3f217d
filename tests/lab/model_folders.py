"""A small checkpoint of the second generation, whole; machines break it."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from glmcore.config import ModelConfig
from glmcore.layout import Spec, expected

CONFIG = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "num_layers": 2,
    "hidden_size": 32,
    "ffn_hidden_size": 48,
    "kv_channels": 32,
    "num_attention_heads": 1,
    "multi_query_attention": True,
    "multi_query_group_num": 1,
    "padded_vocab_size": 64,
    "seq_length": 128,
    "layernorm_epsilon": 1e-05,
    "rmsnorm": True,
    "post_layer_norm": True,
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "original_rope": True,
    "torch_dtype": "float16",
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FIRST_GENERATION = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "num_layers": 2,
    "hidden_size": 32,
    "inner_hidden_size": 48,
    "num_attention_heads": 1,
    "position_encoding_2d": True,
    "vocab_size": 130528,
    "max_sequence_length": 128,
    "layernorm_epsilon": 1e-05,
    "torch_dtype": "float16",
    "bos_token_id": 130004,
    "eos_token_id": 130005,
    "mask_token_id": 130000,
    "gmask_token_id": 130001,
}
AUTO_MAP = {
    "AutoConfig": "configuration_chatglm.ChatGLMConfig",
    "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
    "AutoModelForSeq2SeqLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
# A serialised sentencepiece model begins with its first piece.
SENTENCEPIECE = b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02"

OLD_TOKENIZER = """
class ChatGLMTokenizer(PreTrainedTokenizer):
    def __init__(self, vocab_file, **kwargs):
        super().__init__(padding_side="left", **kwargs)
        self.tokenizer = SPTokenizer(vocab_file)

    @property
    def eos_token(self):
        return "</s>"

    def _pad(self, encoded_inputs, max_length=None, pad_to_multiple_of=None):
        return encoded_inputs
"""
NEW_TOKENIZER = """
class ChatGLMTokenizer(PreTrainedTokenizer):
    def __init__(self, vocab_file, **kwargs):
        self.tokenizer = SPTokenizer(vocab_file)
        super().__init__(**kwargs)

    def build_prompt(self, query):
        return query

    def _pad(self, encoded_inputs, padding_side=None):
        return encoded_inputs
"""
OLD_MODEL = """
class ChatGLMForConditionalGeneration(ChatGLMPreTrainedModel):
    def __init__(self, config):
        self.max_sequence_length = config.max_length

    def _update_model_kwargs_for_generation(self, outputs, standardize_cache_format=False):
        return self._extract_past_from_model_output(outputs)
"""
NEW_MODEL = """
class ChatGLMForConditionalGeneration(ChatGLMPreTrainedModel, GenerationMixin):
    def __init__(self, config):
        self.post_init()

    def chat(self, tokenizer, query):
        return tokenizer.build_prompt(query)
"""


def write_model(folder: Path, config: dict[str, object] | None = None, **changes: object) -> Path:
    """A folder with configuration, tokenizer and two shards; ``changes`` go into the configuration alone."""
    folder.mkdir(parents=True)
    config = config or CONFIG
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    tokenizer = "ice_text.model" if "position_encoding_2d" in config else "tokenizer.model"
    (folder / tokenizer).write_bytes(SENTENCEPIECE)
    packed = {"quantization_bit": changes.get("quantization_bit", 0)}  # the one change that the weights share
    tensors = dict(expected(ModelConfig.from_dict({**config, **packed})))
    names = list(tensors)
    shards = dict(zip(SHARDS, (names[: len(names) // 2], names[len(names) // 2 :]), strict=True))
    for shard, held in shards.items():
        write_safetensors(folder / shard, {name: tensors[name] for name in held})
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_safetensors(path: Path, tensors: dict[str, Spec]) -> None:
    """A header and zeros, which take no room on the disk."""
    header, at = {}, 0
    for name, spec in tensors.items():
        dtype, width = ("I8", 1) if spec.kind == "packed" else ("F16", 2)
        end = at + width * spec.values
        header[name] = {"dtype": dtype, "shape": spec.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + at)


def write_code(folder: Path, model: str = NEW_MODEL, tokenizer: str | None = NEW_TOKENIZER) -> None:
    """The checkpoint's own code, as ``trust_remote_code`` would run it."""
    (folder / "modeling_chatglm.py").write_text(model)
    (folder / "configuration_chatglm.py").write_text("class ChatGLMConfig(PretrainedConfig):\n    pass\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": AUTO_MAP}))
    if tokenizer:
        (folder / "tokenization_chatglm.py").write_text(tokenizer)
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
