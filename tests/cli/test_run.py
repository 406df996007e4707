from __future__ import annotations

import re
from pathlib import Path

import anyio
import duckdb
import pytest
from fakes import TASKS, Played

from simkit.components.agent import Act, Agent, Decision
from simkit.components.cast import Cast
from simkit.components.world import choose_tasks
from simkit.core.limits import Limits
from simkit.errors import StoreError, UsageError
from simkit.run.engine import FaultPolicy
from simkit.run.run import Run
from simkit.search.josh import Josh
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.users.human import HumanUser

pytestmark = pytest.mark.anyio


def cast(run: Run) -> Cast:
    return run.cast(run.world("builtin"))


async def test_a_run_records_itself_its_tasks_and_its_end(tmp_path: Path) -> None:
    async with Run(store=tmp_path, name="first", recipe="My Recipe!", seed=5, config={"beam": 8}) as run:
        assert run.status == "running"
        world = run.world("builtin")
        await run.play(Rollout(Limits(turns=2)), run.cast(world), run.tasks(world, "test", 3), trials=2)
    assert run.status == "done"
    assert re.fullmatch(r"my-recipe-\d{8}-\d{6}-[0-9a-f]{4}", run.id)
    row = run.store.query("select name, recipe, seed, status, config, summary from runs").dicts()[0]
    assert (row["name"], row["recipe"], row["seed"], row["status"]) == ("first", "My Recipe!", 5, "done")
    assert '"beam":8' in row["config"]
    assert '"episodes":6' in row["summary"]
    assert run.store.query("select count(*), count(distinct task_id) from tasks").rows == [(3, 3)]
    assert run.store.query("select count(*) from episodes where reward is not null").rows == [(6,)]


