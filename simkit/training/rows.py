"""Conversion of examples to tokens, by the same `ChatFormat` that renders prompts in play.

TRL's trainers would render and truncate messages themselves. They get tokens instead, so that the model is trained on
exactly the tokens that it reads and writes in play.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from simkit.core.messages import Message, ToolSpec
from simkit.data.examples import DpoExample, Example, ExampleSet, KtoExample, SftExample
from simkit.data.reasoning import holds_field
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.training.presets import Preset

Row: TypeAlias = dict[str, Any]
IGNORED = -100
"""The label of a token that does not count for the loss."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for one of TRL's trainers.

    `too_long` counts excluded examples; `tokens` are processed in one epoch, `learned` of them count for the loss.
    """

    rows: tuple[Row, ...]
    too_long: int
    tokens: int
    learned: int


def tokenised(examples: ExampleSet, form: ChatFormat, preset: Preset, seed: int) -> Rows:
    """The rows of a set of examples, in an order derived from the seed.

    sft: `input_ids`, `labels`. kto: `prompt_ids`, `completion_ids`, `label`, and `KL_completion_ids`, the completion of
    another prompt of the same micro-batch. dpo: `prompt_ids`, `chosen_ids`, `rejected_ids`.

    Raises:
        UsageError: the chat template does not support training, or no example is short enough.
    """
    unread = 0 if form.renders_reasoning else sum(map(holds_field, examples))
    if unread:
        raise UsageError(
            f"{unread} examples have reasoning in their answers, which the chat template does not render; write it "
            "into the text (--reasoning inline), or train without it (--reasoning drop)"
        )
    found = [_row(example, form) for example in examples.examples]
    fitting = [row for row in found if _longest(row) <= preset.max_length]
    if not fitting:
        shortest = min(map(_longest, found))
        raise UsageError(
            f"every example is longer than {preset.max_length} tokens (the shortest has {shortest}); raise --max-length"
        )
    Random(f"{seed}/order").shuffle(fitting)
    if examples.kind == "kto":
        fitting = _with_mismatched(fitting, preset.at_once)
    counts = [_counts(row) for row in fitting]
    tokens, learned = sum(count[0] for count in counts), sum(count[1] for count in counts)
    return Rows(tuple(fitting), len(found) - len(fitting), tokens, learned)


def _row(example: Example, form: ChatFormat) -> Row:
    match example:
        case SftExample():
            return _demonstration(example, form)
        case KtoExample():
            prompt, answer = _after(example.prompt, example.completion, example.tools, form)
            return {"prompt_ids": prompt, "completion_ids": answer, "label": example.label}
        case DpoExample():
            prompt, chosen = _after(example.prompt, example.chosen, example.tools, form)
            _, rejected = _after(example.prompt, example.rejected, example.tools, form)
            return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        case _:
            assert_never(example)


def _demonstration(example: SftExample, form: ChatFormat) -> Row:
    whole = form.conversation(example.messages, example.tools)
    shown = len(form.prompt(example.messages[: example.context], example.tools)) if example.context else 0
    end = _last_trained(whole.trained)
    if end <= shown:
        raise UsageError("a conversation holds nothing to learn: the assistant says nothing in it; leave it out")
    labels = [IGNORED if place < shown else label for place, label in enumerate(whole.labels()[:end])]
    return {"input_ids": whole.ids[:end], "labels": labels}


def _after(
    prompt: Sequence[Message], completion: Sequence[Message], tools: Sequence[ToolSpec], form: ChatFormat
) -> tuple[list[int], list[int]]:
    """The tokens of the prompt, and those of the completion with its end token."""
    asked, whole = form.prompt(prompt, tools), form.conversation((*prompt, *completion), tools)
    end = _last_trained(whole.trained)
    answered = whole.ids[len(asked) : end]
    if whole.ids[: len(asked)] != asked or not answered or not all(whole.trained[len(asked) : end]):
        raise UsageError(
            "an example cannot be trained on: its completion is not one answer of the assistant that follows the "
            "prompt as the chat template renders it; check the examples with `simkit export --check`"
        )
    return asked, answered


def _last_trained(trained: Sequence[bool]) -> int:
    """The length up to and including the last trained token. The model never writes what a template adds after."""
    return max((place + 1 for place, learn in enumerate(trained) if learn), default=0)


def _with_mismatched(rows: Sequence[Row], at_once: int) -> list[Row]:
    """Add the mismatched completions that KTO needs: those of the previous row in each micro-batch."""
    paired: list[Row] = []
    for start in range(0, len(rows), at_once):
        batch = rows[start : start + at_once]
        others = [batch[-1], *batch[:-1]] if len(batch) > 1 else [rows[0]]
        paired += [
            {**row, "KL_completion_ids": other["completion_ids"]} for row, other in zip(batch, others, strict=True)
        ]
    return paired


def _longest(row: Row) -> int:
    if "input_ids" in row:
        return len(row["input_ids"])
    answers = [len(value) for name, value in row.items() if name in ("completion_ids", "chosen_ids", "rejected_ids")]
    return len(row["prompt_ids"]) + max(answers)


def _counts(row: Row) -> tuple[int, int]:
    """The number of tokens processed, and of those that count for the loss."""
    if "input_ids" in row:
        return len(row["input_ids"]), sum(label != IGNORED for label in row["labels"])
    answers = [len(value) for name, value in row.items() if name in ("completion_ids", "chosen_ids", "rejected_ids")]
    return len(answers) * len(row["prompt_ids"]) + sum(answers), sum(answers)
