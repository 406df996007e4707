"""Rows for TRL's trainers: what a model reads and writes in play, whole conversations or one reply each.

The prompts are those of play, and the replies are what the model writes there, with the token that ends them. A
conversation is one row if each of its replies stands unchanged in the prompt of the last one, else each reply is a row
after its own prompt. Reasoning follows from this: a model is not shown the reasoning of its earlier replies, so
conversations whose replies have reasoning are learned one reply at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from simkit.core.messages import AssistantMessage, Message, ToolMessage, ToolSpec, UserMessage
from simkit.data.examples import Example, ExampleSet, KtoExample, SftExample
from simkit.data.reasoning import holds_field
from simkit.data.rendering import format_to_train, learned_replies
from simkit.errors import UsageError
from simkit.local.reply_tokens import ReplyTokens, joined_replies

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat

Row: TypeAlias = dict[str, Any]

VERBATIM = "{% for message in messages %}{{ message.content }}{% endfor %}"
"""Chat template of rows whose messages are the texts of a prompt and of a reply, special tokens included."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows for one of TRL's trainers.

    Attributes:
        rows: sft: `input_ids`, `labels`. kto: `prompt`, `completion`, `label`. dpo: `prompt`, `chosen`, `rejected`. The
            messages of the last two are the texts of play, which `chat_template_kwargs` tells the trainer to take as
            they are.
        form: `whole conversations`, `one row per reply`, or how many conversations are divided into replies.
        chat: the form of conversations that the model has to be played and saved with, with TRL's training template of
            its family if they are whole in it, and not in the model's own.
        too_long: number of rows that were left out.
        tokens: tokens of the rows, processed in one epoch.
        learned: tokens that count for the loss.
    """

    rows: tuple[Row, ...]
    form: str
    chat: ChatFormat
    too_long: int = 0
    tokens: int = 0
    learned: int = 0


@dataclass(frozen=True, slots=True)
class _Counted:
    """A row, the tokens of its longest sequence, those of all, and those that count for the loss."""

    row: Row
    longest: int
    tokens: int
    learned: int


def training_rows(examples: ExampleSet, chat: ChatFormat, *, max_length: int | None, seed: int) -> TrainingRows:
    """The rows of a set of examples, in an order derived from the seed.

    Raises:
        UsageError: the chat template has no tools, or renders an example otherwise than play; or no example is short
            enough.
    """
    _check(examples, chat)
    chosen = format_to_train(examples, chat)
    found = [_located_rows(number, example, chosen) for number, example in enumerate(examples, start=1)]
    every = [row for rows in found for row in rows]
    fitting = [row for row in every if max_length is None or row.longest <= max_length]
    if not fitting:
        shortest = min((row.longest for row in every), default=0)
        raise UsageError(
            f"every example is longer than {max_length} tokens (the shortest has {shortest}); raise --max_length"
        )
    Random(f"{seed}/order").shuffle(fitting)
    return TrainingRows(
        rows=tuple(each.row for each in fitting),
        form=_form(sum(len(rows) > 1 for rows in found), examples),
        chat=chosen,
        too_long=len(every) - len(fitting),
        tokens=sum(each.tokens for each in fitting),
        learned=sum(each.learned for each in fitting),
    )


def practice_format(chat: ChatFormat) -> ChatFormat:
    """The form of conversations for a model that learns from its own (GRPO).

    In TRL's template of some families replies stand unchanged in later prompts, so that all of them can be learned.
    """
    talk = (UserMessage.of("?"), AssistantMessage.of("!"))
    return format_to_train((SftExample(messages=(*talk, *talk)),), chat)


def _form(divided: int, examples: ExampleSet) -> str:
    if examples.kind == "sft" and not divided:
        return "whole conversations"
    every = examples.kind != "sft" or divided == len(examples)
    return "one row per reply" if every else f"one row per reply in {divided} of {len(examples)} conversations"


def _check(examples: ExampleSet, chat: ChatFormat) -> None:
    if chat.lacks_for_tools is not None and any(map(_needs_tools, examples)):
        raise UsageError(
            f"the model cannot be given tools: {chat.lacks_for_tools}; record the examples with an agent that "
            "describes the tools in its prompt (--agent react), or train another model"
        )
    if not chat.renders_text:
        raise UsageError(
            "the chat template does not render messages that are plain text, as those of some models that see images; "
            "train a text model, or set a chat template that takes texts"
        )
    unread = 0 if chat.renders_reasoning else sum(map(holds_field, examples))
    if unread:
        raise UsageError(
            f"{unread} examples have reasoning in their answers, which the chat template does not render; write it "
            "into the text (--reasoning inline), or train without it (--reasoning drop)"
        )


def _needs_tools(example: Example) -> bool:
    messages = [message for part in example.parts() for message in part]
    return bool(example.tools) or any(
        isinstance(each, ToolMessage) or (isinstance(each, AssistantMessage) and each.tool_calls) for each in messages
    )


def _located_rows(number: int, example: Example, chat: ChatFormat) -> list[_Counted]:
    try:
        return _rows(example, chat)
    except UsageError as error:
        raise UsageError(
            f"{example.place or f'example {number}'}: {error}. `simkit check` with --tokenizer lists all examples that "
            "cannot be trained on"
        ) from error


def _rows(example: Example, chat: ChatFormat) -> list[_Counted]:
    if isinstance(example, SftExample):
        return _demonstrations(example, chat)
    prompt, *answers = example.divided()
    replies = [_completion(prompt, answer, example.tools, chat) for answer in answers]
    row: Row = {  # in the conversational form of TRL
        "prompt": [{"role": "user", "content": replies[0].prompt}],
        "chat_template_kwargs": {"chat_template": VERBATIM},
        **({"label": example.label} if isinstance(example, KtoExample) else {}),
    }
    for name, reply in zip(example.columns[1:], replies, strict=True):
        row[name] = [{"role": "assistant", "content": reply.answer}]
    lengths = [len(each.ids) for each in replies]
    return [_Counted(row, max(lengths), sum(lengths), sum(len(each.answer_ids) for each in replies))]


def _demonstrations(example: SftExample, chat: ChatFormat) -> list[_Counted]:
    replies = learned_replies(example.messages, example.context, example.tools, chat)
    if not replies:
        raise UsageError("a conversation holds nothing to learn: the assistant says nothing in it; leave it out")
    return [
        _Counted({"input_ids": each.ids, "labels": each.labels()}, len(each.ids), len(each.ids), sum(each.trained))
        for each in joined_replies(replies)
    ]


def _completion(
    prompt: Sequence[Message], completion: Sequence[Message], tools: Sequence[ToolSpec], chat: ChatFormat
) -> ReplyTokens:
    replies = learned_replies((*prompt, *completion), len(prompt), tools, chat)
    if len(completion) != 1 or len(replies) != 1:
        raise UsageError(
            "an example cannot be trained on: its completion is not one answer of the assistant that follows the "
            "prompt; check the examples with `simkit export --check`"
        )
    return replies[0]
