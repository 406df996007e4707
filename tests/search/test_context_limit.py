"""A conversation that outgrows the agent's own model is the agent's failure; anybody else's is a fault."""

from __future__ import annotations

import pytest
from players import NoteTools, Players, ReachReward, play, reach, say

from simkit.actors.scope import open_scope
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.cast import Cast
from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.tools import CallTool, ToolReturn
from simkit.components.user import Speak, UserTurn
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Goal, Task
from simkit.errors import AgentFault, ContextTooLong, ServerFailed, outgrew_context
from simkit.search.base import NoWatch, Search, WorkUnit
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio


class OwnError(Exception):
    """An agent's own kind of error."""


def overflow() -> None:
    raise ContextTooLong("8200 tokens, the model reads 8192")


def wrapped() -> None:
    try:
        overflow()
    except ContextTooLong as error:
        raise OwnError("my model failed") from error


def typed() -> None:
    try:
        wrapped()
    except OwnError as error:
        raise AgentFault("gave up") from error


def grouped() -> None:
    raise ExceptionGroup("two calls", [ContextTooLong("too long"), ValueError("beside it")])


@pytest.mark.parametrize("fail", [overflow, wrapped, typed, grouped])
async def test_a_rollout_whose_agent_outgrew_its_context_is_scored_as_failed(fail: object) -> None:
    def plan(request: Act) -> object:
        if request.key.turn == 2:
            assert callable(fail)
            fail()
        return reach(request, "a") if request.step == 0 else say()

    episode = (await play(Rollout(), Players(plan, goals=("a", "b")))).episode
    assert (episode.outcome, episode.reward, episode.error, episode.faults) == ("context_limit", 0.0, None, 0)
    assert episode.achieved == ("a",)


async def test_no_reward_is_asked_about_it() -> None:
    class Generous(ReachReward):
        async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
            return EpisodeReward(1.0)

    def plan(request: Act) -> object:
        overflow()
        return say()

    assert (await play(Rollout(), Players(plan, reward=Generous()))).episode.reward == 0.0


async def test_a_failure_while_dealing_with_the_overflow_is_the_agents_fault() -> None:
    def plan(request: Act) -> object:
        try:
            overflow()
        except ContextTooLong:
            raise KeyError("shorter")  # noqa: B904 (a mistake of the agent's own, raised in the handler)
        return say()

    episode = (await play(Rollout(), Players(plan))).episode
    assert (episode.outcome, episode.reward) == ("agent_fault", None)


async def test_other_failures_of_the_model_stay_faults() -> None:
    def plan(request: Act) -> object:
        raise ServerFailed("500")

    episode = (await play(Rollout(), Players(plan))).episode
    assert (episode.outcome, episode.reward) == ("model_fault", None)


async def test_the_users_overflow_is_a_fault() -> None:
    def answer(request: Speak) -> UserTurn:
        if request.key.turn == 1:
            overflow()
        return UserTurn("hello")

    episode = (await play(Rollout(), Players(lambda request: say(), answer))).episode
    assert (episode.outcome, episode.reward) == ("model_fault", None)


async def test_the_overflow_of_a_tool_is_a_fault() -> None:
    class Tools(NoteTools):
        async def call(self, request: CallTool) -> ToolReturn:
            raise ContextTooLong("a tool that asks a model")

    episode = (await play(Rollout(), Players(lambda request: reach(request, "a"), tools=Tools()))).episode
    assert (episode.outcome, episode.reward) == ("model_fault", None)


async def test_the_judges_overflow_is_a_fault() -> None:
    class Judge(ReachReward):
        async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
            raise ContextTooLong("a judge that asks a model")

    players = Players(lambda request: say(), lambda request: UserTurn("bye", end=request.key.turn == 1), reward=Judge())
    episode = (await play(Rollout(), players)).episode
    assert (episode.outcome, episode.reward) == ("model_fault", None)


async def test_a_tree_keeps_what_it_had_and_the_branch_is_never_golden() -> None:
    def plan(request: Act) -> object:
        turn, path = request.key.turn, request.key.path
        if turn == 1:
            return reach(request, "a") if request.step == 0 else say()
        if path.endswith("R"):
            if request.step:
                overflow()
            return reach(request, "b")  # reached, and then the context is full
        return say()

    players = Players(plan, lambda request: UserTurn("go on", end=request.key.turn == 3), goals=("a", "b"))
    played = await play(Josh(BeamSearch(beam=2)), players)
    overflown = [name for name, outcome in played.outcomes.items() if outcome == "context_limit"]
    golden = {name for harvest in played.harvests for name in harvest.golden}
    assert overflown
    assert not golden & {played.branches[name].branch_id for name in overflown}
    assert (played.episode.achieved, played.episode.reward, played.episode.faults) == (("a",), 0.5, 0)


class OverflowsAtStart(Agent):
    name = "at-start"

    def start(self, request: StartAgent) -> AgentStart:
        overflow()
        return AgentStart()

    async def act(self, request: Act) -> Decision:
        return say()


@pytest.mark.parametrize("supervisor", [Rollout(), Josh()])
async def test_an_agent_that_overflows_before_the_first_word_has_failed_too(supervisor: Search) -> None:
    recorder = MemoryRecorder()
    async with open_scope() as scope:
        cast = Cast(
            agent=scope.spawn(OverflowsAtStart(), name="at-start"),
            user=scope.spawn(OverflowsAtStart(), name="nobody"),
            tools=scope.spawn(NoteTools(), name="notes"),
            reward=scope.spawn(ReachReward(), name="reach"),
        )
        task = Task(id="t1", world="test", split="test", instructions="", goals=(Goal("a"),))
        episode = await supervisor.play(cast, WorkUnit("run", 7, task), recorder, NoWatch())
    assert (episode.outcome, episode.reward, episode.goals) == ("context_limit", 0.0, ("a",))


def test_what_counts_as_outgrowing_the_context() -> None:
    deep = OwnError("outer")
    deep.__cause__ = ExceptionGroup("inner", [ValueError("x"), ContextTooLong("y")])
    assert outgrew_context(deep)
    assert not outgrew_context(OwnError("outer"))
    assert not outgrew_context(ExceptionGroup("inner", [ValueError("x")]))
    circle = OwnError("its own cause")
    circle.__cause__ = circle
    assert not outgrew_context(circle)
