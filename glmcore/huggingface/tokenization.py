"""The tokenizers for transformers: the native ones under a ``PreTrainedTokenizer``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizer
from transformers.utils import cached_file, get_json_schema

from glmcore.config import GENERATION_KEY, ModelConfig, recognise
from glmcore.huggingface.padding import pad_left
from glmcore.reading import read_json
from glmcore.tokenizers import Tokenizer, load_tokenizer
from glmcore.tokenizers.files import NAMES

SPECIAL = {
    "v1": {
        "bos_token": "<sop>",
        "eos_token": "<eop>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "[MASK]",
    },
    "v2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"},
    "v3": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"},
    "glm4": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
}
# What of a tokenizer_config.json is meant for this class; the rest belongs to the original's own.
SETTINGS = ("model_max_length", "chat_template", "parse_special")


class Token(str):
    """A token that remembers its id: spelled out, several ids may look alike."""

    __slots__ = ("id",)

    def __new__(cls, text: str, index: int) -> Token:
        token = super().__new__(cls, text)
        token.id = index
        return token


class ChatGLMTokenizer(PreTrainedTokenizer):
    """Any of the four generations. Pads on the left; what else a padded call returns is the generation's own.

    ``parse_special``, here or in a call, reads special tokens out of texts as far as the original does.
    """

    model_input_names = ["input_ids", "attention_mask", "position_ids"]  # noqa: RUF012
    vocab_files_names: dict[str, str] = {}  # noqa: RUF012
    padding_side = "left"

    def __init__(self, native: Tokenizer, parse_special: bool = False, **kwargs: Any) -> None:
        self.native, self.parse_special = native, parse_special
        kwargs |= {**SPECIAL[native.generation], "padding_side": "left", GENERATION_KEY: native.generation}
        kwargs |= {"clean_up_tokenization_spaces": False}  # the native decoders do it as their originals do
        super().__init__(**kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *_: Any, **kwargs: Any) -> Any:
        """The tokenizer of a checkpoint folder, or of a model's name on the hub."""
        folder = local_folder(pretrained_model_name_or_path, kwargs)
        settings = (
            read_json(folder / "tokenizer_config.json", "tokenizer-damaged")
            if has(folder, "tokenizer_config.json")
            else {}
        )
        config = ModelConfig.from_folder(folder) if has(folder, "config.json") else None
        native = load_tokenizer(folder, config or recognise(settings, folder))
        chosen = {key: settings[key] for key in SETTINGS if key in settings}
        chosen |= {key: kwargs[key] for key in SETTINGS if key in kwargs}
        chosen_class = ChatGLM4Tokenizer if native.generation == "glm4" else ChatGLMTokenizer
        tokenizer = chosen_class(native, **chosen)
        tokenizer.name_or_path = str(pretrained_model_name_or_path)
        return tokenizer

    @property
    def vocab_size(self) -> int:
        return self.native.vocab_size

    def __len__(self) -> int:
        return len(self.native)

    def get_vocab(self) -> dict[str, int]:
        return dict(self.native.vocabulary)

    @property
    def eos_token_id(self) -> int:
        return self.native.eos_token_ids[0]

    @property
    def pad_token_id(self) -> int:
        return self.native.pad_token_id

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        ids = self.native.encode(text, parse_special=bool(kwargs.get("parse_special", self.parse_special)))
        return [Token(self.native.token(index), index) for index in ids]

    def _ids(self, text: Any, parse_special: bool) -> Any:
        """Texts as ids, which the base class takes as they are, sparing a million tokens; an empty text stays one."""
        if isinstance(text, str):
            return self.native.encode(text, parse_special=parse_special) or ""
        if isinstance(text, (list, tuple)):
            return type(text)(self._ids(part, parse_special) for part in text)
        return text

    def _encode_plus(self, text: Any, text_pair: Any = None, **kwargs: Any) -> BatchEncoding:
        parse = kwargs.pop("parse_special", self.parse_special)
        if not kwargs.get("is_split_into_words"):
            text, text_pair = self._ids(text, parse), self._ids(text_pair, parse)
        return super()._encode_plus(text=text, text_pair=text_pair, **kwargs)

    def _batch_encode_plus(self, batch_text_or_text_pairs: Any, **kwargs: Any) -> BatchEncoding:
        """transformers 4 only."""
        parse = kwargs.pop("parse_special", self.parse_special)
        if not kwargs.get("is_split_into_words"):
            batch_text_or_text_pairs = self._ids(list(batch_text_or_text_pairs), parse)
            kwargs["is_split_into_words"] = True  # a list of ids is one text, not a pair
        return super()._batch_encode_plus(batch_text_or_text_pairs, **kwargs)

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        if tokens is None or isinstance(tokens, str):
            return self._convert_token_to_id(tokens)
        return [self._convert_token_to_id(token) for token in tokens]

    def _convert_token_to_id(self, token: str | None) -> int | None:
        if token is None or isinstance(token, Token):
            return None if token is None else token.id
        found = self.native.index(token)
        return self.native.vocabulary.get(token) if found is None else found

    def _convert_id_to_token(self, index: int) -> str:
        return self.native.token(index)

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        if isinstance(ids, int):
            return Token(self.native.token(ids), ids)
        hidden = set(self.native.special.values()) if skip_special_tokens else set()
        return [Token(self.native.token(int(index)), int(index)) for index in ids if int(index) not in hidden]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return self.native.decode(self.convert_tokens_to_ids(tokens), skip_special_tokens=False)

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **_: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        return self.native.decode(ids, skip_special_tokens=skip_special_tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        framed = self.native.frame(token_ids_0)
        return framed if token_ids_1 is None else [*framed, *token_ids_1, self.eos_token_id]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))

    def _pad(
        self, encoded_inputs: Mapping[str, Any], max_length: int | None = None, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        kwargs["padding_side"] = kwargs.get("padding_side") or self.padding_side
        return pad_left(self.native, dict(encoded_inputs), max_length, *args, **kwargs)

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Any = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        return_tensors: str | None = None,
        return_dict: bool = False,
        parse_special: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The generation's own prompt for one conversation or a list of them: ids, or text without ``tokenize``.

        ``parse_special`` reads special tokens out of the messages' texts, as GLM-4's original does.
        """
        if chat_template is not None:
            return super().apply_chat_template(
                conversation, tools=tools, chat_template=chat_template, add_generation_prompt=add_generation_prompt,
                tokenize=tokenize, return_tensors=return_tensors, return_dict=return_dict, **kwargs,
            )  # fmt: skip
        several = bool(conversation) and isinstance(conversation[0], (list, tuple))
        chats = conversation if several else [conversation]
        offered = [tool if isinstance(tool, Mapping) else get_json_schema(tool) for tool in tools or ()]
        if not tokenize:
            texts = [self.native.prompt_text(chat, offered, add_generation_prompt) for chat in chats]
            return texts if several else texts[0]
        parse = self.parse_special if parse_special is None else parse_special
        rows = [self.native.apply_chat_template(chat, offered, add_generation_prompt, parse) for chat in chats]
        if not return_dict and return_tensors is None:
            return rows if several else rows[0]
        padding = kwargs.get("padding") or (several and return_tensors is not None)
        encoded = self.pad({"input_ids": rows}, padding=padding, max_length=kwargs.get("max_length"))
        if not several and return_tensors is None:
            encoded = BatchEncoding({key: value[0] for key, value in encoded.items()})
        encoded = BatchEncoding(encoded.data, tensor_type=return_tensors)
        return encoded if return_dict else encoded["input_ids"]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        target = Path(save_directory) / NAMES[self.native.generation]
        if target.resolve() != self.native.path.resolve():
            shutil.copyfile(self.native.path, target)
        return (str(target),)


class ChatGLM4Tokenizer(ChatGLMTokenizer):
    """The name under which GLM-4's tokenizer_config.json asks for its tokenizer."""


def has(folder: Path, name: str) -> bool:
    return (folder / name).exists()


def local_folder(name: str | os.PathLike[str], kwargs: Mapping[str, Any]) -> Path:
    """The folder of a checkpoint; for a name on the hub, that of the cache, with the tokenizer's files fetched."""
    if Path(name).is_dir():
        return Path(name)
    wanted = {key: kwargs[key] for key in ("cache_dir", "revision", "token", "local_files_only") if key in kwargs}
    found = [
        cached_file(str(name), file, _raise_exceptions_for_missing_entries=False, **wanted)
        for file in ("config.json", "tokenizer_config.json", *sorted(set(NAMES.values())))
    ]
    return Path(next(path for path in found if path)).parent
