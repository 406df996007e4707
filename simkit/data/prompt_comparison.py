"""Comparison of examples with the recorded requests: is each prompt what the agent's model was sent?

A request is recorded whole, or as digests of its messages and tools; both can be compared. Agents without a model make
no requests. Calls that were answered before a run was resumed are in the store once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import orjson

from simkit.core.messages import AssistantMessage, Message, ToolSpec
from simkit.core.persistent_list import JsonList
from simkit.data.examples import Example, ExampleSet, SftExample
from simkit.models.middleware.request_digest import digest_of
from simkit.store import Reader, Store

DecisionKey: TypeAlias = tuple[str, int]
"""A decision of the agent: its branch and step."""


@dataclass(frozen=True, slots=True)
class PromptComparison:
    """Result of a comparison.

    Attributes:
        equal: answers whose prompt equals the request.
        different: the first difference, by index of the example.
        unrecorded: answers without a recorded request.
    """

    equal: int
    different: Mapping[int, str]
    unrecorded: int


def compare_with_requests(examples: ExampleSet, store: Store | Reader) -> PromptComparison:
    """Compare the prompt of every answer with the request that was answered.

    Raises:
        StoreError: the store cannot be read.
    """
    runs = sorted({example.origin.run_id for example in examples if example.origin.run_id})
    with store.reading(runs) as whole, whole.scoped(runs) as reader:
        steps = _steps(examples, reader)
        prompts = [
            (index, place, prompt)
            for index, example in enumerate(examples)
            for place, prompt in _prompts(cast("Example", example.recorded or example), steps)
        ]
        sent = _sent({place[0] for _, place, _ in prompts}, reader)
    equal = unrecorded = 0
    different: dict[int, str] = {}
    for index, place, prompt in prompts:
        if place not in sent:
            unrecorded += 1
        elif (difference := _difference(sent[place], prompt, examples[index].tools)) is None:
            equal += 1
        else:
            different.setdefault(index, difference)
    return PromptComparison(equal, different, unrecorded)


@dataclass(frozen=True, slots=True)
class _Answers:
    """The agent's messages on the path of an example, by their position in the conversation."""

    by_seq: Mapping[int, DecisionKey]

    @property
    def in_order(self) -> list[DecisionKey]:
        return [self.by_seq[seq] for seq in sorted(self.by_seq)]


def _prompts(example: Example, steps: Mapping[str, _Answers]) -> Iterable[tuple[DecisionKey, Sequence[Message]]]:
    """The decision of each answer, and the messages that precede it in the example."""
    known = steps.get(example.origin.branch_id)
    if known is None:
        return
    if not isinstance(example, SftExample):
        if example.origin.seq in known.by_seq:
            yield known.by_seq[example.origin.seq], example.prompt
        return
    answers = [index for index, message in enumerate(example.messages) if isinstance(message, AssistantMessage)]
    for place, index in zip(known.in_order, answers, strict=False):
        yield place, example.messages[:index]


def _steps(examples: ExampleSet, reader: Reader) -> dict[str, _Answers]:
    ends = sorted({example.origin.branch_id for example in examples if example.origin.branch_id})
    found: dict[str, dict[int, DecisionKey]] = {}
    for row in reader.rows(_AGENT_MESSAGES, [ends]):
        found.setdefault(row["end"], {})[row["seq"]] = (row["branch_id"], row["step"])
    return {end: _Answers(by_seq) for end, by_seq in found.items()}


def _sent(branches: set[str], reader: Reader) -> dict[DecisionKey, Mapping[str, Any]]:
    rows = reader.rows(_REQUESTS, [sorted(branches)])
    return {(row["branch_id"], row["step"]): digest_of(orjson.loads(row["request"])) for row in rows}


def _difference(sent: Mapping[str, Any], prompt: Sequence[Message], tools: Sequence[ToolSpec]) -> str | None:
    for noun, own, parts in (("message", prompt, sent["messages"]), ("tool", tools, sent["tools"])):
        asked, shown = _marks(parts), _marks(JsonList(own).marks().hex())
        if asked != shown:
            place = next((n for n, (a, b) in enumerate(zip(asked, shown, strict=False)) if a != b), None)
            if place is None:
                return f"the request had {len(asked)} {noun}s, the example has {len(shown)}"
            return f"{noun} {place} (counted from 0) differs from the one that the model was sent"
    return None


def _marks(text: str) -> list[str]:
    """The marks of messages or tools, eight hex digits each."""
    return [text[start : start + 8] for start in range(0, len(text), 8)]


_AGENT_MESSAGES = """
WITH RECURSIVE walk AS (
    SELECT branch_id AS "end", branch_id, parent_id FROM branches
    SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS branch_id) USING (branch_id)
    UNION ALL
    SELECT w."end", b.branch_id, b.parent_id FROM walk w JOIN branches b ON b.branch_id = w.parent_id
)
SELECT w."end", m.branch_id, m.seq, m.step FROM walk w JOIN messages m ON m.branch_id = w.branch_id
WHERE m.author = 'agent' AND (coalesce(trim(m.content), '') <> '' OR m.tool_calls IS NOT NULL)
"""

_REQUESTS = """
SELECT c.branch_id, c.step, arg_min(c.request, c.attempt) AS request
FROM model_calls c SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS branch_id) USING (branch_id)
WHERE c.role = 'agent' AND c.request IS NOT NULL
GROUP BY ALL
"""
