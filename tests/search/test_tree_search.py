"""Searches written with the public base class: what they record, and how their episodes are scored."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar

import anyio
import anyio.lowlevel
import pytest
from players import Players, ReachReward, play, reach, say, shorts

from simkit.components.agent import Act, Decision
from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.user import Speak, UserTurn
from simkit.core.events import BranchAdded, TreeHarvested
from simkit.core.limits import Limits
from simkit.core.recorder import MemoryRecorder
from simkit.errors import ContextTooLong, NotForkable, UsageError
from simkit.recipes import best_of_n
from simkit.recipes.best_of_n import BestOfN
from simkit.search.episode import Ending
from simkit.search.tree_search import SearchTree, TreeSearch

pytestmark = pytest.mark.anyio

GOALS = ("a", "b")
REACHED = {"0": ("a",), "1": ("a", "b"), "2": (), "3": ("a", "b")}


def by_arm(request: Act) -> Decision:
    """Arms 1 and 3 reach both goals, arm 0 one of them, arm 2 none; each then says goodbye."""
    goals = REACHED.get(request.key.path, ())
    if request.step == 0 and request.key.turn == 1 and goals:
        return reach(request, *goals)
    return say(f"arm {request.key.path}")


def two_turns(request: Speak) -> UserTurn:
    return UserTurn(f"user {request.key.turn}", end=request.key.turn == 2)


PLAYERS = Players(by_arm, two_turns, goals=GOALS)


async def test_the_best_rollouts_are_golden_and_others_with_a_reward_are_no_negatives() -> None:
    played = await play(BestOfN(n=4), PLAYERS)
    assert played.episode.reward == 1
    assert played.episode.achieved == GOALS
    assert [event.winner_id.rsplit("/", 1)[1] for event in played.harvests] == ["3.2", "1.2"]
    assert [shorts(event.golden) for event in played.harvests] == [[".0", "3.1", "3.2"], [".0", "1.1", "1.2"]]
    marked = {name for event in played.harvests for name in shorts(event.successful)}
    assert marked == {".0", "0.1", "0.2", "1.1", "1.2", "3.1", "3.2"}
    assert played.episode.final_branch_id == played.harvests[-1].winner_id


async def test_the_goals_of_the_last_winner_alone_are_credited() -> None:
    played = await play(BestOfN(n=4), PLAYERS)
    credited = {
        name: [row.credited for row in added.rewards] for name, added in played.branches.items() if added.rewards
    }
    assert credited == {"0.1": [False], "1.1": [True, True], "3.1": [False, False]}


async def test_an_episode_counts_the_turns_calls_and_faults_of_all_rollouts() -> None:
    def plan(request: Act) -> Decision:
        if request.key.path == "2":
            raise RuntimeError("the agent is broken")
        return by_arm(request)

    episode = (await play(BestOfN(n=4), Players(plan, two_turns, goals=GOALS))).episode
    assert (episode.branches, episode.turns, episode.calls, episode.faults) == (7, 2, 5, 1)
    assert episode.outcome == "user_ended"


async def test_branches_are_recorded_in_path_order_whichever_rollout_is_first() -> None:
    waiting = {"0": anyio.Event(), "1": anyio.Event()}

    async def plan(request: Act) -> Decision:
        arm = request.key.path
        if arm == "0" and request.key.turn == 1:
            await waiting["1"].wait()
        if arm == "1" and request.key.turn == 2:
            waiting["1"].set()
        return by_arm(request)

    played = await play(BestOfN(n=3), Players(plan, two_turns, goals=GOALS))
    assert list(played.branches) == [".0", "0.1", "0.2", "1.1", "1.2", "2.1", "2.2"]
    assert isinstance(played.events[-2], TreeHarvested)


async def test_nothing_is_harvested_where_no_rollout_got_a_reward() -> None:
    played = await play(BestOfN(n=2), Players(lambda request: say(), two_turns))
    assert played.harvests == []
    assert played.episode.reward == 0
    assert played.episode.outcome == "user_ended"


async def test_an_episode_has_no_reward_when_faults_ended_all_its_rollouts() -> None:
    def plan(request: Act) -> Decision:
        raise RuntimeError("the agent is broken")

    episode = (await play(BestOfN(n=3), Players(plan))).episode
    assert (episode.reward, episode.outcome, episode.faults) == (None, "agent_fault", 3)


async def test_a_reward_that_fails_for_one_rollout_takes_that_one_out_alone() -> None:
    class Doubtful(ReachReward):
        async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
            if request.achieved == ():
                raise RuntimeError("the reward is broken")
            return await super().score_episode(request)

    episode = (await play(BestOfN(n=4), PLAYERS.with_(reward=Doubtful()))).episode
    assert (episode.reward, episode.faults) == (1, 1)


async def test_rollouts_that_are_cut_by_the_wall_clock_are_scored_as_they_are() -> None:
    async def plan(request: Act) -> Decision:
        if request.key.path == "R" or request.key.turn == 2:
            await anyio.sleep_forever()
        return say()

    played = await play(BestOfN(n=2, limits=Limits(wall_seconds=0.05)), Players(plan, two_turns))
    assert played.episode.outcome == "time_limit"
    assert played.outcomes == {".0": None, "L.1": "time_limit"}


async def test_an_opening_that_ends_the_conversation_is_the_whole_episode() -> None:
    played = await play(BestOfN(n=2), Players(by_arm, lambda request: UserTurn("never mind", end=True)))
    assert (played.episode.outcome, played.episode.branches, played.episode.reward) == ("user_ended", 0, 0)
    assert played.episode.turns == 0


async def test_what_cannot_branch_is_refused_before_any_work() -> None:
    with pytest.raises(NotForkable, match="best_of_n branches"):
        await play(BestOfN(), PLAYERS.with_(unforkable=("user `planned`",)))
    with pytest.raises(UsageError, match="deterministic"):
        await play(BestOfN(), PLAYERS.with_(deterministic=True))


@dataclass(frozen=True, kw_only=True)
class Greedy(TreeSearch):
    """Forks before every turn, goes on with the arm that reached more goals, and drops the other."""

    name: ClassVar[str] = "greedy"
    arms: int = 2

    @property
    def conversations(self) -> int:
        return self.arms

    async def explore(self, tree: SearchTree) -> Ending:
        assert tree.task.goals, "a search may look at the task"
        going = tree.root
        while going.closed is None:
            one, other = await tree.play_turn(*tree.fork(going, 2))
            going, dropped = (one, other) if len(one.achieved) >= len(other.achieved) else (other, one)
            tree.end(dropped)
        tree.harvest(going)
        return tree.ending(going)


async def test_a_search_that_decides_turn_by_turn_drops_what_it_leaves() -> None:
    def plan(request: Act) -> Decision:
        if request.step == 0 and request.key.path in ("R", "RL"):
            return reach(request, "a" if request.key.path == "R" else "b")
        return say()

    played = await play(Greedy(), Players(plan, two_turns, goals=GOALS))
    assert list(played.branches) == [".0", "L.1", "R.1", "RL.2", "RR.2"]
    assert played.outcomes == {".0": None, "L.1": "dropped", "R.1": None, "RL.2": "user_ended", "RR.2": "user_ended"}
    assert [row.credited for added in played.branches.values() for row in added.rewards] == [True, True]
    assert played.episode.reward == 1


@pytest.mark.parametrize("n", [0, -1])
async def test_a_search_without_conversations_is_refused_when_it_is_made(n: int) -> None:
    with pytest.raises(UsageError, match=f"best_of_n would play {n} conversations of each task"):
        BestOfN(n=n)


async def test_a_fork_without_arms_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class NoArms(TreeSearch):
        name: ClassVar[str] = "no_arms"

        async def explore(self, tree: SearchTree) -> Ending:
            return tree.ending(*tree.fork(tree.root, 0))

    with pytest.raises(UsageError, match="cannot be forked into 0 arms"):
        await play(NoArms(), Players(lambda request: say(), two_turns))


@dataclass(frozen=True, kw_only=True)
class Scored(TreeSearch):
    """Plays one turn, and scores the conversation as it is then."""

    name: ClassVar[str] = "scored"

    async def explore(self, tree: SearchTree) -> Ending:
        (playout,) = await tree.play_turn(*tree.fork(tree.root, 1))
        assert not playout.rewarded, "it is not scored yet"
        (scored,) = await tree.score(playout)
        assert scored.rewarded == (scored.value > 0)
        if scored.rewarded:
            tree.harvest(scored)
        return tree.ending(scored)


async def test_a_conversation_that_goes_on_can_be_scored() -> None:
    played = await play(Scored(), Players(lambda request: reach(request, "a") if request.step == 0 else say()))
    assert (played.episode.reward, played.episode.outcome) == (1, "time_limit")
    assert shorts(played.harvests[0].golden) == [".0", ".1"]


async def test_a_conversation_that_outgrew_the_context_is_scored_as_failed() -> None:
    def plan(request: Act) -> Decision:
        if request.step == 0:
            return reach(request, "a")
        raise ContextTooLong("8200 tokens, the model reads 8192")

    class Generous(ReachReward):
        async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
            return EpisodeReward(1.0)

    played = await play(Scored(), Players(plan, reward=Generous()))
    assert (played.episode.reward, played.episode.outcome) == (0, "context_limit")
    assert played.harvests == []


async def test_a_reward_is_asked_once_for_each_conversation_that_a_search_scores() -> None:
    class Counting(ReachReward):
        asked = 0

        async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
            self.asked += 1
            return await super().score_episode(request)

    reward = Counting()
    await play(BestOfN(n=4), PLAYERS.with_(reward=reward))
    assert reward.asked == 4


async def test_a_search_plays_one_conversation_unless_it_says_otherwise() -> None:
    assert Scored().conversations == 1


async def test_a_limit_of_wall_clock_seconds_that_is_not_reached_changes_nothing() -> None:
    async def plan(request: Act) -> Decision:
        await anyio.lowlevel.checkpoint()
        return say()

    played = await play(BestOfN(n=2, limits=Limits(wall_seconds=60)), Players(plan, two_turns))
    assert (played.episode.outcome, played.episode.turns) == ("user_ended", 2)


async def test_a_search_that_plays_more_conversations_than_it_declares_is_an_error() -> None:
    with pytest.raises(UsageError, match="plays 2 conversations side by side, and its `conversations` is 1"):
        await play(Greedy(arms=1), Players(lambda request: say(), two_turns))


async def test_a_search_that_is_cancelled_records_what_was_played() -> None:
    async def plan(request: Act) -> Decision:
        if request.key.turn == 2:
            scope.cancel()
            await anyio.sleep_forever()
        return by_arm(request)

    recorder = MemoryRecorder()
    with anyio.CancelScope() as scope:
        await play(BestOfN(n=2), Players(plan, two_turns, goals=GOALS), recorder=recorder)
    assert [event.path for event in recorder.events if isinstance(event, BranchAdded)] == ["", "L", "R"]


def test_best_of_n_is_written_with_public_names_in_sixty_lines() -> None:
    source = inspect.getsource(best_of_n)
    assert len(source.splitlines()) <= 60
    (imported,) = [line for line in source.splitlines() if "simkit" in line.split('"')[0] and "import" in line]
    assert imported.startswith("from simkit import ")
