"""The chat templates of known models, as TRL has them, with tokenizers that know their special tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from simkit.core.messages import AssistantMessage, Message, ToolSpec, UserMessage
from simkit.local.chat import ChatFormat
from support.byte_tokenizer import byte_tokenizer

SPECIAL = re.compile(
    r"<\|/?\w+\|?>|<\w+\|>|<\|\"\|>|<｜[\w▁]+｜>|</?(?:bos|eos|s|start_of_turn|end_of_turn|end_of_utterance)>"
)
_ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|return|>", "<|call|>", "<turn|>", "<|tool_response>", "<|user|>"),
    *(
        "<|observation|>",
        "<|eot|>",
        "<｜end▁of▁sentence｜>",
        "<|end|>",
        "<|endoftext|>",
        "<|END_OF_TURN_TOKEN|>",
        "<end_of_turn>",
    ),
    *("<end_of_utterance>", "</s>"),
)
"""Tokens that end a reply, according to the generation configs of these models."""

ASKED = UserMessage.of("I need a cheap hotel in the north.")


def folder() -> Path | None:
    """The folder of TRL's chat templates; None if TRL is not installed."""
    found = find_spec("trl")
    place = Path(found.origin).parent / "chat_templates" if found and found.origin else None
    return place if place and place.is_dir() else None


def base_names() -> list[str]:
    """Names of the templates that models ship, without TRL's changes for training."""
    place = folder()
    return [] if place is None else sorted(p.stem for p in place.glob("*.jinja") if not p.stem.endswith("_training"))


def template(name: str) -> str:
    """The text of a template."""
    place = folder()
    assert place is not None
    return (place / f"{name}.jinja").read_text(encoding="utf-8")


@cache
def chat_format(name: str) -> ChatFormat:
    """The format of a template, without a `response_template`."""
    text = template(name)
    tokenizer = byte_tokenizer(text, (*_ENDS, *SPECIAL.findall(text)), "<eos>", "<bos>")
    ending = {mark for mark in _ENDS if mark in text or mark == "<|observation|>"}
    if "<|return|>" in ending:
        ending.remove("<|end|>")  # ends a message of gpt-oss, such as its reasoning, and not the reply
    ends = [tokenizer.convert_tokens_to_ids(mark) for mark in sorted(ending)]
    return ChatFormat(tokenizer, ends)


def written(
    chat: ChatFormat, answer: AssistantMessage, tools: Sequence[ToolSpec], before: Sequence[Message] = (ASKED,)
) -> str:
    """What a model writes to give this answer: as the template renders it, without the token that ends it.

    A template may render the end of the prompt otherwise once there is an answer, such as `<think>` as
    `<think></think>`. The answer then begins where they differ.
    """
    prompt, rendered = chat.prompt(before, tools), chat.rendered((*before, answer), tools).rstrip("\n")
    whole = chat.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    same = next((at for at, (one, other) in enumerate(zip(prompt, whole, strict=False)) if one != other), len(prompt))
    return chat.said(whole[same:])
