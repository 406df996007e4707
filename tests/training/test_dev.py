from __future__ import annotations

from pathlib import Path

import pytest

from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec
from simkit.errors import UsageError
from simkit.models.base import CallKey, ChatRequest, ChatResponse
from simkit.training.dev import ConversationSetup, is_valid
from support.training_runs import looked

pytestmark = pytest.mark.anyio

SPEC = ToolSpec.of("book", "Books.", {"name": {"type": "string"}, "people": {"type": "integer"}}, required=("name",))


@pytest.mark.parametrize(
    ("name", "arguments", "valid"),
    [
        ("book", '{"name": "x"}', True),
        ("book", '{"name": "x", "people": 2}', True),
        ("book", '{"people": 2}', False),
        ("book", '{"name": "x", "colour": "red"}', False),
        ("book", '{"name": ', False),
        ("cook", '{"name": "x"}', False),
    ],
)
def test_a_valid_call_can_be_carried_out(name: str, arguments: str, valid: bool) -> None:
    specs = {SPEC.name: SPEC}
    assert is_valid(ToolCall.of("c", name, arguments), specs.get(name)) is valid


class Answering:
    """Gives the same answer to everybody."""

    name = "answering"

    def __init__(self, message: AssistantMessage) -> None:
        self._message = message
        self.temperatures: set[float | None] = set()

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.temperatures.add(request.sampling.temperature)
        return ChatResponse.of(self._message)


GOALS = ConversationSetup(tasks="3", max_turns=2)


async def test_every_text_that_looks_like_a_call_is_an_invalid_one(tmp_path: Path) -> None:
    model = Answering(AssistantMessage.of('<tool_call>{"name": "search_hotel", "arg'))
    score = await looked(tmp_path, GOALS, model)
    assert (score.valid_calls, score.calls) == (0.0, 6.0), "three attempts in each of two turns"
    assert (score.success, score.reward) == (0.0, 0.0)
    assert model.temperatures == {0.0}


async def test_known_tools_with_known_parameters_are_valid(tmp_path: Path) -> None:
    call = ToolCall.of("c", "search_hotel", {"area": "north"})
    score = await looked(tmp_path, GOALS, Answering(AssistantMessage.of(None, (call,))))
    assert score.valid_calls == 1.0
    assert score.calls > 2


async def test_a_model_that_only_talks_calls_nothing(tmp_path: Path) -> None:
    score = await looked(tmp_path, GOALS, Answering(AssistantMessage.of("Good morning.")))
    assert (score.valid_calls, score.calls, score.turns) == (0.0, 0.0, 2.0)


def test_a_place_without_such_tasks_is_refused() -> None:
    with pytest.raises(UsageError, match="no split `dev`"):
        ConversationSetup(split="dev").chosen()
