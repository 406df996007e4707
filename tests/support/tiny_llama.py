"""A small Llama with random weights, a tokenizer and chat templates, for tests of generation and training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, ToolSpec, UserMessage
from simkit.local.engine import LocalEngine
from simkit.local.weights import EngineOptions
from simkit.plugins.extras import require

TEXT = (
    "I need a cheap hotel in the north centre restaurant train taxi please book it for two people on tuesday thanks "
    "what else can do you help with There is one called Ashley House yes no sure Which day name arguments area price "
    "find_hotel book_hotel and The of assistant user system tool role content description type function parameters"
)
WORDS = tuple(TEXT.split())
MARKS = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<|pad|>")

HERMES = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    '<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Chat template in the form of Hermes and Qwen."""

PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Chat template without tools, like that of SmolLM2."""

FORGETFUL = HERMES.replace(
    "{{ message.content }}", "{% if loop.last or message.role != 'assistant' %}{{ message.content }}{% endif %}"
)
"""Chat template that omits earlier messages of the assistant, like templates that strip reasoning."""

FIND = ToolSpec.of("find_hotel", "Finds a hotel.", {"area": {"type": "string"}}, ("area",))

CONVERSATION: tuple[Message, ...] = (
    SystemMessage.of("You help people."),
    UserMessage.of("I need a cheap hotel in the north."),
    AssistantMessage.of(None, (ToolCall.of("call_0", "find_hotel", {"area": "north"}),)),
    ToolMessage.of("call_0", '{"name": "Ashley House"}'),
    AssistantMessage.of("There is one called Ashley House."),
    UserMessage.of("Book it, please."),
    AssistantMessage.of("Sure. Which day?"),
    UserMessage.of("tuesday"),
)


def tiny_tokenizer(template: str = HERMES, marks: Sequence[str] = MARKS, end: str = "<|im_end|>") -> Any:
    """A tokenizer of words, single characters and special tokens, which restores any text exactly."""
    tokenizers, transformers = require("tokenizers", "local"), require("transformers", "local")
    single = [chr(code) for code in range(32, 127)] + ["\n", "é", "日"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["[UNK]", *marks, *single, *WORDS]))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    long = sorted((word for word in WORDS if len(word) > 1), key=len, reverse=True)
    words = tokenizers.Regex("|".join([*(rf"\b{word}\b" for word in long), r"[\s\S]"]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(words, "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    tokenizer.add_special_tokens([tokenizers.AddedToken(mark, normalized=False) for mark in marks])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token="<|pad|>",
        unk_token="[UNK]",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(tokenizer: Any, kind: str = "llama", **more: Any) -> Any:
    """The configuration of a small model of one of the architectures of transformers."""
    transformers = require("transformers", "local")
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return transformers.AutoConfig.for_model(kind, **sizes | more)


def tiny_model(tokenizer: Any, kind: str = "llama", seed: int = 0, **more: Any) -> Any:
    """A model with random weights."""
    torch, transformers = require("torch", "local"), require("transformers", "local")
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(tiny_config(tokenizer, kind, **more)).eval()


def tiny_engine(kind: str = "llama", options: EngineOptions | None = None, **more: Any) -> LocalEngine:
    """An engine with a tiny model."""
    tokenizer = tiny_tokenizer()
    return LocalEngine(tiny_model(tokenizer, kind, **more), tokenizer, options)


def write_tiny(folder: Path, seed: int = 0) -> Path:
    """Write a tiny model to a folder, as training does; returns the folder."""
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prompts(engine: LocalEngine) -> list[list[int]]:
    """Prompts of many lengths: every prefix of the conversation after which the assistant speaks, and more."""
    found: list[list[int]] = []
    for end in (2, 4, 6, 8):
        found.append(engine.chat.prompt(CONVERSATION[:end], (FIND,)))
        found.append(engine.chat.prompt(CONVERSATION[1:end]))
    return found


def greedy_of_transformers(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """The most likely tokens according to transformers, computed without a cache."""
    torch = require("torch", "local")
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == model.config.eos_token_id:
                break
    return ids[len(prompt) :]
