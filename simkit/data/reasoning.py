"""Reasoning in training data: kept beside the answers, written into their text, or left out.

One rule holds for reasoning that a server sent as a field and for reasoning that stands in tags at the beginning of a
text. It is part of the answers to learn. Earlier answers of a prompt have none, because a model is not shown the
reasoning of its earlier turns; what was sent to it as text stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias

from simkit.core.messages import AssistantMessage, Content, ContentPart, Message
from simkit.core.reasoning import FIELD, reasoning_of, separated, with_reasoning
from simkit.data.examples import DpoExample, Example, ExampleSet, KtoExample, answers_of, prompt_digest

Reasoning: TypeAlias = Literal["keep", "inline", "drop"]

_BLOCKS = ("thinking_blocks", "content_blocks", "output_items")
_FIELDS = frozenset((FIELD, "reasoning", "reasoning_details", "reasoning_signature", "thinking", *_BLOCKS))
"""Fields in which providers send reasoning; all but the first are useless to another model."""


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
    distinct = replace(examples, examples=changed).distinct()
    good = {_said(example) for example in distinct.judged if example.label}
    kept = [example for example in distinct if not _contradicts(example, good)]
    return distinct.keeping(kept, "contradictions")


def reasoning_counts(examples: Sequence[Example]) -> tuple[int, int]:
    """Numbers of examples that have reasoning in the answers to learn, and of examples from which it was removed."""
    recorded = [example.recorded for example in examples if not _reasons(example)]
    return len(examples) - len(recorded), sum(each is not None and _reasons(each) for each in recorded)


def holds_field(example: Example) -> bool:
    """Whether an answer to learn has the field `reasoning_content`."""
    return any(reasoning_of(message) for part in example.divided()[1:] for message in part)


def _reasons(example: Example) -> bool:
    return any(reasoning_of(separated(each)) for part in example.divided()[1:] for each in answers_of(part))


def _in_form(example: Example, mode: Reasoning) -> Example:
    prompt, *answers = example.divided()
    formed = (_each(answer, partial(_learned, mode=mode)) for answer in answers)
    new = example.with_messages(_each(prompt, _context), *formed)
    return example if new == example else replace(new, recorded=example)


def _each(messages: Sequence[Message], change: Callable[[AssistantMessage], AssistantMessage]) -> tuple[Message, ...]:
    return tuple(change(message) if isinstance(message, AssistantMessage) else message for message in messages)


def _context(message: AssistantMessage) -> AssistantMessage:
    """A message without the fields of its reasoning."""
    if _FIELDS.isdisjoint(message.model_extra or ()):
        return message
    return AssistantMessage(**{name: getattr(message, name) for name in message.model_fields_set - _FIELDS})


def _learned(message: AssistantMessage, mode: Reasoning) -> AssistantMessage:
    apart = separated(message)
    thought = reasoning_of(apart)
    if thought is None:
        return message
    words = _context(apart)
    if mode == "inline":
        return words.model_copy(update={"content": _inline(thought, words.content)})
    return with_reasoning(words, thought) if mode == "keep" else words


def _inline(thought: str, content: Content | None) -> Content:
    tagged = f"<think>\n{thought.strip()}\n</think>\n\n"
    if isinstance(content, tuple):
        return (ContentPart.model_validate({"type": "text", "text": tagged}), *content)
    return tagged + (content or "")


def _said(example: KtoExample) -> bytes:
    """Digest of an answer and its prompt, without reasoning."""
    return prompt_digest((*example.prompt, *_spoken(example.completion)), example.tools)


def _spoken(answer: Sequence[Message]) -> tuple[Message, ...]:
    return _each(answer, partial(_learned, mode="drop"))


def _contradicts(example: Example, good: set[bytes]) -> bool:
    if isinstance(example, DpoExample):
        return _spoken(example.chosen) == _spoken(example.rejected)
    return isinstance(example, KtoExample) and not example.label and _said(example) in good
