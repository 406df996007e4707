"""Reasoning in training data: kept beside the answers, written into their text, or left out.

One rule holds for reasoning that a server sent as a field and for reasoning that stands in tags at the beginning of a
text. It is part of the answers to learn. Earlier answers of a prompt have none, because a model is not shown the
reasoning of its earlier turns; what was sent to it as text stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias, TypeVar, cast

from simkit.core.messages import AssistantMessage, ContentPart, Message
from simkit.core.reasoning import FIELD, reasoning_of, separated, with_reasoning
from simkit.data.examples import DpoExample, Example, ExampleSet, KtoExample, SftExample, example_digest, prompt_digest
from simkit.data.rules import judged_parts

Reasoning: TypeAlias = Literal["keep", "inline", "drop"]
M = TypeVar("M", bound=Message)

_OTHER_FIELDS = (
    *("reasoning", "reasoning_details", "thinking", "thinking_blocks", "reasoning_signature"),
    *("content_blocks", "output_items"),
)
"""Further fields in which providers send reasoning; they are useless to another model."""


def with_reasoning_as(examples: ExampleSet, mode: Reasoning) -> ExampleSet:
    """The set with the reasoning of its answers in this form.

    `keep` writes it as the field `reasoning_content`, which chat templates take, `inline` as `<think>...</think>`
    before the text, `drop` leaves it out. An example that was changed remembers what was recorded. Examples that are
    equal then are left out as `duplicates`, and undesirable answers that say the same as a desirable one as
    `contradictions`.
    """
    changed = tuple(_in_form(example, mode) for example in examples)
    if not any(new is not old or _reasons(old) for new, old in zip(changed, examples, strict=True)):
        return examples
    found = replace(examples, examples=changed)
    unique: dict[bytes, Example] = {}
    for example in changed:
        unique.setdefault(example_digest(example), example)
    distinct = found.keeping(list(unique.values()), "duplicates")
    good = {_said(example) for example in distinct.judged if example.label}
    kept = [example for example in distinct if not _contradicts(example, good)]
    return distinct.keeping(kept, "contradictions")


def reasoning_counts(examples: Iterable[Example]) -> tuple[int, int]:
    """Numbers of examples that have reasoning in the answers to learn, and of examples from which it was removed."""
    held = left_out = 0
    for example in examples:
        if _reasons(example):
            held += 1
        elif example.recorded is not None and _reasons(cast("Example", example.recorded)):
            left_out += 1
    return held, left_out


def holds_field(example: Example) -> bool:
    """Whether an answer to learn has the field `reasoning_content`."""
    return any(reasoning_of(message) for part in judged_parts(example) for message in part)


def _reasons(example: Example) -> bool:
    return any(reasoning_of(_apart(message)) for part in judged_parts(example) for message in part)


def _apart(message: Message) -> Message:
    return separated(message) if isinstance(message, AssistantMessage) else message


def _in_form(example: Example, mode: Reasoning) -> Example:
    learned = partial(_learned, mode=mode)
    match example:
        case SftExample():
            start = example.context
            messages = (*_each(example.messages[:start], _context), *_each(example.messages[start:], learned))
            new = replace(example, messages=messages)
        case KtoExample():
            new = replace(
                example, prompt=_each(example.prompt, _context), completion=_each(example.completion, learned)
            )
        case DpoExample():
            answers = {"chosen": _each(example.chosen, learned), "rejected": _each(example.rejected, learned)}
            new = replace(example, prompt=_each(example.prompt, _context), **answers)
    return example if new == example else replace(new, recorded=example)


def _each(messages: Sequence[Message], change: Callable[[AssistantMessage], AssistantMessage]) -> tuple[Message, ...]:
    return tuple(change(message) if isinstance(message, AssistantMessage) else message for message in messages)


def _context(message: AssistantMessage) -> AssistantMessage:
    return _without(message, (FIELD, *_OTHER_FIELDS))


def _learned(message: AssistantMessage, mode: Reasoning) -> AssistantMessage:
    apart = separated(message)
    thought = reasoning_of(apart)
    if thought is None:
        return message
    words = _without(apart, (FIELD, *_OTHER_FIELDS))
    match mode:
        case "keep":
            return with_reasoning(words, thought)
        case "inline":
            return words.model_copy(update={"content": _inline(thought, words.content)})
        case "drop":
            return words


def _inline(thought: str, content: str | tuple[ContentPart, ...] | None) -> str | tuple[ContentPart, ...]:
    tagged = f"<think>\n{thought.strip()}\n</think>\n\n"
    if isinstance(content, tuple):
        return (ContentPart.model_validate({"type": "text", "text": tagged}), *content)
    return tagged + (content or "")


def _without(message: AssistantMessage, names: Sequence[str]) -> AssistantMessage:
    extra = message.model_extra
    if not extra or extra.keys().isdisjoint(names):
        return message
    fields = {name: getattr(message, name) for name in message.model_fields_set if name not in names}
    return AssistantMessage(**fields)


def _said(example: KtoExample) -> bytes:
    """Digest of an answer and its prompt, without reasoning."""
    return prompt_digest((*example.prompt, *_spoken(example.completion)), example.tools)


def _spoken(answer: Sequence[Message]) -> tuple[Message, ...]:
    return _each(answer, partial(_learned, mode="drop"))


def _contradicts(example: Example, good: set[bytes]) -> bool:
    match example:
        case KtoExample():
            return not example.label and _said(example) in good
        case DpoExample():
            return _spoken(example.chosen) == _spoken(example.rejected)
        case SftExample():
            return False
