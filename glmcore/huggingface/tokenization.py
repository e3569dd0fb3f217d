"""The tokenizers behind transformers' interface, for its oldest and newest versions that setup.cfg admits.

transformers truncates, pads and makes tensors; ids, texts and prompts come from this package's tokenizers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers import BatchEncoding, PreTrainedTokenizer
from transformers.utils import get_json_schema

from glmcore.chat.templates import Special, prompt
from glmcore.config import ModelConfig, read_json
from glmcore.errors import GlmError
from glmcore.tokenizers import load_tokenizer
from glmcore.tokenizers.files import is_rank_file

V2_TOKENS = {"eos_token": "</s>", "pad_token": "<unk>", "unk_token": "<unk>"}
V1_TOKENS = {
    "bos_token": "<sop>", "eos_token": "<eop>", "mask_token": "[MASK]", "pad_token": "<pad>", "unk_token": "<unk>",
}  # fmt: skip
GLM4_TOKENS = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
TOKENS = {"v1": V1_TOKENS, "v2": V2_TOKENS, "v3": V2_TOKENS, "glm4": GLM4_TOKENS}
TENSORS_COME_IN_A_DICT = int(transformers.__version__.split(".")[0]) >= 5
Messages = Sequence[Mapping[str, Any]]


class ChatGLMTokenizer(PreTrainedTokenizer):
    """The tokenizer of ChatGLM-6B, ChatGLM2-6B, ChatGLM3-6B or GLM-4-9B, whichever the folder holds.

    Text that looks like one of GLM-4's or ChatGLM3's special tokens stays text; ``parse_special=True``, here or in a
    call, reads them out of a text as the originals can. Inputs are padded on the left, as the models need it.
    """

    vocab_files_names = {"vocab_file": "tokenizer.model", "v1_vocab_file": "ice_text.model"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask", "position_ids"]  # noqa: RUF012
    padding_side = "left"

    def __init__(
        self,
        vocab_file: str | None = None,
        v1_vocab_file: str | None = None,
        glm_generation: str | None = None,
        parse_special: bool = False,
        **kwargs: Any,
    ) -> None:
        path = Path(str(v1_vocab_file if vocab_file is None else vocab_file))
        self.glm_generation = glm_generation or _generation(path)
        self.core = load_tokenizer(path.parent, self.glm_generation)
        self.parse_special = parse_special
        kwargs.pop("auto_map", None)  # it would name code that this class stands in for
        own = {**TOKENS[self.glm_generation], "padding_side": "left", "clean_up_tokenization_spaces": False}
        saved = {"glm_generation": self.glm_generation, "parse_special": parse_special}
        super().__init__(**{**kwargs, **own, **saved})

    # The vocabulary

    @property
    def vocab_size(self) -> int:
        return self.core.vocab_size

    def __len__(self) -> int:
        return len(self.core)

    def get_vocab(self) -> dict[str, int]:
        return dict(self.core.vocabulary)

    def get_command(self, token: str) -> int:
        """The id of a special token, as in the original."""
        return self.core.special[token]

    def _convert_token_to_id(self, token: str) -> int | None:
        index = self.core.index(token)
        return self.unk_token_id if index is None else index

    def _convert_id_to_token(self, index: int) -> str:
        return self.core.token(index)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        source = self.core.path
        target = Path(save_directory) / source.name
        if source.resolve() != target.resolve():
            shutil.copyfile(source, target)
        return (str(target),)

    # Text to ids

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        ids = self.core.encode(text, parse_special=kwargs.get("parse_special", self.parse_special))
        return [self.core.token(index) for index in ids]

    def _ids(self, text: Any, parse_special: bool) -> Any:
        """Texts as ids, which the base class takes as they are; without ids the text, since it takes no empty list."""
        if isinstance(text, str):
            return self.core.encode(text, parse_special=parse_special) or ""
        if isinstance(text, list | tuple):
            return type(text)(self._ids(part, parse_special) for part in text)
        return text

    def _encode_plus(self, text: Any, text_pair: Any = None, **kwargs: Any) -> BatchEncoding:
        parse = kwargs.pop("parse_special", self.parse_special)
        if not kwargs.get("is_split_into_words"):
            text, text_pair = self._ids(text, parse), self._ids(text_pair, parse)
        return super()._encode_plus(text=text, text_pair=text_pair, **kwargs)

    def _batch_encode_plus(self, batch_text_or_text_pairs: Any, **kwargs: Any) -> BatchEncoding:
        parse = kwargs.pop("parse_special", self.parse_special)
        if not kwargs.get("is_split_into_words"):
            batch_text_or_text_pairs = self._ids(list(batch_text_or_text_pairs), parse)
            kwargs["is_split_into_words"] = True  # a list of ids is one text, not a pair
        return super()._batch_encode_plus(batch_text_or_text_pairs, **kwargs)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        framed = self.core.frame(token_ids_0)
        return framed if token_ids_1 is None else [*framed, *token_ids_1, self.core.eos_token_ids[0]]

    def _pad(
        self,
        encoded_inputs: Any,
        max_length: int | None = None,
        padding_strategy: Any = "do_not_pad",
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
    ) -> Any:
        """One input with its mask and positions, padded on the left to ``max_length``."""
        if (padding_side or self.padding_side) != "left":
            raise GlmError("usage", "these models are padded on the left only", hint="leave padding_side as it is")
        ids = list(encoded_inputs["input_ids"])
        padding = str(getattr(padding_strategy, "value", padding_strategy))
        length = len(ids) if padding == "longest" else max_length
        if length is not None and pad_to_multiple_of:
            length = -(-length // pad_to_multiple_of) * pad_to_multiple_of
        missing = max(0, (length or 0) - len(ids)) if padding != "do_not_pad" else 0
        encoded = dict(encoded_inputs)
        if self.glm_generation != "v1":
            _add_1d(encoded, ids, missing)
        elif length is not None:
            self._add_2d(encoded, ids, missing)
        encoded["input_ids"] = [self.core.pad_token_id] * missing + ids
        return encoded

    def _add_2d(self, encoded: dict[str, Any], ids: list[int], missing: int) -> None:
        """ChatGLM-6B's mask (True is masked: all see the text before <sop>, after it only what came before) and its
        two rows of positions, the second within the answer."""
        special, size = self.core.special, len(ids)
        context = ids.index(special["<sop>"]) if special["<sop>"] in ids else size
        mask = np.triu(np.ones((1, size, size), dtype=bool), k=1)
        mask[:, :, :context] = False
        gap = special["[MASK]"] if special["[MASK]"] in ids else special["[gMASK]"]
        positions = np.stack([np.arange(size), np.maximum(np.arange(size) - context + 1, 0)])
        if gap in ids:
            positions[0, context:] = ids.index(gap)
        before = (missing, 0)
        if "attention_mask" not in encoded:
            encoded["attention_mask"] = np.pad(mask, [(0, 0), before, before], constant_values=True)
        if "position_ids" not in encoded:
            encoded["position_ids"] = np.pad(positions, [(0, 0), before])

    # Ids to text

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        ids = [index for index in map(self.core.index, tokens) if index is not None]
        return self.core.decode(ids, skip_special_tokens=False)

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        return self.core.decode(ids, skip_special_tokens)

    # Chat

    def apply_chat_template(
        self,
        conversation: Messages | Sequence[Messages],
        tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None = None,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool | None = None,
        parse_special: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The generation's own prompt: ids, with ``return_dict`` the model's inputs, without ``tokenize`` its text.

        Left open, ``return_dict`` is False for lists, and for tensors what this transformers does by default.
        A last message of the assistant is left open to be continued. A ``chat_template`` of the caller's is rendered
        by transformers.
        """
        shaping = {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "return_tensors": return_tensors,
        }
        if kwargs.get("chat_template") is not None:
            kwargs |= {"tools": tools, "add_generation_prompt": add_generation_prompt, "tokenize": tokenize, **shaping}
            return super().apply_chat_template(conversation, return_dict=bool(return_dict), **kwargs)
        described = [tool if isinstance(tool, Mapping) else get_json_schema(tool) for tool in tools or ()]
        batched = bool(conversation) and isinstance(conversation[0], list | tuple)
        chats: Any = conversation if batched else [conversation]
        if not tokenize:
            texts = [self._prompt_text(chat, described, add_generation_prompt) for chat in chats]
            return texts if batched else texts[0]
        parse = self.parse_special if parse_special is None else parse_special
        prompts = [self.core.apply_chat_template(chat, described, add_generation_prompt, parse) for chat in chats]
        encoded = self._shape(prompts, batched, **shaping)
        if return_dict is None:
            return_dict = bool(return_tensors) and TENSORS_COME_IN_A_DICT
        return encoded if return_dict else encoded["input_ids"]

    def _shape(
        self, prompts: list[list[int]], batched: bool, truncation: bool, max_length: int | None, **options: Any
    ) -> BatchEncoding:
        if truncation:
            # The end of a chat matters most, and in ChatGLM-6B it holds the tokens that frame the answer.
            prompts = [prompt[-(max_length or self.model_max_length) :] for prompt in prompts]
        if batched or options["return_tensors"]:
            return self.pad({"input_ids": prompts}, max_length=max_length, **options)
        return self.pad({"input_ids": prompts[0]}, max_length=max_length, **options)

    def _prompt_text(self, chat: Messages, tools: list[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        segments = prompt(chat, self.glm_generation, tools=tools, add_generation_prompt=add_generation_prompt)
        text = "".join(part.name if isinstance(part, Special) else part for part in segments)
        return {"v3": "[gMASK]sop", "glm4": "[gMASK]<sop>"}.get(self.glm_generation, "") + text


class ChatGLM4Tokenizer(ChatGLMTokenizer):
    """The name under which GLM-4-9B's folders ask for their tokenizer."""


def _add_1d(encoded: dict[str, Any], ids: list[int], missing: int) -> None:
    encoded["attention_mask"] = [0] * missing + list(encoded.get("attention_mask", [1] * len(ids)))
    encoded["position_ids"] = [0] * missing + list(encoded.get("position_ids", range(len(ids))))


def _generation(path: Path) -> str:
    """The generation of a folder's tokenizer, from config.json where there is one."""
    folder = path.parent
    if (folder / "config.json").exists():
        return ModelConfig.from_folder(folder).generation
    if path.name == "ice_text.model":
        return "v1"
    with path.open("rb") as file:
        if is_rank_file(file.read(4096)):
            return "glm4"
    settings = folder / "tokenizer_config.json"
    described = str(read_json(settings, "tokenizer-damaged")) if settings.exists() else ""
    return "v3" if "chatglm3" in described or "<|observation|>" in described else "v2"
