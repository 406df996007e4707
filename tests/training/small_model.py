"""A Llama of a few thousand random weights and a tokenizer of whole words, for trainings that take a second."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simkit.data.examples import ExampleSet
from simkit.local.chat import ChatFormat
from simkit.plugins.extras import require

UNKNOWN, PADDING, BEGIN, END = "[UNK]", "[PAD]", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages if message.role != 'system' %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = re.compile(r"\w+|\s|[^\w\s]")


def write_small_model(folder: Path, examples: ExampleSet, *, width: int = 16, seed: int = 0) -> Path:
    """Write a model that knows the words of some examples; returns the folder."""
    torch, transformers = require("torch", "train"), require("transformers", "train")
    tokenizer = _tokenizer(sorted(set(_words(examples))))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learn_by_heart(folder: Path, examples: ExampleSet, *, steps: int = 140) -> float:
    """Train the model in a folder on a few demonstrations until it can repeat them; returns the last loss."""
    torch, transformers = require("torch", "train"), require("transformers", "train")
    form = ChatFormat.of(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.98), weight_decay=0.0)
    rows = [form.conversation(example.messages, example.tools) for example in examples.demonstrations]
    loss = 0.0
    for _ in range(steps):
        for row in rows:
            out = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels()]))
            out.loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            loss = float(out.loss.detach())
    model.save_pretrained(folder)
    return loss


def _words(examples: ExampleSet) -> Iterable[str]:
    for example in examples.examples:
        for part in example.parts():
            for message in part:
                yield from WORDS.findall(message.to_json().decode())
    yield from (" ", "\n", "\t", '"', "{", "}", ":", ",", "system", "user", "assistant", "tool", "name", "arguments")
    yield from ("<", ">", "/", "tool_call", "hotel")


def _tokenizer(words: list[str]) -> Any:
    tokenizers, transformers = require("tokenizers", "train"), require("transformers", "train")
    vocabulary = {word: number for number, word in enumerate([UNKNOWN, PADDING, BEGIN, END, *words])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(WORDS.pattern), "isolated")
    raw.decoder = tokenizers.decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token=UNKNOWN,
        pad_token=PADDING,
        eos_token=END,
        additional_special_tokens=[BEGIN],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
