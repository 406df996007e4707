"""Files of the OpenAI fine-tuning API: supervised and preference examples, within its documented limits.

Sources: the guides "Supervised fine-tuning" and "Direct preference optimization" and the API reference at
developers.openai.com. The service checks all of this too, but after the upload and without naming the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from simkit.components.model_view import says_nothing
from simkit.core.messages import AssistantMessage, Message, ToolMessage, ToolSpec
from simkit.data.examples import DpoExample, Example, ExampleSet, KtoExample, SftExample, answers_of
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
    _check_kind(examples)
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


def _check_kind(examples: ExampleSet) -> None:
    if examples.kind == "kto":
        raise UsageError(
            "the fine-tuning API has no method for single judged answers (kto); export sft, or dpo for its method `dpo`"
        )


def openai_rows(examples: ExampleSet) -> Iterator[dict[str, Any]]:
    """The rows of a fine-tuning file of accepted examples.

    Raises:
        UsageError: the examples are for KTO, or the API refuses one; the message names it and says why.
    """
    _check_kind(examples)
    return (openai_row(example, number) for number, example in enumerate(examples))


def openai_row(example: Example, number: int = 0) -> dict[str, Any]:
    """One row: `messages`, `tools`, `parallel_tool_calls`, or `input`, `preferred_output`, `non_preferred_output`.

    Raises:
        UsageError: the API refuses such an example.
    """
    place = f"example {number} ({example.task_id or 'of an unknown task'})"
    problem = refused(example)
    if problem:
        raise UsageError(f"{place} cannot be used for fine-tuning: {problem}")
    match example:
        case SftExample():
            shown = [_weighted(message, index, example.context) for index, message in enumerate(example.messages)]
            return {"messages": shown, **_tools(example.tools, example.messages)}
        case DpoExample():
            given = {"messages": [_wire(message) for message in example.prompt]}
            both = (*example.chosen, *example.rejected)
            return {
                "input": {**given, **_tools(example.tools, (*example.prompt, *both))},
                "preferred_output": [_wire(message) for message in example.chosen],
                "non_preferred_output": [_wire(message) for message in example.rejected],
            }
        case KtoExample():
            raise UsageError(f"{place} is a single judged answer, for which the fine-tuning API has no method")


def _weighted(message: Message, index: int, context: int) -> dict[str, Any]:
    """A message for the API; an answer that is only context has weight 0."""
    wire = _wire(message)
    return {**wire, "weight": 0} if index < context and isinstance(message, AssistantMessage) else wire


def _wire(message: Message) -> dict[str, Any]:
    """A message without provider-specific fields, which the API refuses; empty `content` is omitted beside calls."""
    known = ("role", "content", "tool_calls", "tool_call_id", *(() if isinstance(message, ToolMessage) else ("name",)))
    wire = {name: value for name, value in message.to_openai().items() if name in known and value is not None}
    if "tool_calls" in wire and not wire.get("content"):
        wire.pop("content", None)
    return wire


def _tools(tools: Sequence[ToolSpec], messages: Sequence[Message]) -> dict[str, Any]:
    if not tools:
        return {}
    return {"tools": [tool.to_openai() for tool in tools], "parallel_tool_calls": _calls_at_once(messages)}


def _calls_at_once(messages: Sequence[Message]) -> bool:
    return any(len(message.tool_calls or ()) > 1 for message in answers_of(messages))


def refused(example: Example) -> str | None:
    """Reason for which the API refuses an example; None if it accepts it."""
    match example:
        case SftExample():
            problem = _wrong(example.messages, example.tools)
            if problem is None and not isinstance(example.messages[-1], AssistantMessage):
                problem = "its last message is not the assistant's"
            return problem
        case DpoExample():
            return next(filter(None, map(_wrong_answer, (example.chosen, example.rejected))), None) or next(
                filter(None, (_wrong(part, example.tools) for part in example.parts())), None
            )
        case KtoExample():
            return "it is a single judged answer"


def _wrong_answer(answer: Sequence[Message]) -> str | None:
    if len(answer) != 1 or not isinstance(answer[0], AssistantMessage):
        return "an output of a pair must be exactly one assistant message"
    return None


def _wrong(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str | None:
    if not answers_of(messages):
        return "there is no assistant message to learn"
    if any(says_nothing(message) for message in messages):
        return "an assistant message is empty"
    if len(tools) > MOST_TOOLS:
        return f"it has {len(tools)} tools, at most {MOST_TOOLS} are allowed"
    wrong = next(filter(None, (_wrong_calls(message) for message in answers_of(messages))), None)
    return wrong or next((what for name, what in structure_problems(messages) if name != "reused_id"), None)


def _wrong_calls(message: AssistantMessage) -> str | None:
    for call in message.tool_calls or ():
        if not _NAME.fullmatch(call.name):
            return f"{call.name!r} is not a valid name of a tool"
        try:
            call.parse_arguments()
        except InvalidArguments as error:
            return str(error)
    return None
