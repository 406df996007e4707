"""A chat model of a few thousand random weights, written file by file as `transformers` reads it.

It babbles whole phrases: words, tool calls, commands of the text protocol. What it says means nothing, but it is a
real model behind a real tokenizer, chat template and parser of tool calls, and it is made without torch.
"""

from __future__ import annotations

import json
import struct
from array import array
from pathlib import Path
from random import Random
from typing import Any

BEGIN, END = "<|im_start|>", "<|im_end|>"
ANSWER = f"{BEGIN}assistant\n"
"""One token, so that the server finds in what it decodes where the reply begins."""

CALLS = (
    '<tool_call>{"name": "search_restaurant", "arguments": {"food": "thai", "pricerange": "cheap"}}</tool_call>',
    '<tool_call>{"name": "book_train", "arguments": {"trainID": "TR1", "people": "two"}}</tool_call>',
    '<tool_call>{"name": "no_such_tool", "arguments": {}}</tool_call>',
)
"""Phrases that the server parses into tool calls."""

PHRASES = (
    *CALLS,
    "I need a restaurant. ",
    "Is there a train on tuesday? ",
    "ünd 日本 🙂 ",
    "PLAN hm ",
    "SPEAK Which day? ",
    'APICALL {"name": "search_train", "parameters": {"day": "tuesday"}} ',
    "<COMMAND_END>\n",
)
UNKNOWN = "[UNK]"
"""Every word it reads that is no phrase: prompts are short, and so are the tests."""

PROBE = "abcdef"
"""The server measures a tokenizer with this word before it stops a reply at a text."""

HIDDEN, LAYERS, HEADS = 32, 2, 4
CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RESPONSE_TEMPLATE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": ANSWER,
    "fields": {
        "tool_calls": {
            "open": "<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": END, "content": "text"},
    },
}


def vocabulary() -> dict[str, int]:
    """Ids of all tokens: marks and phrases."""
    return {token: number for number, token in enumerate([UNKNOWN, ANSWER, BEGIN, END, PROBE, *PHRASES])}


def phrase_id(phrase: str) -> int:
    """The id of one phrase or mark, for `logit_bias`."""
    return vocabulary()[phrase]


def write_tiny_model(folder: Path) -> Path:
    """Write the model's files into a new folder; returns the folder."""
    ids = vocabulary()
    folder.mkdir()
    biases = [[[ids[phrase]], 5.0] for phrase in PHRASES] + [[[ids[END]], 5.5]]  # one token in eight ends a reply
    files: dict[str, dict[str, Any]] = {
        "config.json": _config(ids),
        "generation_config.json": {
            "do_sample": True,
            "top_k": 0,
            "eos_token_id": ids[END],
            "pad_token_id": ids[END],
            "sequence_bias": biases,
        },
        "tokenizer.json": _tokenizer(ids),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": END,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
            "response_template": RESPONSE_TEMPLATE,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(_weights(len(ids)))
    return folder


def _config(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": len(ids),
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[END],
    }


def _tokenizer(ids: dict[str, int]) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": number, "content": token, "special": token in (UNKNOWN, ANSWER, BEGIN, END), **flags}
        for token, number in ids.items()
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": UNKNOWN},
    }


def _weights(words: int) -> bytes:
    """All weights in the safetensors format: the length of a JSON header, the header, the numbers."""
    random, header, data = Random(0), dict[str, Any](), bytearray()
    for name, shape in _shapes(words).items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        spread = 0.0 if len(shape) == 1 else 0.15
        numbers = array("f", (random.gauss(0, spread) if spread else 1.0 for _ in range(count))).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    head = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(data)


def _shapes(words: int) -> dict[str, list[int]]:
    shapes = {"model.embed_tokens.weight": [words, HIDDEN], "lm_head.weight": [words, HIDDEN]}
    for layer in range(LAYERS):
        begin = f"model.layers.{layer}."
        shapes |= {f"{begin}self_attn.{name}_proj.weight": [HIDDEN, HIDDEN] for name in "qkvo"}
        shapes |= {f"{begin}mlp.{name}_proj.weight": [2 * HIDDEN, HIDDEN] for name in ("gate", "up")}
        shapes[f"{begin}mlp.down_proj.weight"] = [HIDDEN, 2 * HIDDEN]
        shapes |= {f"{begin}{name}_layernorm.weight": [HIDDEN] for name in ("input", "post_attention")}
    return shapes | {"model.norm.weight": [HIDDEN]}
