from __future__ import annotations

import anyio
import pytest
from players import Players, ReachReward, play, reach, say, use

from simkit.components.agent import Act, Decision
from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.user import Speak, UserTurn
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage
from simkit.search.rollout import Rollout
from simkit.search.turn import OUT_OF_STEPS

pytestmark = pytest.mark.anyio


def reach_then_say(request: Act) -> object:
    if request.key.turn == 2 and request.step == 0:
        return reach(request, "a")
    return say()


def until(turn: int):
    def answer(request: Speak) -> UserTurn:
        return UserTurn(f"user {request.key.turn}", end=request.key.turn >= turn)

    return answer


async def test_a_conversation_is_played_until_the_user_hangs_up_and_scored() -> None:
    played = await play(Rollout(), Players(reach_then_say, until(3), goals=("a", "b")))
    assert played.episode.outcome == "user_ended"
    assert played.episode.reward == 0.5
    assert (played.episode.turns, played.episode.branches, played.episode.calls) == (3, 3, 1)
    assert list(played.branches) == [".0", ".1", ".2", ".3"]
    assert played.authors(".0") == ["system", "user"]
    assert played.authors(".2") == ["agent", "tool", "agent", "user"]
    assert played.outcomes == {".0": None, ".1": None, ".2": None, ".3": "user_ended"}
    assert [row.goal for row in played.branches[".2"].rewards] == ["a"]


async def test_a_rollout_goes_on_after_its_last_goal() -> None:
    played = await play(Rollout(), Players(reach_then_say, until(5)))
    assert (played.episode.turns, played.episode.reward) == (5, 1.0)


async def test_the_turn_limit_is_an_ending_that_is_scored() -> None:
    played = await play(Rollout(Limits(turns=2)), Players(reach_then_say))
    assert (played.episode.outcome, played.episode.reward, played.episode.turns) == ("turn_limit", 1.0, 2)


@pytest.mark.parametrize(("limits", "outcome"), [(Limits(tokens=25), "token_limit"), (Limits(cost=0.2), "cost_limit")])
async def test_tokens_and_money_end_a_conversation(limits: Limits, outcome: str) -> None:
    played = await play(Rollout(limits), Players(lambda request: say(tokens=10, cost=0.1)))
    assert played.episode.outcome == outcome
    assert played.episode.turns == (3 if outcome == "token_limit" else 2)


async def test_a_spent_budget_stops_a_turn_between_its_decisions() -> None:
    def plan(request: Act) -> object:
        return use(request, ("read", ""), tokens=10)

    played = await play(Rollout(Limits(tokens=15, steps=9)), Players(plan))
    assert played.outcomes == {".0": None, ".1": "token_limit"}
    assert len(played.branches[".1"].tool_calls) == 2


async def test_the_agent_may_end_the_conversation() -> None:
    played = await play(Rollout(), Players(lambda request: reach(request, "a", end=True)))
    assert (played.episode.outcome, played.episode.reward) == ("agent_ended", 1.0)


async def test_a_turn_without_an_answer_gets_the_runtimes_words() -> None:
    played = await play(Rollout(Limits(turns=1, steps=3)), Players(lambda request: use(request, ("read", ""))))
    assert played.authors(".1") == ["agent", "tool", "agent", "tool", "agent", "tool", "runtime", "user"]
    assert played.branches[".1"].messages[-1].heard == OUT_OF_STEPS


async def test_an_agent_that_never_acts_runs_out_of_steps() -> None:
    played = await play(Rollout(Limits(turns=1)), Players(lambda request: Decision(AssistantMessage.of("hm"))))
    assert played.authors(".1") == ["agent", "agent", "agent", "runtime", "user"]


def boom(request: object) -> object:
    raise RuntimeError("out of order")


async def test_an_agent_fault_keeps_the_steps_before_it_and_is_not_scored() -> None:
    def plan(request: Act) -> object:
        return reach(request, "a") if request.step == 0 else boom(request)

    played = await play(Rollout(), Players(plan))
    assert (played.episode.outcome, played.episode.reward, played.episode.faults) == ("agent_fault", None, 1)
    assert played.episode.error == "agent `planned`, turn 1 of t1 at the root: RuntimeError: out of order"
    branch = played.branches[".1"]
    assert played.authors(".1") == ["agent", "tool"]
    assert (branch.outcome, branch.rewards, len(branch.tool_calls)) == ("agent_fault", (), 1)


