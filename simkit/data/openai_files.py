"""Files of the OpenAI fine-tuning API: supervised and preference examples, within its documented limits.

Sources: the guides "Supervised fine-tuning" and "Direct preference optimization" and the API reference at
developers.openai.com. The service checks all of this too, but after the upload and without naming the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from simkit.components.model_view import says_nothing
from simkit.core.messages import AssistantMessage, Message, ToolMessage
from simkit.data.examples import DpoExample, Example, ExampleSet, KtoExample, answers_of
from simkit.data.rules import structure_problems
from simkit.errors import InvalidArguments, UsageError

FEWEST_EXAMPLES = 10
MOST_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def accepted(examples: ExampleSet) -> ExampleSet:
    """The set without the examples that the API refuses; they are counted as removed for `refused`.

    Raises:
        UsageError: the examples are for KTO, or too few are left; the message says why the first was refused.
    """
    if examples.kind == "kto":
        raise UsageError(
            "the fine-tuning API has no method for single judged answers (kto); export sft, or dpo for its method `dpo`"
        )
    problems = [refused(example) for example in examples]
    kept = [example for example, problem in zip(examples, problems, strict=True) if problem is None]
    if len(kept) < FEWEST_EXAMPLES:
        first = next((problem for problem in problems if problem), "")
        refusals = f"; {len(problems) - len(kept)} refused, the first because {first}" if first else ""
        raise UsageError(
            f"{len(kept)} examples are too few: the fine-tuning API requires at least {FEWEST_EXAMPLES}"
            f"{refusals}; harvest more tasks or trials"
        )
    return examples.keeping(kept, "refused")


def openai_rows(examples: ExampleSet) -> Iterator[dict[str, Any]]:
    """The rows of a fine-tuning file of accepted examples.

    Raises:
        UsageError: the API refuses an example; the message names it and says why.
    """
    return (openai_row(example, number) for number, example in enumerate(examples))


def openai_row(example: Example, number: int = 0) -> dict[str, Any]:
    """One row: `messages`, `tools`, `parallel_tool_calls`, or `input`, `preferred_output`, `non_preferred_output`.

    Raises:
        UsageError: the API refuses such an example.
    """
    if problem := refused(example):
        place = f"example {number} ({example.task_id or 'of an unknown task'})"
        raise UsageError(f"{place} cannot be used for fine-tuning: {problem}")
    prompt, *answers = ([_wire(message) for message in part] for part in example.divided())
    several = any(len(answer.tool_calls or ()) > 1 for part in example.parts() for answer in answers_of(part))
    offered = {"tools": [tool.to_openai() for tool in example.tools], "parallel_tool_calls": several}
    tools = offered if example.tools else {}
    if isinstance(example, DpoExample):
        preferred, other = answers
        return {"input": {"messages": prompt, **tools}, "preferred_output": preferred, "non_preferred_output": other}
    shown = [{**message, "weight": 0} if message["role"] == "assistant" else message for message in prompt]
    return {"messages": [*shown, *answers[0]], **tools}


def _wire(message: Message) -> dict[str, Any]:
    """A message without provider-specific fields, which the API refuses; empty `content` is omitted beside calls."""
    known = {"role", "content", "tool_calls", "tool_call_id", *(() if isinstance(message, ToolMessage) else ("name",))}
    wire = {name: value for name, value in message.to_openai().items() if name in known and value is not None}
    if "tool_calls" in wire and not wire.get("content"):
        wire.pop("content", None)
    return wire


def refused(example: Example) -> str | None:
    """Reason for which the API refuses an example; None if it accepts it."""
    return next(_reasons(example), None)


def _reasons(example: Example) -> Iterator[str]:
    if isinstance(example, KtoExample):
        yield "it is a single judged answer"
    if isinstance(example, DpoExample) and any(
        len(each) != 1 or not answers_of(each) for each in example.divided()[1:]
    ):
        yield "an output of a pair must be exactly one assistant message"
    if len(example.tools) > MOST_TOOLS:
        yield f"it has {len(example.tools)} tools, at most {MOST_TOOLS} are allowed"
    for messages in example.parts():
        if not answers_of(messages):
            yield "there is no assistant message to learn"
        if any(says_nothing(message) for message in messages):
            yield "an assistant message is empty"
        for call in (call for message in answers_of(messages) for call in message.tool_calls or ()):
            if not _NAME.fullmatch(call.name):
                yield f"{call.name!r} is not a valid name of a tool"
            try:
                call.parse_arguments()
            except InvalidArguments as error:
                yield str(error)
        yield from (what for name, what in structure_problems(messages) if name != "reused_id")
        if not isinstance(messages[-1], AssistantMessage):
            yield "its last message is not the assistant's"
