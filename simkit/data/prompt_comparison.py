"""Comparison of examples with the recorded requests: is each prompt what the agent's model was sent?

A request is recorded whole, or as digests of its messages and tools; both can be compared. Agents without a model make
no requests. Calls that were answered before a run was resumed are in the store once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import orjson

from simkit.core.messages import AssistantMessage, Message, ToolSpec
from simkit.core.persistent_list import JsonList
from simkit.data.examples import Example, ExampleSet, SftExample
from simkit.models.middleware.request_digest import digest_of
from simkit.store import Reader, Store

Decision: TypeAlias = tuple[str, int]
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
    ends = sorted({example.origin.branch_id for example in examples if example.origin.branch_id})
    decisions: defaultdict[str, dict[int, Decision]] = defaultdict(dict)
    with store.reading(runs) as whole, whole.scoped(runs) as reader:
        for row in reader.rows(_AGENT_MESSAGES, [ends]):
            decisions[row["end"]][row["seq"]] = (row["branch_id"], row["step"])
        prompts = [
            (index, decision, prompt)
            for index, example in enumerate(examples)
            for decision, prompt in _prompts(example.recorded or example, decisions[example.origin.branch_id])
        ]
        rows = reader.rows(_REQUESTS, [sorted({decision[0] for _, decision, _ in prompts})])
        sent = {(row["branch_id"], row["step"]): digest_of(orjson.loads(row["request"])) for row in rows}
    found = [
        (index, _difference(sent[decision], prompt, examples[index].tools))
        for index, decision, prompt in prompts
        if decision in sent
    ]
    different = {index: difference for index, difference in reversed(found) if difference is not None}
    equal = sum(difference is None for _, difference in found)
    return PromptComparison(equal, dict(sorted(different.items())), len(prompts) - len(found))


def _prompts(example: Example, decisions: Mapping[int, Decision]) -> Iterator[tuple[Decision, Sequence[Message]]]:
    """The decision of each answer, and the messages before it; `decisions` are those of the path, by `seq`."""
    if not isinstance(example, SftExample):
        if example.origin.seq in decisions:
            yield decisions[example.origin.seq], example.prompt
        return
    answers = [index for index, message in enumerate(example.messages) if isinstance(message, AssistantMessage)]
    for seq, index in zip(sorted(decisions), answers, strict=False):
        yield decisions[seq], example.messages[:index]


def _difference(sent: Mapping[str, Any], prompt: Sequence[Message], tools: Sequence[ToolSpec]) -> str | None:
    for noun, own, parts in (("message", prompt, sent["messages"]), ("tool", tools, sent["tools"])):
        asked, shown = _marks(parts), _marks(JsonList(own).marks().hex())
        for place, (one, other) in enumerate(zip_longest(asked, shown)):
            if one is None or other is None:
                return f"the request had {len(asked)} {noun}s, the example has {len(shown)}"
            if one != other:
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
