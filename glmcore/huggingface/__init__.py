"""The four generations for transformers: importing this package registers them with the Auto classes.

After ``import glmcore.huggingface``, ``from_pretrained`` of AutoConfig, AutoModel, AutoModelForCausalLM and
AutoTokenizer take the original checkpoints without ``trust_remote_code``; code that lies in their folders is not run.
"""

import warnings

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from glmcore.huggingface.configuration import ChatGLMConfig
from glmcore.huggingface.modeling import ChatGLMForConditionalGeneration
from glmcore.huggingface.tokenization import ChatGLM4Tokenizer, ChatGLMTokenizer
from glmcore.versions import untested

__all__ = ["ChatGLM4Tokenizer", "ChatGLMConfig", "ChatGLMForConditionalGeneration", "ChatGLMTokenizer"]

for _line in untested("torch", "transformers"):
    warnings.warn(_line, UserWarning, stacklevel=2)


class _Name(ChatGLMConfig):
    """Never instantiated. transformers finds a tokenizer by the name in tokenizer_config.json, or else in the
    configuration, and registers one for each configuration class. Under ChatGLMConfig itself, transformers 5 would
    prefer code from the folder wherever ``trust_remote_code`` is given."""


class _Glm4Name(_Name):
    """The same for the name that GLM-4's files give."""


AutoConfig.register("chatglm", ChatGLMConfig, exist_ok=True)
for _auto in (AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM):
    _auto.register(ChatGLMConfig, ChatGLMForConditionalGeneration, exist_ok=True)
AutoTokenizer.register(_Name, slow_tokenizer_class=ChatGLMTokenizer, exist_ok=True)
AutoTokenizer.register(_Glm4Name, slow_tokenizer_class=ChatGLM4Tokenizer, exist_ok=True)