async def test_what_was_played_can_be_asked_for_inside_the_run(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        await run.play(Rollout(Limits(turns=1)), cast(run), run.tasks(run.world("builtin"), "test", "2"))
        found = await run.query("select count(*) as n from episodes where run_id = ?", run.id)
    assert found.dicts() == [{"n": 2}]


async def test_stop_ends_the_run_as_interrupted_and_keeps_what_there_is(tmp_path: Path) -> None:
    reached = anyio.Event()
    played = Played(waiting={"t3": anyio.Event()}, reached=reached)
    went_on = False
    async with anyio.create_task_group() as group, Run(store=tmp_path) as run:

        async def stop() -> None:
            await reached.wait()
            run.stop()

        group.start_soon(stop)
        await run.play(played, cast(run), TASKS, concurrency=1)
        went_on = True
    assert not went_on
    assert run.status == "interrupted"
    assert run.summary().episodes == 3
    assert run.store.query("select status from runs").rows == [("interrupted",)]


async def test_cancelling_the_caller_is_an_interruption_and_is_not_swallowed(tmp_path: Path) -> None:
    played = Played(waiting={"t0": anyio.Event()}, reached=anyio.Event())
    assert played.reached is not None
    run = Run(store=tmp_path)

    async def body() -> None:
        async with run:
            await run.play(played, cast(run), TASKS)

    async with anyio.create_task_group() as group:
        group.start_soon(body)
        await played.reached.wait()
        group.cancel_scope.cancel()
    assert run.status == "interrupted"
    assert run.store.query("select status from runs").rows == [("interrupted",)]


async def test_an_error_in_the_block_fails_the_run_and_comes_out_as_itself(tmp_path: Path) -> None:
    run = Run(store=tmp_path)
    with pytest.raises(ZeroDivisionError):
        async with run:
            _ = 1 / 0
    assert run.status == "failed"
    assert run.store.query("select status from runs").rows == [("failed",)]


async def test_a_store_error_comes_out_as_itself(tmp_path: Path) -> None:
    run = Run(store=tmp_path)
    with pytest.raises(StoreError, match="the disk is full"):
        async with run:
            await run.play(Played(broken=frozenset({"t2"})), cast(run), TASKS)
    assert run.status == "failed"


async def test_too_many_faults_fail_the_run_without_raising(tmp_path: Path) -> None:
    async with Run(store=tmp_path, policy=FaultPolicy(max_share=0.2)) as run:
        await run.play(Played(outcomes={"t1": "user_fault", "t2": "tool_fault"}), cast(run), TASKS)
    assert run.problem is not None
    assert "2 of 8 episodes faulted" in run.problem
    assert run.status == "failed"


async def test_two_runs_share_a_store(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as first, Run(store=first.store) as second:
        await first.play(Played(), cast(first), TASKS[:1])
        await second.play(Played(), cast(second), TASKS[:1])
    assert first.id != second.id
    assert first.store.query("select count(*) from runs where status = 'done'").rows == [(2,)]


async def test_a_run_that_is_not_open_says_so(tmp_path: Path) -> None:
    run = Run(store=tmp_path)
    with pytest.raises(UsageError, match="async with"):
        cast(run)


async def test_progress_is_shown_while_the_run_goes_and_stopped_with_it(tmp_path: Path) -> None:
    seen: list[str] = []

    async def show(progress: object) -> None:
        seen.append("started")
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("stopped")

    async with Run(store=tmp_path, progress=show):
        await anyio.wait_all_tasks_blocked()
    assert seen == ["started", "stopped"]


async def test_a_person_at_the_terminal_has_it_alone(tmp_path: Path) -> None:
    stopped = anyio.Event()

    async def show(progress: object) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async with Run(store=tmp_path, progress=show, concurrency=9) as run:
        await anyio.wait_all_tasks_blocked()
        run.cast(run.world("builtin"), user="human")
        await stopped.wait()
    assert HumanUser.sessions == 1  # conversations wait for the person: tests/search/test_limits_of_components.py


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [("all", TASKS), ("3", TASKS[:3]), (3, TASKS[:3]), ("99", TASKS), ("2-4", TASKS[2:4]), ("5-", TASKS[5:])],
)
def test_tasks_are_chosen_by_number_slice_or_all(choice: str | int, chosen: tuple[object, ...]) -> None:
    assert tuple(choose_tasks(TASKS, choice)) == chosen


@pytest.mark.parametrize("choice", ["", "some", "0", "-3", "4-4", "90-95", "1-2-3", "1.5"])
def test_a_choice_of_nothing_says_how_to_choose(choice: str) -> None:
    with pytest.raises(UsageError, match=r"write a number|the split has 8 tasks"):
        choose_tasks(TASKS, choice)


async def test_a_further_play_of_a_task_goes_on_with_its_trials(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        here = cast(run)
        first = await run.play(Played(), here, TASKS[:2], trials=2)
        second = await run.play(Played(), here, TASKS[1:3])
        third = await run.play(Played(), here, [TASKS[0], TASKS[0]])
    assert [(one.task_id, one.trial) for one in first] == [("t0", 0), ("t1", 0), ("t0", 1), ("t1", 1)]
    assert [(one.task_id, one.trial) for one in second] == [("t1", 2), ("t2", 0)]
    assert [(one.task_id, one.trial) for one in third] == [("t0", 2), ("t0", 3)]
    assert len({one.episode_id for one in (*first, *second, *third)}) == 8


async def test_a_cast_says_whether_its_agent_is_deterministic(tmp_path: Path) -> None:
    class Sober(Agent):
        deterministic = True

        async def act(self, request: Act) -> Decision:
            raise AssertionError("nobody may ask")

    async with Run(store=tmp_path) as run:
        world = run.world("builtin")
        assert not run.cast(world).deterministic
        sober = run.cast(world, agent=Sober())
        assert sober.deterministic
        with pytest.raises(UsageError, match="is deterministic"):
            await run.play(Josh(), sober, run.tasks(world, "train", 1))


async def test_a_database_held_by_somebody_else_does_not_fail_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path, patience=0)
    async with Run(store=store) as other:
        await other.play(Played(), cast(other), TASKS[:1])
    with duckdb.connect(store.database):  # another kind of connection: nobody else gets in
        async with Run(store=store) as run:
            await run.play(Played(), cast(run), TASKS)
            found = await run.query("select count(*) from tasks")
            own = await run.query("select count(*) from tasks", runs=(run.id,))
    assert run.status == "done"
    assert found.rows == [(9,)]
    assert own.rows == [(8,)]  # the journal of the other run was not asked about
    assert found.state.source == own.state.source == "replica"
    assert store.query("select count(*) from tasks").rows == [(9,)]


async def test_an_answer_aside_is_of_sound_sql_only(tmp_path: Path) -> None:
    store = Store(tmp_path, patience=0)
    async with Run(store=store) as run:
        await run.play(Played(), cast(run), TASKS[:1])
        await run.query("select 1")
        with duckdb.connect(store.database), pytest.raises(UsageError, match="the query failed"):
            await run.query("selec 1")
