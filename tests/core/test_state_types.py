"""A component that names the type of its state is checked by pyright, which fails if an ignored error is not one."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any, assert_type

import pytest

from simkit import (
    Act,
    Agent,
    AgentStart,
    CallTool,
    Conversation,
    Decision,
    EpisodeReward,
    Reward,
    ScoreEpisode,
    Speak,
    StartAgent,
    StartTools,
    ToolResult,
    ToolReturn,
    ToolServer,
    ToolsStart,
    TurnKey,
    User,
    UserTurn,
)
from simkit.actors.actor import ActorRef

KEY = TurnKey(0, "task", 0, "", 0)


@dataclass(frozen=True, slots=True)
class Questions:
    """The state of this agent: how many questions it has asked."""

    asked: int = 0


class Asking(Agent[Questions]):
    def start(self, request: StartAgent) -> AgentStart[Questions]:
        return AgentStart(state=Questions())

    async def act(self, request: Act[Questions]) -> Decision[Questions]:
        assert_type(request.state, Questions)
        return Decision.speak("Anything else?", state=Questions(request.state.asked + 1))


class WrongReply(Agent[Questions]):
    async def act(self, request: Act[Questions]) -> Decision[Questions]:
        return Decision.speak("Anything else?", state=3)  # pyright: ignore[reportReturnType]


class WrongRequest(Agent[Questions]):
    async def act(self, request: Act[int]) -> Decision[Questions]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Decision.speak("Anything else?", state=Questions(request.state))


class Counting(User[int]):
    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        assert_type(request.state, int | None)
        return UserTurn("Hello.", state="1")  # pyright: ignore[reportReturnType]


class Shelf(ToolServer[frozenset[str]]):
    def start(self, request: StartTools) -> ToolsStart[frozenset[str]]:
        return ToolsStart((), ["a"])  # pyright: ignore[reportReturnType]

    async def call(self, request: CallTool[frozenset[str]]) -> ToolReturn[frozenset[str]]:
        assert_type(request.state, frozenset[str])
        return ToolReturn(ToolResult(value=1), request.state)


class Tidy(Reward[frozenset[str]]):
    async def score_episode(self, request: ScoreEpisode[frozenset[str]]) -> EpisodeReward:
        assert_type(request.world, frozenset[str])
        return EpisodeReward(float(not request.world))


class Plain(Agent):
    async def act(self, request: Act) -> Decision:
        assert_type(request.state, Any)
        return Decision.speak("Hello.", state=(request.state or 0) + 1)


async def typed_asks(ref: ActorRef, act: Act[Questions], speak: Speak[int], call: CallTool[str]) -> None:
    assert_type(await ref.ask(act), Decision[Questions])
    assert_type(await ref.ask(speak), UserTurn[int])
    assert_type(await ref.ask(call), ToolReturn[str])


def widened(request: Act[None]) -> Act[Questions | None]:
    return request


@pytest.mark.anyio
async def test_named_state_types_change_nothing_when_a_component_is_asked() -> None:
    first = Asking().start(StartAgent(()))
    said = await Act(KEY, Conversation(), (), first.state).serve(Asking())
    assert said.state == Questions(1)
    assert (await Act(KEY, Conversation(), (), None).serve(Plain())).state == 1


def test_requests_and_replies_with_a_named_state_are_the_same_classes_at_run_time() -> None:
    assert Decision[Questions] is Decision
    assert Act[Questions] is Act
    assert Decision[Questions].speak("Hello.", state=Questions()) == Decision.speak("Hello.", state=Questions())


@pytest.mark.parametrize("value", [Decision.speak("Hello.", state=Questions(2)), Act(KEY, Conversation(), (), 1)])
def test_requests_and_replies_have_slots_and_can_be_pickled_and_replaced(value: Decision | Act) -> None:
    assert not hasattr(value, "__dict__")
    assert replace(value, state=7).state == 7
    if isinstance(value, Decision):
        assert pickle.loads(pickle.dumps(value)) == value
