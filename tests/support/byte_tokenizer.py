"""A tokenizer of single bytes with a chat template and special tokens, as the families of models have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simkit.plugins.extras import require


def byte_tokenizer(template: str, special: Sequence[str], end: str, begin: str | None = None) -> Any:
    """A fast tokenizer that restores any text exactly.

    Two line breaks are one token, as in most vocabularies of models: a prompt that ends with one line break is then no
    prefix of an answer that begins with another one.

    Args:
        template: the chat template.
        special: the special tokens; a padding token is added.
        end: the token that ends a text.
        begin: the token that begins a text, for templates that write it.
    """
    tokenizers, transformers = require("tokenizers", "local"), require("transformers", "local")
    bytewise = tokenizers.pre_tokenizers.ByteLevel
    letters = [*sorted(bytewise.alphabet()), "ĊĊ"]  # Ċ stands for a line break
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    made.pre_tokenizer = bytewise(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    marks = dict.fromkeys(["<|pad|>", *special, end, *([begin] if begin else [])])
    made.add_special_tokens([tokenizers.AddedToken(mark, normalized=False) for mark in marks])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=begin,
        eos_token=end,
        pad_token="<|pad|>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )
