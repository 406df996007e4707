"""The search of the release, step by step: same leaves, winners, goals, marks, rewards and conversations."""

from __future__ import annotations

from typing import Any

import pytest
from differences_search import DIFFERENCES, Difference, faulted_and_rewarded, first_user_exception
from retold import Retold, Setting, expected_messages, expected_steps, search
from stub import FirstRound, Trace, available, traces

from simkit.core.tasks import Task
from simkit.rewards.goal_calls import GoalCalls
from simkit.tools.toolwoz import ToolwozWorld

pytestmark = pytest.mark.anyio

each_trace = pytest.mark.parametrize("trace", available(), ids=lambda trace: getattr(trace, "name", "none"))


def assert_same(ours: Retold, trace: Trace, until: int | None) -> None:
    """Equal steps, up to the step in which a user raised; of that step, what the agents did."""
    expected = expected_steps(trace)
    for index, step in enumerate(expected[: None if until is None else until + 1]):
        told: dict[str, Any] = ours.steps[index]
        if index == until:
            told, step = ({k: v for k, v in one.items() if "users" not in k} for one in (told, step))
        assert told == step, f"{trace.name}, step {index}"
    if until is None:
        assert len(ours.steps) == len(expected)


def assert_same_end(ours: Retold, trace: Trace) -> None:
    assert ours.episode.reward == trace.data["final_reward"]
    recorded = trace.data["training_examples"]
    assert ours.examples == [(expected_messages(trace, indices), won, golden) for indices, won, golden in recorded]
    leaves = {path: expected_messages(trace, inner) for path, (_, inner) in trace.data["final_leaves"].items()}
    assert ours.leaves == leaves
    if trace.data["golden_agent_path"] is not None:  # quirk 13: it may be unknown
        winner = ours.by_id[ours.episode.final_branch_id or ""]
        assert winner.path == trace.data["golden_agent_path"]
        assert ours.history(winner) == expected_messages(trace, trace.data["golden_agent_messages"])


@each_trace
def test_a_recorded_search_agrees_with_itself(trace: Trace) -> None:
    """What the release counted is what it listed: nothing of it is played again."""
    data, steps = trace.data, trace.steps
    assert data["num_rewards"] == len(data["goals"])
    assert data["agent_steps"] == sum(len(step["agent_calls"]) for step in steps)
    assert data["user_steps"] == 1 + sum(len(step.get("user_calls", ())) for step in steps)
    added = [step["collapse"]["examples_added"] for step in steps if "collapse" in step]
    assert sum(added) == len(data["training_examples"])
    for step in steps:
        if "user_all_done" in step:
            assert step["user_all_done"] == (not step["live_after_users"])
        if step["agent_all_done"]:
            assert not step["remaining"] or not step["live_after_agents"]


@pytest.fixture(scope="module")
def told() -> dict[str, Retold]:
    """Searches with the stub's own players, by trace, as far as they were needed."""
    return {}


async def plainly(trace: Trace, told: dict[str, Retold]) -> Retold:
    if trace.name not in told:
        told[trace.name] = await search(trace)
    return told[trace.name]


@each_trace
async def test_every_step_and_the_end_are_those_of_the_release(trace: Trace, told: dict[str, Retold]) -> None:
    ours, until = await plainly(trace, told), first_user_exception(trace)
    assert_same(ours, trace, until)
    if until is None:
        assert_same_end(ours, trace)


@pytest.fixture(scope="module")
def goal_tasks(toolwoz: ToolwozWorld) -> dict[str, Task]:
    return {task.id: task for split in ("full_test", "val", "train") for task in toolwoz.tasks(split)}


@each_trace
async def test_the_same_on_our_toolwoz_with_our_reward(
    trace: Trace, toolwoz: ToolwozWorld, goal_tasks: dict[str, Task]
) -> None:
    reward = GoalCalls(toolwoz, search_forgets_booking=True)
    chosen = FirstRound(reward) if trace.style == "single" else reward
    task = goal_tasks[trace.conversation]
    ours = await search(trace, Setting(tools=toolwoz.tools(), reward=chosen, task=task))
    until = first_user_exception(trace)
    assert_same(ours, trace, until)
    if until is None:
        assert_same_end(ours, trace)


@each_trace
async def test_faults_change_nothing_before_one_of_them_had_earned_a_reward(trace: Trace) -> None:
    ours = await search(trace, Setting(faults=True))
    rewarded = min((index for index, _ in faulted_and_rewarded(trace)), default=None)
    if rewarded == 0:
        pytest.skip("a fault had earned a reward in the first step, so that there is nothing before it")
    if rewarded is not None:
        assert ours.steps[:rewarded] == expected_steps(trace)[:rewarded]
        return
    until = first_user_exception(trace)
    assert_same(ours, trace, until)
    if until is None:
        assert_same_end(ours, trace)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: f"quirk {difference.quirk}")
async def test_a_deliberate_difference(difference: Difference, told: dict[str, Retold]) -> None:
    concerned = [trace for trace in traces() if difference.applies(trace)]
    if not concerned:
        pytest.skip(f"no trace of these recordings shows quirk {difference.quirk}: {difference.release}")
    for trace in concerned:
        setting = difference.setting(trace)
        ours = await plainly(trace, told) if setting == Setting() else await search(trace, setting)
        difference.shown(trace, ours)
