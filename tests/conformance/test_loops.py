"""The suite for agents with a loop passes good ones, and names what others do wrong."""

from __future__ import annotations

from random import Random

import pytest

from simkit.agents import loop_task
from simkit.agents.loop import AgentLoop, Dialogue
from simkit.core.messages import Message, SystemMessage, ToolMessage, UserMessage
from simkit.models.base import ChatModel
from simkit.testing import ConformanceError, check_loop

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


class Plain(AgentLoop):
    """Asks its model, and does what it says."""

    async def converse(self, dialogue: Dialogue) -> str | None:
        messages: list[Message] = [SystemMessage.of(dialogue.policy)]
        said = dialogue.user
        while True:
            messages.append(UserMessage.of(said))
            said = await dialogue.reply(await self.answer(dialogue, messages))

    async def answer(self, dialogue: Dialogue, messages: list[Message]) -> str:
        while True:
            message = (await dialogue.complete(tuple(messages), dialogue.tools)).message
            messages.append(message)
            if not message.tool_calls:
                return str(message.content)
            for call in message.tool_calls:
                messages.append(ToolMessage.of(call.id, await dialogue.call(call.name, call.arguments)))


class Moody(Plain):
    """Adds a number of its own to each reply."""

    def __init__(self, model: ChatModel, most_waiting: int) -> None:
        super().__init__(model, most_waiting)
        self._drawn = Random(1)

    async def answer(self, dialogue: Dialogue, messages: list[Message]) -> str:
        return f"{self._drawn.random()}: {await super().answer(dialogue, messages)}"


class Bypassing(Plain):
    """Asks its model behind the dialogue's back."""

    async def answer(self, dialogue: Dialogue, messages: list[Message]) -> str:
        return "Yes."


class Failing(Plain):
    """Breaks where a tool fails."""

    async def answer(self, dialogue: Dialogue, messages: list[Message]) -> str:
        found = await super().answer(dialogue, messages)
        if any(isinstance(message, ToolMessage) for message in messages):
            raise ValueError("what now")
        return found


async def test_a_good_loop_passes(anyio_backend: str) -> None:
    await check_loop(Plain, tasks=1)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Moody, r"breaks `repeats_its_steps` .* it differs at"),
        (Bypassing, r"breaks `asks_nothing_twice` .* never asked its model through the dialogue"),
        (Failing, r"breaks `plays_trees` .* what now"),
    ],
)
async def test_other_loops_are_told_what_they_broke(
    kind: type[Plain], said: str, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    monkeypatch.setattr(loop_task, "PATIENCE", 0.05)
    with pytest.raises(ConformanceError, match=said):
        await check_loop(kind, tasks=1)
