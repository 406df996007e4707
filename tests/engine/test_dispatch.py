"""The driver of workers, with workers that answer as a test says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import anyio
import pytest
from scripted_workers import (
    Driver,
    Lending,
    Scripted,
    Worker,
    episode,
    numbers,
    plays,
    started,
    unit,
)

from simkit.core.events import EndpointAdjusted, Episode, EpisodeStarted, ToolsetSeen
from simkit.core.records import ComponentLoad
from simkit.errors import AgentFault, StoreError, UsageError, WorkerLost
from simkit.models.middleware.leases import Wants
from simkit.run.accounting import NO_END, STOPPED_AT_FAULT
from simkit.run.contract import Counts, Down, Result, Up, packed_error
from simkit.run.engine import FaultPolicy
from simkit.run.worker_states import WorkerState
from simkit.store.encoding import encode

pytestmark = pytest.mark.anyio


async def test_units_are_played_and_recorded_and_come_back_in_their_order() -> None:
    def backwards(worker: Worker, down: Down) -> Up:
        return worker.up(done=True) if down.stop else worker.up(*worker.open[-1:])

    driver = Driver(Scripted(2, backwards))
    assert numbers(await driver.play(7, 3)) == list(range(7))
    assert driver.progress.planned == 7
    assert sorted(numbers(driver.progress.episodes)) == list(range(7))
    assert driver.progress.missed == {}
    lines = {line for number in range(7) for line in (encode(started(unit(number))), encode(episode(unit(number))))}
    assert set(driver.recorder.lines) == lines
    assert len(driver.recorder.lines) == 14
    assert driver.recorder.events == []
    assert (driver.progress.workers, driver.progress.workers_lost, driver.past.renewed) == (0, 0, 0)


@pytest.mark.parametrize(
    ("size", "concurrency", "count", "seats"),
    [
        (3, 5, 9, [2, 2, 1]),
        (4, 2, 9, [1, 1]),
        (4, 8, 3, [3, 3, 2]),
        (1, 4, 9, [4]),
        (0, 4, 9, [4]),
    ],
)
async def test_what_is_played_at_once_is_divided_among_the_workers(
    size: int, concurrency: int, count: int, seats: list[int]
) -> None:
    engine = Scripted(size)
    assert len(await Driver(engine).play(count, concurrency)) == count
    assert [worker.spec.concurrency for worker in engine.workers] == seats
    assert {worker.spec.workers for worker in engine.workers} == {len(seats)}
    assert {worker.spec.run_id for worker in engine.workers} == {"run"}


async def test_nothing_to_play_starts_no_worker_and_a_concurrency_below_1_is_refused() -> None:
    driver = Driver(Scripted(2))
    assert await driver.play(0, 1) == ()
    with pytest.raises(UsageError, match="the concurrency is 0; it must be at least 1"):
        await driver.play(3, 0)
    assert (driver.engine.workers, driver.progress.planned) == ([], 0)


@pytest.mark.parametrize(
    ("count", "ordered"),
    [
        (4, [[], [0, 1], [2, 3], []]),
        (5, [[], [0, 1, 2, 3], [4], []]),
        (9, [[], [0, 1, 2, 3], [4, 5, 6, 7], [8], []]),
        (8, [[], [0, 1, 2, 3], [4, 5], [6, 7], []]),
    ],
)
async def test_a_worker_holds_a_few_units_more_than_it_plays_while_many_wait(
    count: int, ordered: list[list[int]]
) -> None:
    engine = Scripted(1)
    await Driver(engine).play(count, 2)
    (worker,) = engine.workers
    assert worker.ordered == ordered
    assert [down.stop for down in worker.downs] == [""] * (len(ordered) - 1) + ["now"]
    assert [order.past for order in worker.downs[1].orders][:2] == [b"T0 0", b"T1 0"]


async def test_a_worker_is_filled_up_as_its_units_end() -> None:
    def one(worker: Worker, down: Down) -> Up:
        return worker.up(done=True) if down.stop else worker.up(*worker.open[:1])

    engine = Scripted(1, one)
    await Driver(engine).play(7, 2)
    assert engine.workers[0].ordered == [[], [0, 1, 2, 3], [], [], [4], [5], [6], [], []]


async def test_lines_are_written_before_they_are_acknowledged() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if not worker.downs[1:]:
            return Up()
        assert driver.recorder.steps[-1:] in ([], ["commit"])
        return plays(worker, down)

    driver = Driver(Scripted(1, answer))
    await driver.play(3, 1)
    assert [down.acked for down in driver.engine.workers[0].downs] == [0, 0, 2, 4, 6]
    assert driver.recorder.steps == ["2 lines", "commit"] * 3


# --- losses -----------------------------------------------------------------------------------------------------------


async def test_the_open_units_of_a_lost_worker_are_played_next_and_with_another_attempt() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if worker.number == 1 and worker.open:
            raise WorkerLost("gone")
        return plays(worker, down)

    driver = Driver(Scripted(1, answer))
    assert numbers(await driver.play(6, 2)) == list(range(6))
    first, second = driver.engine.workers
    assert first.ordered == [[], [0, 1, 2, 3]]
    assert second.ordered == [[], [0, 1, 2, 3], [4, 5], []]
    orders = second.downs[1].orders
    assert [order.unit.attempt for order in orders] == [1, 1, 1, 1]
    assert orders[0].past == b"T0 1"
    assert second.downs[2].orders[0].unit.attempt == 0
    assert (driver.progress.workers_lost, driver.past.renewed) == (1, 1)
    assert [down.acked for down in second.downs][:2] == [0, 0]
    assert len(driver.progress.episodes) == 6


async def test_a_worker_that_is_lost_with_nothing_open_changes_nothing() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if worker.number == 1 and down.stop:
            raise WorkerLost("gone")
        return plays(worker, down)

    driver = Driver(Scripted(2, answer))
    assert numbers(await driver.play(3, 2)) == [0, 1, 2]
    assert (driver.progress.workers_lost, driver.past.renewed) == (1, 0)


@pytest.mark.parametrize("first", [0, 1])
async def test_an_episode_whose_end_is_in_the_journal_is_not_played_again(first: int) -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if worker.number == 1 and worker.open:
            if len(worker.downs) == 3:
                raise WorkerLost("gone")
            ended, other = worker.open[first].unit, worker.open[1 - first].unit
            return worker.up(lines=(encode(started(other)), encode(started(ended)), encode(episode(ended))))
        return plays(worker, down)

    driver = Driver(Scripted(1, answer))
    played = await driver.play(2, 2)
    assert numbers(played) == [0, 1]
    assert driver.engine.workers[1].ordered == [[], [1 - first], []]
    assert played[first].goals == ("a", "b")
    assert (played[first].outcome, played[first].reward) == ("user_ended", 0.5)
    assert driver.progress.episodes == [played[first], played[1 - first]]
    assert driver.past.renewed == 1


async def test_workers_that_never_start_are_an_error_of_the_caller() -> None:
    engine = Scripted(1, starts=lambda number: False)
    with pytest.raises(UsageError) as found:
        await Driver(engine).play(2, 2)
    assert (
        str(found.value) == "no worker can be started: no place; --workers 1 --engine processes plays in this process"
    )
    assert isinstance(found.value.__cause__, WorkerLost)
    assert len(engine.workers) == 3


async def test_only_starts_in_a_row_that_fail_are_an_error() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if worker.number == 3 and worker.open:
            raise WorkerLost("gone")
        return plays(worker, down)

    driver = Driver(Scripted(1, answer, starts=lambda number: number in (3, 6)))
    assert numbers(await driver.play(2, 2)) == [0, 1]
    assert driver.progress.workers_lost == 5


async def test_three_starts_in_a_row_that_fail_later_are_an_error_too() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if worker.open:
            raise WorkerLost("gone")
        return Up()

    engine = Scripted(1, answer, starts=lambda number: number == 1)
    with pytest.raises(UsageError, match="no worker can be started"):
        await Driver(engine).play(2, 2)
    assert len(engine.workers) == 4


async def test_a_unit_that_was_open_in_two_losses_is_played_alone_and_after_all_others() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if any(order.index < 2 and order.unit.attempt < 2 for order in worker.open):
            raise WorkerLost("gone")
        if worker.open and worker.open[0].unit.attempt == 2 and len(worker.downs[-1].orders):
            return Up()  # it is not done yet, and gets nothing else meanwhile
        return plays(worker, down)

    driver = Driver(Scripted(1, answer))
    assert numbers(await driver.play(4, 2)) == [0, 1, 2, 3]
    *_, last = driver.engine.workers
    assert last.ordered == [[], [2, 3], [1], [], [0], [], []]
    assert [order.unit.attempt for down in last.downs for order in down.orders] == [0, 0, 2, 2]
    assert (driver.progress.workers_lost, driver.past.renewed) == (2, 2)


async def test_a_unit_is_not_played_alone_before_the_others_have_ended() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if any(order.index == 0 and order.unit.attempt < 2 for order in worker.open):
            raise WorkerLost("gone")
        if down.stop:
            return worker.up(done=True)
        return Up() if down.orders else worker.up(*worker.open[:1])

    driver = Driver(Scripted(1, answer))
    assert numbers(await driver.play(8, 1)) == list(range(8))
    *lost, last = driver.engine.workers
    assert [each.ordered for each in lost] == [[[], [0, 1, 2]]] * 2
    others, alone = [[3, 4, 5], [], [], [], [6], [], [7], []], [[2], [], [1], [], [0], []]
    assert last.ordered == [[], *others, *alone, []]


async def test_a_unit_that_is_played_alone_gets_no_company_when_others_are_lost() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        held, ended = {order.index for order in worker.open}, len(driver.progress.episodes)
        if held and any(order.index < 2 and order.unit.attempt < 2 for order in worker.open):
            raise WorkerLost("gone")
        if worker.number == 2 and len(driver.engine.workers) == 4 and driver.engine.workers[3].open:
            raise WorkerLost("gone, too")
        if worker.number == 2 or (held & {0, 1} and ended < 2):
            return Up()
        return plays(worker, down)

    driver = Driver(Scripted(2, answer))
    assert numbers(await driver.play(4, 4)) == [0, 1, 2, 3]
    ordered = [[number for numbers in each.ordered for number in numbers] for each in driver.engine.workers]
    assert ordered == [[0, 1], [2, 3], [0, 1], [1], [2, 3, 0]]


async def test_a_unit_that_ends_three_workers_is_recorded_as_a_fault() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if any(order.index == 1 for order in worker.open):
            raise WorkerLost(f"gone with {len(worker.open)}")
        return plays(worker, down)

    driver = Driver(Scripted(1, answer))
    played = await driver.play(3, 3)
    assert [each.outcome for each in played] == ["user_ended", "worker_fault", "user_ended"]
    error = "playing T1 ended 3 workers; the last: gone with 1"
    goals = ("a", "b")
    gone, events = driver.recorder.events[:3], driver.recorder.events[3:]
    assert [type(each).__name__ for each in gone] == ["WorkerGone"] * 3
    tools, begun, ended = events
    fault = Episode(
        episode_id="run/T1/0",
        reward=None,
        outcome="worker_fault",
        faults=1,
        error=error,
        full_reward=2.0,
        goals=goals,
        at=played[1].at,
    )
    assert played[1] == ended == fault
    assert isinstance(tools, ToolsetSeen)
    assert tools.tools == ()
    assert isinstance(begun, EpisodeStarted)
    assert begun == EpisodeStarted("run/T1/0", "run", "T1", 0, "josh", tools.toolset_id, goals, begun.at, attempt=3)
    assert [str(fault) for fault in driver.progress.taken_faults()] == [error]
    assert driver.progress.faulted == 1
    assert driver.progress.workers_lost == 3


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail_fast", "outcome", "reason"),
    [
        (False, "user_ended", NO_END),
        (False, "agent_fault", NO_END),
        (True, "user_ended", NO_END),
        (True, "agent_fault", STOPPED_AT_FAULT),
    ],
)
async def test_what_was_not_played_has_its_reason(fail_fast: bool, outcome: str, reason: str) -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if down.stop or not worker.open:
            return plays(worker, down)
        return Up(results=(Result(0, missed="it was cancelled"), Result(1), Result(2, episode(unit(2), outcome))))

    driver = Driver(Scripted(1, answer), FaultPolicy(fail_fast=fail_fast))
    assert numbers(await driver.play(3, 3)) == [2]
    assert driver.progress.missed == {"run/T0/0": "it was cancelled", "run/T1/0": reason}


@pytest.mark.parametrize("fail_fast", [True, False])
async def test_the_first_fault_stops_all_workers_if_the_policy_says_so(fail_fast: bool) -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if down.stop or not worker.open:
            return plays(worker, down)
        return worker.up(*worker.open[:1], outcome="agent_fault" if worker.open[0].index == 1 else "user_ended")

    driver = Driver(Scripted(1, answer), FaultPolicy(fail_fast=fail_fast))
    played = await driver.play(4, 2)
    assert numbers(played) == ([0, 1] if fail_fast else [0, 1, 2, 3])
    missed = {f"run/T{number}/0": STOPPED_AT_FAULT for number in (2, 3)}
    assert driver.progress.missed == (missed if fail_fast else {})
    assert driver.engine.workers[0].downs[-1].stop == "now"
    assert driver.engine.workers[0].ordered == [[], [0, 1], [2], *([] if fail_fast else [[3], []]), []]
    assert driver.progress.faulted == 1


async def test_an_error_of_one_worker_ends_the_run_and_the_others_send_what_they_have() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if down.stop:
            if worker.number == 2 and len(worker.downs[-2].stop) == 0:
                return worker.up(lines=(encode(started(unit(9))),))  # it needs two exchanges to end
            return worker.up(done=True)
        if worker.number == 1 and worker.open:
            return Up(error=packed_error(UsageError("no such tool")))
        return Up()

    lending = Lending()
    driver = Driver(Scripted(2, answer), lender=lending)
    with pytest.raises(UsageError, match="no such tool"):
        await driver.play(4, 2)
    first, second = driver.engine.workers
    assert [down.stop for down in first.downs][-2:] == ["", "now"]
    assert [down.stop for down in second.downs][-2:] == ["now", "now"]
    assert driver.recorder.lines == [encode(started(unit(9)))]
    assert [step for step in lending.steps if step[0] == "leave"] == [("leave", 0, False), ("leave", 1, False)]
    assert second.downs[-1].acked == 1


async def test_a_worker_is_dismissed_before_its_first_answer_and_what_it_sends_then_is_written() -> None:
    line = encode(started(unit(9)))

    async def slow(worker: Worker) -> Up:
        await anyio.sleep_forever()
        return worker.up()

    def answer(worker: Worker, down: Down) -> Any:
        if down.stop:
            return worker.up(lines=(line,), done=True)
        if worker.number == 2:
            return slow(worker)
        return Up(error=packed_error(UsageError("no such tool"))) if worker.open else Up()

    driver = Driver(Scripted(2, answer))
    with pytest.raises(UsageError, match="no such tool") as found:
        await driver.play(4, 2)
    assert isinstance(found.value.__cause__, ExceptionGroup)
    assert [[down.stop for down in each.downs] for each in driver.engine.workers] == [["", "", "now"], ["", "now"]]
    assert driver.recorder.lines == [line, line]


async def test_others_get_nothing_more_while_a_worker_with_an_error_ends() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if worker.number == 1 and worker.open:
            return Up(error=packed_error(UsageError("no such tool")), done=len(worker.downs) == 6)
        return plays(worker, down)

    driver = Driver(Scripted(2, answer))
    with pytest.raises(UsageError, match="no such tool"):
        await driver.play(6, 2)
    first, second = driver.engine.workers
    assert (first.ordered, second.ordered) == ([[], [0], [], [], [], []], [[], [1], []])
    assert [down.stop for down in second.downs] == ["", "", "now"]


async def test_a_worker_that_has_ended_with_an_error_is_asked_nothing_more() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        return Up(error=packed_error(UsageError("no such tool")), done=True)

    lending = Lending()
    driver = Driver(Scripted(1, answer), lender=lending)
    with pytest.raises(UsageError, match="no such tool"):
        await driver.play(1, 1)
    assert len(driver.engine.workers[0].downs) == 1
    assert lending.steps[-1] == ("leave", 0, False)


async def test_workers_have_five_seconds_to_end_whatever_else_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[float, bool]] = []

    def no_time(seconds: float, *, shield: bool) -> anyio.CancelScope:
        given.append((seconds, shield))
        return anyio.CancelScope(deadline=-math.inf, shield=shield)

    def answer(worker: Worker, down: Down) -> Up:
        return Up(error=packed_error(UsageError("no such tool")))

    lending = Lending()
    monkeypatch.setattr("simkit.run.dispatch.anyio.move_on_after", no_time)
    with pytest.raises(UsageError, match="no such tool"):
        await Driver(Scripted(1, answer), lender=lending).play(1, 1)
    assert given == [(5.0, True)]
    assert lending.steps[-1] == ("leave", 0, True)


async def test_a_worker_that_fails_while_it_is_dismissed_changes_nothing() -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if down.stop:
            raise WorkerLost("gone")
        return Up(error=packed_error(StoreError("full"))) if worker.open else Up()

    lending = Lending()
    driver = Driver(Scripted(1, answer), lender=lending)
    with pytest.raises(StoreError, match="full"):
        await driver.play(1, 1)
    assert lending.steps[-1] == ("leave", 0, True)
    assert driver.progress.workers_lost == 0


# --- limits, faults, counts -------------------------------------------------------------------------------------------


async def test_limits_are_lent_to_each_worker_while_it_plays() -> None:
    wants = Wants(calls=())

    def answer(worker: Worker, down: Down) -> Up:
        if worker.number == 1 and worker.open:
            raise WorkerLost("gone")
        return worker.up(*(() if down.stop else worker.open), wants=wants, done=bool(down.stop))

    lending = Lending()
    driver = Driver(Scripted(1, answer), lender=lending)
    await driver.play(1, 1)
    assert lending.steps == [
        ("enter", 0),
        ("settle", 0, wants),
        ("leave", 0, True),
        ("enter", 0),
        *[("settle", 0, wants)] * 3,
        ("leave", 0, False),
    ]
    assert {down.leases for worker in driver.engine.workers for down in worker.downs} == {"leases of 0"}


async def test_faults_are_kept_and_other_errors_among_them_are_not() -> None:
    faults = tuple(map(packed_error, (AgentFault("no idea"), ValueError("nothing"))))

    def answer(worker: Worker, down: Down) -> Up:
        return worker.up(done=True) if down.stop else worker.up(*worker.open, faults=faults if worker.open else ())

    driver = Driver(Scripted(1, answer))
    await driver.play(1, 1)
    assert [str(fault) for fault in driver.progress.taken_faults()] == ["no idea"]


async def test_adjustments_go_to_the_run_that_records_those_that_are_new() -> None:
    adjustment = EndpointAdjusted("run", "http://x", "m", "drop", "seed", "", "unknown", 1.0)
    other = encode(started(unit(0)))

    def answer(worker: Worker, down: Down) -> Up:
        if down.stop or not worker.open:
            return plays(worker, down)
        return worker.up(*worker.open, lines=(encode(adjustment), other, encode(adjustment)))

    driver = Driver(Scripted(1, answer))
    await driver.play(1, 1)
    assert driver.adjusted == [adjustment, adjustment]
    assert driver.recorder.lines == [encode(started(unit(0))), encode(episode(unit(0))), other]


async def test_loads_of_workers_are_shown_while_they_play_and_counts_stay() -> None:
    load, own = ComponentLoad(name="tools", concurrency=1), ComponentLoad(name="reward", concurrency=2)
    seen: list[Any] = []

    def answer(worker: Worker, down: Down) -> Up:
        seen.append((driver.progress.workers, driver.progress.running, driver.progress.turns, *driver.progress.load()))
        if down.stop:
            return worker.up(done=True, counts=Counts(turns=5))
        counts = Counts(running=1, turns=3, loads=(load,))
        return worker.up(*worker.open, counts=counts)

    driver = Driver(Scripted(1, answer))

    def before() -> tuple[ComponentLoad, ...]:
        return (own,)

    driver.progress.load = before
    await driver.play(1, 1)
    assert seen == [(0, 0, 0, own), (1, 1, 3, own, load), (1, 1, 3, own, load)]
    assert (driver.progress.workers, driver.progress.running, driver.progress.turns) == (0, 0, 5)
    assert driver.progress.load is before


async def test_the_run_knows_what_each_worker_has_done_and_lost_while_it_plays() -> None:
    seen: list[list[tuple[int, int, int, int]]] = []

    def answer(worker: Worker, down: Down) -> Up:
        states = driver.progress.worker_states()
        seen.append([(each.worker, each.open, each.done, each.lost) for each in states])
        if worker.number == 1 and len(worker.downs) == 3:
            raise WorkerLost("gone")
        return plays(worker, down)

    driver = Driver(Scripted(1, answer))
    await driver.play(4, 2)
    assert [state for (state,) in seen] == [
        *((0, 0, 0, 0), (0, 2, 0, 0), (0, 2, 2, 0)),
        *((0, 0, 2, 1), (0, 2, 2, 1), (0, 0, 4, 1)),
    ]
    assert driver.progress.worker_states() == ()


@pytest.mark.parametrize("lender", [None, Lending()])
async def test_the_run_knows_the_place_and_the_load_of_each_worker(
    monkeypatch: pytest.MonkeyPatch, lender: Lending | None
) -> None:
    class Time:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock, seen = Time(), list[WorkerState]()
    monkeypatch.setattr("simkit.run.dispatch.time", clock)
    counts = Counts(place="here", lag=0.123456, in_flight=2, waiting=3)

    def answer(worker: Worker, down: Down) -> Up:
        if worker.downs[1:]:
            clock.now = 100.765432
            seen.extend(driver.progress.worker_states())
            clock.now = 100.0
        return worker.up(*worker.open, done=bool(down.stop), counts=counts)

    driver = Driver(Scripted(1, answer), lender=lender)
    await driver.play(1, 1)
    known = WorkerState(worker=0, place="here", open=1, lag=0.123, heard=0.765, calls=5)
    held = known if lender is None else replace(known, tokens=5, cost=0.5, places=3)
    assert seen == [held, replace(held, open=0, done=1)]


@pytest.mark.parametrize("lost", [False, True])
async def test_workers_that_have_not_begun_are_not_waited_for(lost: bool) -> None:
    def answer(worker: Worker, down: Down) -> Up:
        if lost and len(worker.downs) == 3:
            raise WorkerLost("gone")
        if lost and worker.open:
            return worker.up(lines=[encode(episode(order.unit)) for order in worker.open])
        return plays(worker, down)

    driver = Driver(Scripted(2, answer, waits=lambda number: number == 2))
    with anyio.fail_after(60):
        assert numbers(await driver.play(2, 4)) == [0, 1]
