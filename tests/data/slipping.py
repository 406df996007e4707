"""Models for the tests: one that knows its task in left branches, and one whose first answer of a turn is none."""

from __future__ import annotations

from dataclasses import replace

from simkit.core.messages import AssistantMessage, ToolCall
from simkit.models.base import CallKey, ChatRequest, ChatResponse
from simkit.tools.builtin import BuiltinWorld


class Knowing:
    """In branches that end in `L` it makes the calls of the task's goals, one a step; elsewhere it only talks."""

    name = "knowing"

    def __init__(self) -> None:
        self._goals = {task.id: [dict(goal.detail) for goal in task.goals] for task in BuiltinWorld().tasks("test")[:4]}

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The next call, or words."""
        goals = self._goals[key.turn.task_id]
        if key.turn.turn == 1 and key.call < len(goals) and key.turn.path.endswith("L"):
            goal = goals[key.call]
            call = ToolCall.of(f"random-{key.call}", str(goal["tool"]), dict(goal["parameters"]))
            return ChatResponse.of(AssistantMessage.of(None, (call,)), self.name)
        return ChatResponse.of(AssistantMessage.of("Anything else?"), self.name)


class PartlyRead(Knowing):
    """As `Knowing`, but the first answer of turn 1 in branches that end in `side` holds another call that is unread."""

    name = "partly_read"
    side = "R"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The next call beside one that could not be read, the next call, or words."""
        response = await super().complete(request, key)
        if key.turn.turn != 1 or key.call or not key.turn.path.endswith(self.side):
            return response
        calls = response.message.tool_calls or (ToolCall.of("x", "search_train", {}),)
        message = AssistantMessage.of('<tool_call>{"name": "bo', calls)
        return replace(ChatResponse.of(message, self.name), doubts=("unparsed_call: hermes",))


class PartlyReadOnTheWay(PartlyRead):
    """The same in branches that end in `L`."""

    side = "L"


class Slipping:
    """Every turn begins with an empty answer; a task with an odd number then makes a call that is no JSON."""

    name = "slipping"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """Nothing, a broken call, or words."""
        if key.call == 0:
            return ChatResponse.of(AssistantMessage.of(""), self.name)
        if key.call == 1 and int(key.turn.task_id[-1]) % 2:
            broken = AssistantMessage.of(None, (ToolCall.of("x", "book_train", '{"people": '),))
            return ChatResponse.of(broken, self.name)
        return ChatResponse.of(AssistantMessage.of("Anything else?"), self.name)


class Formed:
    """Follows the schema that it is held to: a search in its first answer of a turn, then a question."""

    name = "formed"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """One JSON object."""
        assert request.response_format is not None
        act = '{"call": "search_train", "parameters": {}}' if key.call == 0 else '{"speak": "Anything else?"}'
        return ChatResponse.of(AssistantMessage.of(f'{{"plan": "Go on.", "act": {act}}}'), self.name)
