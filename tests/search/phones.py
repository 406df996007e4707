"""A world for tests of dual control: the agent switches a line, the user its phone, and both change one state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from players import Players, say

from simkit.components.reward import Hit, Reward, ScoreEpisode, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, UserTurn
from simkit.core.messages import ToolCall, ToolResult, ToolSpec
from simkit.core.records import CallRecord

Phone = tuple[tuple[str, str], ...]
"""The settings that were made, oldest first, as (side, value)."""


def tool(name: str) -> ToolSpec:
    return ToolSpec.of(name, name, {"x": {"type": "string"}})


class PhoneTools(ToolServer[Phone]):
    """`set` and `look` for both sides, `line` for the agent, `broken`, and `hang_up`, which ends the conversation."""

    name = "phones"

    def __init__(self, **start: Any) -> None:
        names = ("set", "look", "broken", "hang_up")
        both = tuple(tool(name) for name in names)
        self._start = replace(ToolsStart((*both, tool("line")), (), user_specs=both), **start)
        self.asked: list[tuple[str, str]] = []

    def start(self, request: StartTools) -> ToolsStart[Phone]:
        return self._start

    async def call(self, request: CallTool[Phone]) -> ToolReturn[Phone]:
        state, name = request.state, request.call.name
        self.asked.append((request.by, name))
        x = str((request.call.parse_arguments()).get("x"))
        match name:
            case "set" | "line":
                row = {"by": request.by, "x": x}
                return ToolReturn(ToolResult(value="ok"), (*state, (request.by, x)), (row,))
            case "look":
                return ToolReturn(ToolResult(value=[list(each) for each in state]), state)
            case "hang_up":
                return ToolReturn(ToolResult(value="bye"), state, end=True)
            case "broken":
                raise RuntimeError("the tool server is broken")
            case _:
                return ToolReturn(ToolResult(value={"error": f"no tool {name}"}, error=True), state)


def press(request: Speak, *calls: tuple[str, str], **more: Any) -> UserTurn:
    """The user calls tools by name with one argument each."""
    made = tuple(
        ToolCall.of(f"u{request.key.path}{request.key.turn}.{request.step}.{i}", name, {"x": x})
        for i, (name, x) in enumerate(calls)
    )
    return replace(UserTurn[Any].call(*made), **more)


def says(*turns: Sequence[tuple[str, str]]) -> Callable[[Speak], UserTurn]:
    """A user that makes these calls, one list for each decision, in each answer but the opening, and then speaks."""

    def answer(request: Speak) -> UserTurn:
        if request.key.turn and request.step < len(turns):
            return press(request, *turns[request.step])
        return UserTurn(f"user {request.key.turn}")

    return answer


class SetReward(Reward[Phone]):
    """A goal is reached by a call of `set` with its key, by whom the key's first letter says; `u1` is the user's."""

    name = "set"

    def __init__(self) -> None:
        self.turns: list[tuple[CallRecord, ...]] = []
        self.episodes: list[ScoreEpisode[Phone]] = []

    async def score_turn(self, request: ScoreTurn[Phone]) -> tuple[Hit, ...]:
        self.turns.append(request.calls)
        left = [goal.key for goal in request.remaining]
        hits: list[Hit] = []
        for call in request.calls:
            x = str((call.parameters or {}).get("x"))
            if call.name == "set" and x in left and x.startswith(call.by[0]):
                left.remove(x)
                hits.append(Hit(x, call.call_id, call.step))
        return tuple(hits)

    async def score_episode(self, request: ScoreEpisode[Phone]) -> Any:
        self.episodes.append(request)
        return await super().score_episode(request)


def phones(answer: Callable[[Speak], Any], plan: Callable[[Any], Any] = lambda request: say(), **more: Any) -> Players:
    """Players of the world of phones."""
    given: dict[str, Any] = {"goals": ("u1",), "tools": PhoneTools(), "reward": SetReward(), "user_calls": True}
    return Players(plan, answer, **{**given, **more})
