"""A small ``tokenizer.json`` of the family's kind, trained here: byte-level pairs, role tokens, a framing."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from glmcore.tokenizers.glm4 import PATTERN, SPECIAL

TEXT = ["The weather in Beijing is fine.", "北京今天的天气很好。", "<think> 1 + 1 = 2 </think>", '{"city": "北京"}']


def write(folder: Path, *, framed: bool = True, vocabulary: int = 400) -> Path:
    """``tokenizer.json`` in ``folder``, and how transformers is to read it."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - len(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    if framed:
        ids = [(name, tokenizer.token_to_id(name)) for name in ("[gMASK]", "<sop>")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=ids)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false}'
    )
    return folder
