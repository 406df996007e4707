"""Promises of a reward: a value within its range, each copy of a goal credited once, no value changed in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simkit.components import checks
from simkit.components.reward import EpisodeReward, Hit, Reward, ScoreEpisode, ScoreTurn
from simkit.components.state import State
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolCall, ToolResult, parse_call
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.testing.promises import Promise, Unchanged, expect, expect_limits, expect_reply, run_promises
from simkit.testing.sample import sample_tasks
from simkit.testing.snapshot import snapshot
from simkit.testing.tools import goal_calls, hostile_calls


@dataclass(frozen=True, slots=True)
class RewardSubject:
    """A reward under test, with a task and the records of its calls."""

    reward: Reward
    task: Task
    records: tuple[CallRecord, ...]
    world: State = None

    @property
    def key(self) -> TurnKey:
        """The turn that is scored, for rewards that ask a model."""
        return TurnKey(0, self.task.id, 0, "", 1)

    async def turn(self, remaining: tuple[Goal, ...], records: tuple[CallRecord, ...]) -> tuple[Hit, ...]:
        """The hits of one turn; the reply is checked."""
        hits = await self.reward.score_turn(ScoreTurn(self.task, remaining, records, _TALK, key=self.key))
        return expect_reply(hits, checks.hits, "score_turn")

    async def episode(self, goals: tuple[Goal, ...], achieved: tuple[Hit, ...]) -> EpisodeReward:
        """The reward of an episode; the reply is checked."""
        request = ScoreEpisode(self.task, goals, achieved, self.records, _TALK, self.world, key=self.key)
        bounds = checks.reward_range(self.reward.range, self.reward.name)
        reply = await self.reward.score_episode(request)
        return expect_reply(reply, checks.reward_within(bounds), "score_episode")

    def goals(self) -> tuple[Goal, ...]:
        """The goals of the task; the reply is checked."""
        return expect_reply(self.reward.goals(self.task), checks.goals, "goals")


async def check_reward(
    reward: Reward,
    tasks: Sequence[Task] = (),
    *,
    records: Callable[[Task], Sequence[CallRecord]] | None = None,
    world: State = None,
) -> None:
    """Check every promise of a reward on each of the tasks.

    Args:
        reward: the reward.
        tasks: a few tasks; by default of the built-in world.
        records: calls that were made in a task, with their results; by default the calls its goals describe, answered
            with success.
        world: a final world state, for rewards that read it.

    Raises:
        ConformanceError: a promise was broken; the message names it.
    """
    for task in sample_tasks(tasks):
        made = tuple(records(task) if records is not None else _successes(task))
        await run_promises(REWARD_PROMISES, RewardSubject(reward, task, made, world), f"the reward `{reward.name}`")


# --- the promises -----------------------------------------------------------------------------------------------------


async def lists_goals(subject: RewardSubject) -> None:
    """The goals of a task are a tuple of goals, the same each time, with weights that are not negative."""
    watched = Unchanged(task=subject.task)
    goals = subject.goals()
    expect(snapshot(goals) == snapshot(subject.goals()), "two listings differ")
    watched.check("goals")


async def credits_each_copy_once(subject: RewardSubject) -> None:
    """A turn credits only remaining goals, each copy at most once, however often it was reached."""
    goals = subject.goals()
    for remaining in (goals, goals * 2, goals[:1], ()):
        hits = await subject.turn(remaining, subject.records * 3)
        over = Counter(hit.goal for hit in hits) - Counter(goal.key for goal in remaining)
        expect(not over, f"it credited {dict(over)} beyond the {len(remaining)} goals that remained")


async def no_calls_no_surprise(subject: RewardSubject) -> None:
    """A turn without calls is scored, the same each time."""
    goals = subject.goals()
    expect(await subject.turn(goals, ()) == await subject.turn(goals, ()), "two scorings of an empty turn differ")


async def scoring_is_pure(subject: RewardSubject) -> None:
    """The same turn gives the same hits, and nothing handed in is changed."""
    goals = subject.goals()
    watched = Unchanged(task=subject.task, goals=goals, calls=subject.records, world=subject.world)
    first, second = await subject.turn(goals, subject.records), await subject.turn(goals, subject.records)
    expect(first == second, "the same turn was scored differently the second time")
    reward = await subject.episode(goals, first)
    expect(snapshot(reward) == snapshot(await subject.episode(goals, first)), "two scorings of an episode differ")
    watched.check("scoring")


async def value_is_a_share(subject: RewardSubject) -> None:
    """The reward of an episode lies within the range it declares, 0 to 1 by default, with and without goals reached."""
    goals = subject.goals()
    everything = tuple(Hit(goal.key, "conformance") for goal in goals)
    for achieved in ((), everything[:1], everything):
        await subject.episode(goals, achieved)


async def reads_any_call(subject: RewardSubject) -> None:
    """Calls with broken arguments and unusual results are scored without an error."""
    tools = [(record.name, tuple(record.parameters or ())) for record in subject.records]
    calls = tuple(hostile_calls(tools))
    for value in _ODD_VALUES:
        result = ToolResult(value=value)
        odd = tuple(CallRecord.of(call, result) for call in calls)
        odd += tuple(replace(record, result=value, error=False) for record in subject.records)
        await subject.turn(subject.goals(), odd)


def _successes(task: Task) -> list[CallRecord]:
    goals = {f"goal_{number}": goal for number, goal in enumerate(task.goals)}
    return [_success(call, goals[call.id], step) for step, call in enumerate(goal_calls(task))]


def _success(call: ToolCall, goal: Goal, step: int) -> CallRecord:
    arguments = parse_call(call) or {}
    entity, id_field = goal.detail.get("entity"), goal.detail.get("id_field", "name")
    row = {**arguments, id_field: entity} if entity is not None else dict(arguments)
    booking = {"success": True, "return": {**row, "reference": "CONFORM1"}}
    return CallRecord.of(call, ToolResult(value=booking if call.name.startswith("book_") else [row]), step)


_ODD_VALUES: tuple[Any, ...] = (None, "text", 3, [], [None], [[]], {}, {"success": "maybe"}, [{"name": None}])
_TALK = Conversation([Entry.user("Hello", 0), Entry.agent("Here you are.", 1)])


async def declares_limits(subject: RewardSubject) -> None:
    """`concurrency` and `sessions` are None or at least 1."""
    expect_limits(subject.reward)


REWARD_PROMISES: tuple[Promise[RewardSubject], ...] = (
    declares_limits,
    lists_goals,
    credits_each_copy_once,
    no_calls_no_surprise,
    scoring_is_pure,
    value_is_a_share,
    reads_any_call,
)
"""Every promise of a reward, for `pytest.mark.parametrize`."""
