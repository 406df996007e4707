from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from simkit.core.tasks import Task
from simkit.data.examples import ExampleSet, SftExample
from simkit.data.origins import ExampleOrigin
from simkit.errors import UsageError
from simkit.recipes.selftrain.harvests import play_for, play_tasks_of
from simkit.recipes.selftrain.plan import ExperimentPlan
from simkit.search.rollout import Rollout

GOALS = [Task(id=str(number), world="w", split="train", instructions="") for number in range(100)]


def test_rounds_have_goals_of_their_own_behind_those_of_the_lessons() -> None:
    plan = ExperimentPlan(tasks=10, lessons=1500)
    assert (plan.train_goals(1), plan.train_goals(2)) == (range(1500, 1520), range(1520, 1540))
    assert ExperimentPlan(tasks=10, model="given").train_goals(1) == range(20)


@pytest.mark.parametrize(
    ("name", "flag"),
    [("rounds", "rounds"), ("tasks", "tasks"), ("seeds_at_once", "seeds-at-once"), ("reply_tokens", "reply-tokens")],
)
def test_nothing_of_a_kind_is_refused(name: str, flag: str) -> None:
    with pytest.raises(UsageError, match=f"--{flag} is 0; give at least 1"):
        ExperimentPlan(**{name: 0})  # pyright: ignore[reportArgumentType]


def test_the_measured_goals_follow_from_the_seed_alone() -> None:
    def drawn(**changes: Any) -> list[str]:
        plan = ExperimentPlan(heldout=20, **changes)
        return [task.id for task in plan.measured(plan.build())]

    assert drawn() == drawn(tasks=99)
    assert len({*drawn()}) == 20
    assert not {*drawn()} & {*drawn(full=True)}
    assert {each.split("-")[0] for each in drawn(split="val")} == {"val"}


def test_every_stated_comparison_is_of_measured_arms_and_in_the_order_in_which_they_are_compared() -> None:
    plan = ExperimentPlan(then="dpo", rounds=2)
    arms = [*plan.stages()]
    assert len({*plan.stated()}) == len(plan.stated()) == 14
    assert all(arms.index(reference) < arms.index(arm) for arm, reference in plan.stated())
    assert len(ExperimentPlan().stated()) == 6


class Played:
    """Stands for a run in which the goal N costs `cost[N]` tokens."""

    def __init__(self, cost: Sequence[int] = ()) -> None:
        self.id = "run"
        self.cost = cost
        self.goals: list[str] = []

    async def play(self, _search: object, _cast: object, goals: Sequence[Task]) -> list[SimpleNamespace]:
        self.goals += [goal.id for goal in goals]
        return [SimpleNamespace(episode_id=goal.id) for goal in goals]

    async def query(self, *_: object) -> SimpleNamespace:
        # A resumed run has the tokens of goals that it will only come to.
        return SimpleNamespace(rows=[(str(number), cost) for number, cost in enumerate(self.cost)])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("cost", "budget"),
    [([10] * 100, 400), ([10] * 100, 903), ([5 + number % 11 for number in range(100)], 640), ([900] * 100, 400)],
)
async def test_a_harvest_ends_where_its_tokens_are_closest_to_the_budget(cost: list[int], budget: int) -> None:
    run = Played(cost)
    spent = await play_for(cast("Any", run), Rollout(), cast("Any", None), GOALS, budget)
    assert run.goals == [str(number) for number in range(len(run.goals))], "in order, each once"
    assert spent == sum(cost[: len(run.goals)])
    if cost[0] < budget / 25:
        assert abs(spent - budget) <= max(cost)


@pytest.mark.anyio
async def test_a_harvest_with_too_few_goals_ends_with_them() -> None:
    run = Played([1] * 100)
    assert await play_for(cast("Any", run), Rollout(), cast("Any", None), GOALS, 1000) == 100
    assert len(run.goals) == 100


@pytest.mark.anyio
async def test_the_control_has_a_conversation_on_the_task_of_each_golden_example() -> None:
    golden = [SftExample(messages=(), origin=ExampleOrigin(task_id=name)) for name in ("7", "3", "7", "9")]
    run = Played()
    await play_tasks_of(cast("Any", run), cast("Any", None), Rollout(), GOALS, ExampleSet("sft", tuple(golden)))
    assert Counter(run.goals) == {"7": 2, "3": 1, "9": 1}
