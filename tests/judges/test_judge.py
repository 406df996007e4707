"""Votes of a judge: what it is sent, and the number of each call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from simkit.core.ids import TurnKey
from simkit.core.messages import UserMessage
from simkit.models.base import CallKey, ChatRequest
from simkit.models.providers.scripted import ScriptedModel
from simkit.rewards.judge import Ballot, Judge, Unread, object_schema

pytestmark = pytest.mark.anyio

KEY = TurnKey(7, "t", 0, "L", 2)
BALLOT = Ballot("Is 7 a prime?", object_schema({"prime": {"type": "boolean"}}))


def read(fields: Mapping[str, Any]) -> bool | Unread:
    return fields["prime"] if "prime" in fields else Unread("it has no `prime`")


async def test_requests_are_the_same_in_every_release() -> None:
    """Recorded verdicts are found by the request, its seed included."""
    sent: list[ChatRequest] = []

    def answer(request: ChatRequest, key: CallKey) -> str:
        sent.append(request)
        return '{"prime": true}'

    assert await Judge(ScriptedModel(answer)).ask(BALLOT, read, KEY) == (True,)
    schema = {
        "type": "object",
        "properties": {"prime": {"type": "boolean"}},
        "required": ["prime"],
        "additionalProperties": False,
    }
    assert sent == [
        ChatRequest(
            messages=(UserMessage.of("Is 7 a prime?"),),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": schema},
            },
            seed=2981071972486804785,
            reusable=True,
        )
    ]


@pytest.mark.parametrize(("place", "numbers"), [(None, [0, 3, 4, 6]), (2, [18, 21, 22, 24])])
async def test_each_attempt_at_each_vote_has_a_number_of_its_own(place: int | None, numbers: list[int]) -> None:
    """Three attempts are set aside for each vote; here the second vote needs two of them."""
    answers = iter([{"prime": True}, {}, {"prime": False}, {"prime": True}])
    called: list[int] = []

    def answer(request: ChatRequest, key: CallKey) -> str:
        called.append(key.call)
        return json.dumps(next(answers))

    judge = Judge(ScriptedModel(answer), votes=3)
    votes = await (judge.ask(BALLOT, read, KEY) if place is None else judge.ask(BALLOT, read, KEY, place))
    assert (votes, called) == ((True, False, True), numbers)
