"""The rules for training examples: what checks report, trainings refuse, and files of the fine-tuning API must obey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from simkit.components.model_view import says_nothing
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, text_of
from simkit.data.conversations import has_error_marker
from simkit.data.examples import Example, KtoExample, SftExample, answers_of
from simkit.data.row_files import as_list, as_object
from simkit.errors import InvalidArguments

Severity: TypeAlias = Literal["error", "warning"]
Problem: TypeAlias = tuple[str, str]
"""The name of a finding, with a detail."""

_ERRORS = {
    "empty": "an answer to learn is empty",
    "nothing_to_learn": "it contains no answer of the assistant to learn",
    "not_one_answer": "an answer to judge is not exactly one message of the assistant",
    "broken_arguments": "a call to learn has arguments that are not a JSON object",
    "unanswered_call": "a call has no result before the next message",
    "orphan_result": "a tool's result answers no call of the message before it",
    "doubled_id": "two calls of one message have the same id",
    "nulls": "an argument is null, which the tool's schema does not allow (another program may have filled it in)",
    "contradiction": "the same answer to the same prompt is both desirable and undesirable",
    "one_label": "all labels are the same; KTO needs both",
    "unreadable": "the chat template refuses it, or its answers change when they are parsed back from their tokens",
    "refused": "the fine-tuning API refuses it",
    "not_as_sent": "its prompt differs from the request that the agent's model answered",
}
_WARNINGS = {
    "unknown_tool": "an answer to learn calls a tool that is not among its tools",
    "reused_id": "calls of different messages have the same id",
    "text_calls": "calls written as text, with their results, were read as calls",
    "ignored_rewards": "a column that judges or weighs answers is not used; select the rows before",
    "lost_reasoning": "the chat template does not render reasoning_content; write the reasoning into the text "
    "(--reasoning inline), or leave it out (--reasoning drop)",
    "lone_surrogate": "half of a character outside the basic plane was replaced by U+FFFD",
    "error_marker": "an answer to learn, or the result of a tool in it, contains ERROR:, Error: or FAILURE",
    "duplicate": "it occurs more than once",
    "too_long": "it exceeds the maximum length; a trainer will truncate or skip it",
    "imbalance": "one label is more than four times as frequent as the other; set weights (desirable_weight)",
}

FINDINGS: Mapping[str, tuple[Severity, str]] = {
    **{name: ("error", text) for name, text in _ERRORS.items()},
    **{name: ("warning", text) for name, text in _WARNINGS.items()},
}


def good_answers(example: Example) -> tuple[AssistantMessage, ...]:
    """Answers for a model to imitate; an undesirable example has none."""
    return answers_of(_imitated(example))


def _imitated(example: Example) -> Sequence[Message]:
    return () if isinstance(example, KtoExample) and not example.label else example.divided()[1]


def problems(example: Example) -> Iterator[Problem]:
    """The problems of one example, apart from those that only its set has; the same one may come several times."""
    yield from (each for each in example.noticed if each[0] in FINDINGS)
    for part in example.divided()[1:]:
        answers = answers_of(part)
        if not answers:
            yield "nothing_to_learn", ""
        elif not isinstance(example, SftExample) and len(part) != 1:
            yield "not_one_answer", f"{len(part)} messages"
        if any(says_nothing(answer) for answer in answers):
            yield "empty", ""
    for conversation in example.parts():
        yield from structure_problems(conversation)
    known = {tool.name: tool.properties for tool in example.tools}
    for message in _imitated(example):
        if isinstance(message, AssistantMessage):
            yield from _call_problems(message.tool_calls or (), known)
        author = {"assistant": "agent"}.get(message.role, message.role)
        if has_error_marker(author, text_of(message)):
            yield "error_marker", text_of(message)[:60]


def structure_problems(messages: Iterable[Message]) -> Iterator[Problem]:
    """Calls without a result directly after them (except in the last message), results without a call, doubled ids."""
    unanswered: dict[str, None] = {}
    used: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in unanswered:
                what = f"a tool message answers {message.tool_call_id!r}, which is not a call of the message before"
                yield "orphan_result", what
            unanswered.pop(message.tool_call_id, None)
            continue
        if unanswered:
            yield "unanswered_call", f"the calls {', '.join(sorted(unanswered))} have no results"
        ids = [call.id for call in message.tool_calls or ()] if isinstance(message, AssistantMessage) else []
        unanswered = dict.fromkeys(ids)
        if len(unanswered) < len(ids):
            yield "doubled_id", f"two calls have the id {next(each for each in ids if ids.count(each) > 1)!r}"
        if used.intersection(ids):
            yield "reused_id", next(each for each in ids if each in used)
        used.update(ids)


def _call_problems(calls: Iterable[ToolCall], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    for call in calls:
        if known and call.name not in known:
            yield "unknown_tool", call.name
        try:
            arguments = call.parse_arguments()
        except InvalidArguments as error:
            yield "broken_arguments", str(error)
            continue
        for name, value in arguments.items():
            if value is None and not _may_be_null(known.get(call.name, {}).get(name)):
                yield "nulls", f"{call.name}: {name}"


def _may_be_null(schema: Any) -> bool:
    """Whether a parameter's schema allows null."""
    kinds = [each.get("type") for each in (as_object(schema), *map(as_object, as_list(as_object(schema).get("anyOf"))))]
    return any(kind == "null" or "null" in as_list(kind) for kind in kinds)
