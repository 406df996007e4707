from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from fakes import TASKS, Played, episode

from simkit.actors.scope import open_scope
from simkit.components.cast import Cast
from simkit.core.events import Episode
from simkit.core.recorder import MemoryRecorder
from simkit.errors import StoreError, UsageError
from simkit.run.engine import FaultPolicy, PlayContext, RunProgress, play_units
from simkit.run.summary import summarise
from simkit.search.base import WorkUnit

pytestmark = pytest.mark.anyio

UNITS = [WorkUnit("run", 0, task) for task in TASKS]


class Idle:
    """Nobody asks it anything."""


@asynccontextmanager
async def context(supervisor: Played, policy: FaultPolicy | None = None) -> AsyncGenerator[PlayContext]:
    async with open_scope() as scope:
        idle = scope.spawn(Idle(), name="idle")
        yield PlayContext(
            search=supervisor,
            cast=Cast(idle, idle, idle, idle),
            recorder=MemoryRecorder(),
            progress=RunProgress(),
            policy=policy or FaultPolicy(),
        )


async def play_behind(gate: anyio.Event, here: PlayContext, concurrency: int) -> tuple[Episode, ...]:
    """Play all units, opening the gate once nothing can go on without it."""

    async def open_gate() -> None:
        await anyio.wait_all_tasks_blocked()
        gate.set()

    async with anyio.create_task_group() as group:
        group.start_soon(open_gate)
        return await play_units(here, UNITS, concurrency)
    raise AssertionError("nobody cancels the group")


async def test_results_come_in_the_order_of_the_units() -> None:
    gate = anyio.Event()
    played = Played(waiting={"t0": gate})
    async with context(played) as here:
        episodes = await play_behind(gate, here, 4)
    assert played.order[-1] == "t0"
    assert [one.task_id for one in episodes] == [task.id for task in TASKS]


@pytest.mark.parametrize("concurrency", [1, 3, 100])
async def test_as_many_units_run_as_asked_for_and_no_more(concurrency: int) -> None:
    gate = anyio.Event()
    played = Played(waiting={task.id: gate for task in TASKS})
    async with context(played) as here:
        await play_behind(gate, here, concurrency)
    assert played.most == min(concurrency, len(UNITS))
    assert here.progress.running == 0
    assert here.progress.planned == len(here.progress.episodes) == len(UNITS)


async def test_a_store_error_ends_the_run_as_itself() -> None:
    async with context(Played(broken=frozenset({"t1", "t2"}))) as here:
        with pytest.raises(StoreError, match="the disk is full"):
            await play_units(here, UNITS, 4)
    assert here.progress.running == 0


async def test_a_fault_is_data_and_the_rest_goes_on() -> None:
    async with context(Played(outcomes={"t1": "tool_fault"})) as here:
        episodes = await play_units(here, UNITS, 2)
    assert len(episodes) == len(UNITS)
    assert here.progress.faulted == 1


async def test_fail_fast_keeps_what_had_finished() -> None:
    played = Played(outcomes={"t2": "agent_fault"})
    async with context(played, FaultPolicy(fail_fast=True)) as here:
        episodes = await play_units(here, UNITS, 1)
    assert [one.task_id for one in episodes] == ["t0", "t1", "t2"]


async def test_nothing_at_once_is_refused() -> None:
    async with context(Played()) as here:
        with pytest.raises(UsageError, match="at least 1"):
            await play_units(here, UNITS, 0)


@pytest.mark.parametrize(
    ("policy", "faulted", "problem"),
    [
        (FaultPolicy(), 0, None),
        (FaultPolicy(), 1, None),
        (FaultPolicy(), 2, "2 of 10 episodes faulted"),
        (FaultPolicy(max_share=1.0), 10, None),
        (FaultPolicy(max_share=0.0), 1, "--max-faults"),
        (FaultPolicy(fail_fast=True, max_share=1.0), 1, "--fail-fast"),
    ],
)
def test_the_policy_says_when_faults_are_too_many(policy: FaultPolicy, faulted: int, problem: str | None) -> None:
    found = policy.broken(faulted, 10)
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        FaultPolicy(max_share=1.5)


def test_a_summary_leaves_out_what_has_no_reward_and_does_not_depend_on_order() -> None:
    units = [WorkUnit("run", 0, task, trial) for task in TASKS[:2] for trial in range(2)]
    episodes = [
        episode(units[0], reward=1.0),
        episode(units[1], reward=0.5),
        episode(units[2], reward=1.0),
        episode(units[3], "agent_fault", None),
    ]
    summary = summarise(episodes, colour="blue")
    assert (summary.episodes, summary.scored, summary.faulted, summary.faults) == (4, 3, 1, 1)
    assert summary.reward is not None
    assert summary.reward.value == pytest.approx(2.5 / 3)
    assert summary.success_rate is not None
    assert summary.success_rate.value == pytest.approx(2 / 3)
    assert summary.pass_k == (pytest.approx(0.75), 0.0)
    assert summary.outcomes == {"agent_fault": 1, "user_ended": 3}
    assert summary.to_json()["colour"] == "blue"
    assert summarise(episodes[::-1], colour="blue") == summary


def test_a_summary_of_nothing_has_no_numbers() -> None:
    summary = summarise([])
    assert summary.reward is None
    assert summary.to_json()["success_rate"] is None
