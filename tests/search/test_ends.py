"""Ends of conversations: by a tool, by the world's limits, and of tasks without sparse goals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from players import NoteTools, Plan, Players, ReachReward, play, reach, say, use

from simkit.components.agent import Act, Decision, observe_as_tool
from simkit.components.reward import EpisodeReward, Hit, ScoreEpisode, ScoreTurn
from simkit.components.state import State
from simkit.components.tools import CallTool, ToolReturn
from simkit.components.user import Speak, UserTurn
from simkit.core.limits import Limits
from simkit.core.messages import Message, ToolCall, ToolResult
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio


class EndingTools(NoteTools):
    """Notes, of which reading ends the conversation."""

    async def call(self, request: CallTool) -> ToolReturn:
        reply = await super().call(request)
        return ToolReturn(reply.result, reply.state, reply.writes, end=request.call.name == "read")


class EndReward(ReachReward):
    """Judges the end: the notes of the world, and how it ended."""

    final: bool = True

    def __init__(self) -> None:
        self.turns: list[State] = []
        self.episode: tuple[State, str] | None = None

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        self.turns.append(request.world)
        return await super().score_turn(request)

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        self.episode = request.world, request.outcome
        return EpisodeReward(1.0)


def hang_up(request: Speak) -> UserTurn:
    return UserTurn("bye", end=request.key.turn > 1)


@pytest.mark.parametrize("search", [Rollout(), Josh(BeamSearch(beam=1))])
async def test_a_call_can_end_the_conversation_and_calls_behind_it_are_not_made(search: Search) -> None:
    def plan(request: Act) -> Decision:
        return use(request, ("write", "1"), ("read", ""), ("write", "2"), ("write", "3"))

    reward, seen = EndReward(), list[ToolResult]()

    def observe(call: ToolCall, result: ToolResult) -> Message:
        seen.append(result)
        return observe_as_tool(call, result)

    def observed(request: Act) -> Decision:
        return replace(plan(request), observe=observe)

    played = await play(search, Players(observed, tools=EndingTools(), reward=reward))
    assert [result.error for result in seen] == [False, False, True, True]
    assert played.outcomes == {".0": None, ".1": "agent_ended"}
    assert [call.name for call in played.branches[".1"].tool_calls] == ["write", "read"]
    assert played.authors(".1") == ["agent", "tool", "tool", "tool", "tool"]
    assert reward.turns == [("1",)]
    answers = [row.message["content"] for row in played.branches[".1"].messages[3:]]
    assert answers == ["ERROR: not called, because the call before it ended the conversation."] * 2


async def test_a_reward_of_the_end_knows_how_it_ended() -> None:
    reward = EndReward()
    played = await play(Rollout(), Players(lambda request: say(), hang_up, goals=(), reward=reward))
    assert (played.episode.outcome, played.episode.reward, played.episode.goals) == ("user_ended", 1.0, ())
    assert reward.episode == ((), "user_ended")


@pytest.mark.parametrize(("search", "reward"), [(Josh(BeamSearch(beam=2)), EndReward()), (Rollout(), ReachReward())])
async def test_other_searches_and_rewards_need_goals(search: Search, reward: ReachReward) -> None:
    played = await play(search, Players(lambda request: say(), hang_up, goals=(), reward=reward))
    assert (played.episode.outcome, played.episode.reward) == ("no_goals", None)


def restless(request: Act) -> Decision:
    return use(request, ("write", "x"))


def chatty(request: Act) -> Decision:
    return say() if request.step else use(request, ("write", "x"))


@pytest.mark.parametrize(
    ("plan", "limits", "outcome", "turns", "calls"),
    [
        (restless, Limits(decisions=5, steps=9), "decision_limit", 1, 5),
        (chatty, Limits(decisions=4), "decision_limit", 2, 2),
        (chatty, Limits(turns=2), "turn_limit", 2, 2),
        (restless, Limits(turns=1, steps=2), "turn_limit", 1, 2),
    ],
)
async def test_the_worlds_limits_hold_where_none_are_chosen(
    plan: Plan, limits: Limits, outcome: str, turns: int, calls: int
) -> None:
    worlds = await play(Rollout(), Players(plan, limits=limits))
    chosen = await play(Rollout(limits), Players(plan, limits=Limits(turns=3, steps=3, decisions=99)))
    for played in (worlds, chosen):
        assert (played.episode.outcome, played.episode.turns, played.episode.calls) == (outcome, turns, calls)


@pytest.mark.parametrize("decisions", [3, 4])
async def test_limits_of_decisions_end_the_leaves_of_a_tree(decisions: int) -> None:
    played = await play(Josh(BeamSearch(beam=4)), Players(chatty, limits=Limits(decisions=decisions)))
    assert set(played.outcomes.values()) == {None, "decision_limit"}
    assert played.episode.turns == 2


async def test_the_goal_of_the_last_decision_counts() -> None:
    played = await play(Rollout(Limits(decisions=1)), Players(lambda request: reach(request, "a")))
    assert (played.episode.outcome, played.episode.reward) == ("decision_limit", 1.0)
