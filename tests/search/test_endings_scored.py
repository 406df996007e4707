"""What an episode is scored by, and when it is not scored: trees and single conversations."""

from __future__ import annotations

from typing import Any

import pytest
from players import Players, ReachReward, play, reach, say, short, use

from simkit.components.agent import Act, AgentStart, Decision, StartAgent
from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.user import Speak, UserTurn
from simkit.core.events import Episode
from simkit.core.limits import Limits
from simkit.errors import ContextTooLong, LimitHit
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("supervisor", [Rollout(), Josh(BeamSearch(beam=1))], ids=["rollout", "josh"])


class Remembering(ReachReward):
    def __init__(self) -> None:
        self.asked: list[ScoreEpisode] = []

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        self.asked.append(request)
        return EpisodeReward(0.25)


def crash(request: object) -> Any:
    raise RuntimeError("out of order")


async def test_a_tree_is_scored_by_its_last_winner_and_the_world_as_it_was_then() -> None:
    def plan(request: Act) -> Decision:
        place = f"{request.key.path}.{request.key.turn}"
        if request.step == 0:
            return use(request, ("write", place))
        return reach(request, "a") if (place, request.step) == ("RL.2", 1) else say(f"said in {place}")

    reward = Remembering()
    played = await play(Josh(limits=Limits(turns=4)), Players(plan, goals="ab", reward=reward))
    (asked,) = reward.asked
    assert played.episode.reward == 0.25
    assert short(str(played.episode.final_branch_id)) == "RL.2"
    assert asked.world == ("R.1", "RL.2")
    assert [record.name for record in asked.calls] == ["write", "write", "reach"]
    assert [hit.goal for hit in asked.achieved] == ["a"]
    assert asked.conversation.heard()[-1].text == "said in RL.2"
    assert (played.episode.turns, played.episode.calls) == (4, 2 + 5 + 2 + 4)


async def test_a_tree_without_a_reward_is_scored_by_its_opening() -> None:
    reward = Remembering()
    played = await play(Josh(limits=Limits(turns=1)), Players(lambda request: say(), reward=reward))
    (asked,) = reward.asked
    assert (asked.calls, asked.achieved, asked.world) == ((), (), ())
    assert [utterance.text for utterance in asked.conversation.heard()] == ["user 0"]
    assert played.episode.final_branch_id is None


@BOTH
async def test_a_user_that_hangs_up_at_once_is_scored_and_no_agent_is_asked(supervisor: Search) -> None:
    played = await play(supervisor, Players(crash, lambda request: UserTurn("no", end=True)))
    ended = played.episode
    assert (ended.outcome, ended.reward, ended.turns, ended.branches, ended.faults) == ("user_ended", 0.0, 0, 0, 0)
    assert played.outcomes == {".0": "user_ended"}


@pytest.mark.parametrize("beam", [1, 2])
@pytest.mark.parametrize("who", ["agent", "tool"])
async def test_a_tree_that_failed_is_scored_only_when_the_agent_did_it(who: str, beam: int) -> None:
    def plan(request: Act) -> Decision:
        return crash(request) if who == "agent" else use(request, ("broken", ""))

    episode = (await play(Josh(BeamSearch(beam=beam)), Players(plan))).episode
    assert (episode.outcome, episode.reward) == (f"{who}_fault", 0.0 if who == "agent" else None)
    assert (episode.faults, episode.branches, episode.turns) == (beam, beam, 1)


@pytest.mark.parametrize("tokens_by", ["L", "R"])
async def test_of_leaves_that_end_at_the_same_time_the_leftmost_names_the_episode(tokens_by: str) -> None:
    def plan(request: Act) -> Decision:
        return say(tokens=9) if request.key.path == tokens_by else say(cost=9.0)

    played = await play(Josh(limits=Limits(tokens=5, cost=5.0)), Players(plan))
    assert [played.outcomes["L.1"], played.outcomes["R.1"]].count("token_limit") == 1
    assert played.episode.outcome == played.outcomes["L.1"]


@pytest.mark.parametrize("supervisor", [Rollout(Limits(tokens=5)), Josh(BeamSearch(beam=1), Limits(tokens=5))])
async def test_the_user_still_answers_an_agent_whose_tokens_are_used_up(supervisor: Search) -> None:
    played = await play(supervisor, Players(lambda request: say(tokens=5)))
    assert played.authors(".1") == ["agent", "user"]
    assert played.outcomes == {".0": None, ".1": "token_limit"}


@pytest.mark.parametrize(
    ("bounds", "expected"), [((0.0, 1.0), 0.0), ((-3.0, 2.0), 0.0), ((-3.0, -1.0), -1.0), ((2.0, 9.0), 2.0)]
)
@BOTH
async def test_an_agent_that_cannot_begin_for_its_context_gets_the_reward_next_to_0(
    supervisor: Search, bounds: tuple[float, float], expected: float
) -> None:
    def start(request: StartAgent) -> AgentStart:
        raise ContextTooLong("8200 tokens, the model reads 8192")

    reward = ReachReward()
    reward.range = bounds
    episode = (await play(supervisor, Players(crash, start=start, reward=reward))).episode
    assert (episode.outcome, episode.reward, episode.turns, episode.branches) == ("context_limit", expected, 0, 0)
    assert (episode.faults, episode.calls, episode.error) == (0, 0, None)


@pytest.mark.parametrize(
    "supervisor", [Rollout(Limits(turns=2, steps=1)), Josh(BeamSearch(beam=1), Limits(turns=2, steps=1))]
)
async def test_a_turn_that_ran_out_of_decisions_counts_as_one(supervisor: Search) -> None:
    played = await play(supervisor, Players(lambda request: use(request, ("read", ""))))
    assert (played.episode.outcome, played.episode.turns) == ("turn_limit", 2)


@BOTH
async def test_a_user_whose_allowance_is_used_up_ends_the_conversation_in_order(supervisor: Search) -> None:
    def answer(request: Speak) -> UserTurn:
        if request.key.turn == 1:
            raise LimitHit("no call fits into what is left", "cost_limit")
        return UserTurn("hello")

    played = await play(supervisor, Players(lambda request: say(), answer))
    assert (played.episode.outcome, played.episode.reward, played.episode.faults) == ("cost_limit", 0.0, 0)
    assert played.outcomes == {".0": None, ".1": "cost_limit"}


@BOTH
async def test_an_agent_that_cannot_read_a_result_is_named_with_the_tool(supervisor: Search) -> None:
    def observe(call: object, result: object) -> Any:
        raise KeyError("rows")

    played = await play(supervisor, Players(lambda request: use(request, ("read", ""), observe=observe)))
    assert played.episode.outcome == "agent_fault"
    where = "agent `planned`, turn 1 of t1 at the root, reading the result of `read`"
    assert played.episode.error == f"{where}: KeyError: 'rows'"


def test_an_episode_of_a_search_of_ones_own_needs_no_more_than_it_has() -> None:
    episode = Episode(
        episode_id="run/task/0",
        reward=1.0,
        outcome="goals_done",
        goals=("goal",),
        achieved=("goal",),
        final_branch_id=None,
        turns=1,
        branches=1,
        faults=0,
    )
    assert (episode.calls, episode.error, episode.full_reward, episode.success) == (0, None, 1.0, True)