async def test_a_reply_of_the_wrong_type_is_the_agents_fault() -> None:
    played = await play(Rollout(), Players(lambda request: None))
    assert played.episode.outcome == "agent_fault"
    assert played.episode.error is not None
    assert played.episode.error.endswith("Act was answered with None; return a Decision")


async def test_a_broken_tool_server_is_at_fault_itself() -> None:
    played = await play(Rollout(), Players(lambda request: use(request, ("broken", ""))))
    assert (played.episode.outcome, played.episode.reward) == ("tool_fault", None)
    where = "tools `notes`, turn 1 of t1 at the root, call 1.0.0 of `broken`"
    assert played.episode.error == f"{where}: RuntimeError: the tool server is broken"


@pytest.mark.parametrize("turn", [0, 1])
async def test_a_user_that_raises_ends_the_conversation(turn: int) -> None:
    def answer(request: Speak) -> object:
        return boom(request) if request.key.turn == turn else UserTurn("hello")

    played = await play(Rollout(), Players(reach_then_say, answer))
    assert (played.episode.outcome, played.episode.reward) == ("user_fault", None)
    assert played.outcomes[f".{turn}"] == "user_fault"


async def test_a_task_without_goals_is_recorded_and_not_played() -> None:
    played = await play(Rollout(), Players(boom, boom, goals=()))
    assert (played.episode.outcome, played.episode.reward, played.branches) == ("no_goals", None, {})


async def test_every_message_names_its_place_and_its_prompt() -> None:
    played = await play(Rollout(Limits(turns=2)), Players(reach_then_say))
    rows = [row for branch in played.branches.values() for row in branch.messages]
    assert [row.seq for row in rows] == [0, 1, 2, 4, 5, 6]  # 3 is the user's answer
    assert rows[0].prompt == ""
    assert len({row.prompt for row in rows}) == len(rows)
    call = played.branches[".2"].tool_calls[0]
    assert (call.seq, call.step, call.name, call.result) == (5, 0, "reach", "a")


async def test_the_wall_clock_ends_a_conversation_and_the_turn_in_flight_is_dropped() -> None:
    async def plan(request: Act) -> Decision:
        if request.key.turn == 2:
            await anyio.sleep_forever()
        return reach(request, "a") if request.step == 0 else say()

    played = await play(Rollout(Limits(wall_seconds=0.2)), Players(plan))
    assert (played.episode.outcome, played.episode.reward, played.episode.turns) == ("time_limit", 1.0, 1)
    assert played.outcomes == {".0": None, ".1": "time_limit"}


class Remembering(ReachReward):
    def __init__(self) -> None:
        self.asked: list[ScoreEpisode] = []

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        self.asked.append(request)
        return EpisodeReward(0.25)


async def test_the_episode_is_scored_by_its_calls_its_world_and_its_last_words() -> None:
    def plan(request: Act) -> Decision:
        return use(request, ("write", str(request.key.turn))) if request.step == 0 else say()

    reward = Remembering()
    played = await play(Rollout(), Players(plan, until(2), reward=reward))
    assert played.episode.reward == 0.25
    (asked,) = reward.asked
    assert asked.world == ("1", "2")
    assert [record.name for record in asked.calls] == ["write", "write"]
    assert [utterance.text for utterance in asked.conversation.heard()][-1] == "user 2"


class Refusing(ReachReward):
    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        raise RuntimeError("no verdict")


async def test_a_reward_that_fails_at_the_end_leaves_the_episode_unscored() -> None:
    played = await play(Rollout(), Players(reach_then_say, until(3), reward=Refusing()))
    assert (played.episode.outcome, played.episode.reward, played.episode.faults) == ("reward_fault", None, 1)
    assert played.episode.error == "reward `reach`, end of t1: RuntimeError: no verdict"


async def test_what_the_user_uses_counts_as_the_agents_does() -> None:
    players = Players(lambda request: say(tokens=1), lambda request: UserTurn("hello", tokens=10, cost=0.1))
    played = await play(Rollout(Limits(tokens=30)), players)
    assert (played.episode.outcome, played.episode.turns) == ("token_limit", 2)  # 10, 11, 21, 22, 32
    played = await play(Rollout(Limits(cost=0.35)), players)
    assert (played.episode.outcome, played.episode.turns) == ("cost_limit", 3)
