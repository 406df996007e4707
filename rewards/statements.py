"""A model as the judge of statements about a conversation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simkit.components.reward import ScoreEpisode
from simkit.core.conversation import Conversation, Entry
from simkit.core.messages import AssistantMessage, UserMessage, text_of
from simkit.core.reasoning import without_reasoning
from simkit.errors import RewardFault
from simkit.models.base import CallKey, ChatModel, ChatRequest
from simkit.plugins.prompts import shipped_prompt

ROLE = "judge"
ATTEMPTS = 3
"""Answers that the judge is asked for until one is a verdict."""

_VERDICT = re.compile(r"[\s\W_]*(yes|no)\b[\s:;,.*_-]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a conversation meets a statement, with the judge's reason."""

    met: bool
    reason: str


async def judge_statement(judge: ChatModel, request: ScoreEpisode[Any], statement: str, number: int) -> Verdict:
    """The verdict of a model about one statement; `number` counts the statements of an episode from 0.

    Raises:
        ModelFault: the model did not answer.
        RewardFault: none of its answers was a verdict, or the request names no turn, which seeds and records need.
    """
    if request.key is None:
        raise RewardFault("a judge needs the key of the episode's last turn (`ScoreEpisode.key`)")
    prompt = shipped_prompt("simkit.rewards", "judge-1.txt").fill(
        conversation=transcript(request.conversation), statement=statement
    )
    for attempt in range(ATTEMPTS):
        key = CallKey(request.key, ROLE, number * ATTEMPTS + attempt)
        response = await judge.complete(ChatRequest(messages=(UserMessage.of(prompt),), seed=key.seed), key)
        verdict = read_verdict(without_reasoning(text_of(response.message)))
        if verdict is not None:
            return verdict
    raise RewardFault(
        f"the judge `{judge.name}` was asked {ATTEMPTS} times whether the conversation meets {statement[:80]!r}, and "
        "began no answer with yes or no; choose another --judge-model"
    )


def read_verdict(text: str) -> Verdict | None:
    """The verdict in a judge's answer, which begins with yes or no; None for anything else."""
    found = _VERDICT.match(text)
    if found is None:
        return None
    return Verdict(found[1].lower() == "yes", text[found.end() :].strip()[:500] or found[1])


def transcript(conversation: Conversation) -> str:
    """A conversation as text for a judge, with the calls of both sides and their results."""
    return "\n".join(line for entry in conversation for line in _lines(entry))


def _lines(entry: Entry) -> Iterator[str]:
    message = entry.message
    if isinstance(message, AssistantMessage) and message.tool_calls:
        side = "user" if entry.author == "user_tool" else "agent"
        for call in message.tool_calls:
            yield f"{side} calls {call.function.name}({call.function.arguments})"
    elif entry.heard is not None:
        yield f"{'user' if entry.author == 'user' else 'agent'}: {entry.heard}"
    elif entry.author in ("tool", "user_tool"):
        yield f"result: {text_of(message)}"
