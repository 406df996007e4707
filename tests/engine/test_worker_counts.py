"""Counts of workers, as the run shows them; and errors that cross processes."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any, cast

import pytest
from scripted_workers import unit

from simkit.core.records import ComponentLoad
from simkit.errors import AgentFault, Fault
from simkit.models.base import Usage
from simkit.models.middleware.metrics import CallMetrics, Health, Wait
from simkit.run.contract import Counts, Down, Order, PlaySpec, RemoteError, Result, Up, packed_error, unpacked_error
from simkit.run.engine import RunProgress
from simkit.run.worker_counts import CountedWorkers

LOAD = ComponentLoad(name="tools", concurrency=1)
WAIT, OTHER = Wait("it is full", 1.0, 2.0), Wait("no answer", 1.0, 9.0)


def shown(progress: RunProgress) -> tuple[object, ...]:
    return (progress.workers, progress.running, progress.branches, progress.turns, progress.hits)


def test_what_workers_count_is_added_as_they_report_it() -> None:
    progress = RunProgress(running=10, branches=20, turns=30, hits=40, flags=Counter(odd=1))
    counted = CountedWorkers(progress)
    counted.update(1, Counts(running=1, branches=2, turns=3, hits=4, flags={"odd": 2}, lag=0.5, loads=(LOAD,)))
    assert shown(progress) == (1, 11, 22, 33, 44)
    counted.update(2, Counts(running=5, branches=6, turns=7, hits=8, flags={"odd": 1, "left": 1}, lag=0.2))
    assert shown(progress) == (2, 16, 28, 40, 52)
    counted.update(1, Counts(running=0, branches=1, turns=5, hits=6, flags={"odd": 3}, lag=0.4, loads=(LOAD,)))
    assert shown(progress) == (2, 15, 27, 42, 54)
    assert progress.flags == {"odd": 5, "left": 1}
    assert progress.lag.worst == 0.5
    assert [*counted.loads()] == [LOAD]


def test_what_a_worker_that_is_gone_had_in_progress_ends_and_what_it_counted_stays() -> None:
    progress = RunProgress(metrics=CallMetrics())
    counted = CountedWorkers(progress)
    counts = Counts(running=1, branches=2, turns=3, hits=4, flags={"odd": 2}, calls=5, in_flight=6, loads=(LOAD,))
    counted.update(1, counts)
    counted.gone(1)
    counted.gone(1)
    counted.gone(2)
    assert shown(progress) == (0, 0, 0, 3, 4)
    assert progress.flags == {"odd": 2}
    assert progress.metrics is not None
    assert (progress.metrics.calls, progress.metrics.in_flight) == (5, 0)
    assert [*counted.loads()] == []
    counted.update(1, Counts(turns=1))
    assert shown(progress) == (1, 0, 0, 4, 4), "another worker begins to count in this place"


def calls(metrics: CallMetrics) -> tuple[int, ...]:
    return (
        *(metrics.calls, metrics.in_flight, metrics.waiting, metrics.limit),
        *(metrics.rate_limited, metrics.failed, metrics.replayed),
    )


def test_calls_of_workers_are_added_to_those_of_the_run() -> None:
    metrics = CallMetrics(10, 20, 30, 40, 50, 60, 70, Usage(1, 2, 3, 0.5))
    counted = CountedWorkers(RunProgress(metrics=metrics))
    first = CallMetrics(1, 2, 3, 4, 5, 6, 7, Usage(10, 20, 30, 1.0))
    counted.update(1, Counts().with_calls(first))
    assert calls(metrics) == (11, 22, 33, 44, 55, 66, 77)
    assert metrics.usage == Usage(11, 22, 33, 1.5)
    later = CallMetrics(2, 1, 0, 4, 6, 7, 8, Usage(11, 22, 33, 1.25))
    counted.update(1, Counts().with_calls(later))
    assert calls(metrics) == (12, 21, 30, 44, 56, 67, 78)
    assert metrics.usage == Usage(12, 24, 36, 1.75)
    counted.gone(1)
    assert calls(metrics) == (12, 20, 30, 40, 56, 67, 78)
    assert metrics.usage == Usage(12, 24, 36, 1.75)


def test_what_workers_wait_for_is_shown_as_long_as_they_wait() -> None:
    own = Health(wait=None)
    metrics = CallMetrics(endpoints=[own])
    counted = CountedWorkers(RunProgress(metrics=metrics))
    waiting = CallMetrics(endpoints=[Health(wait=WAIT), Health(), Health(wait=OTHER)])
    counted.update(1, Counts().with_calls(waiting))
    counted.update(2, Counts(waits=(WAIT,)))
    assert [each.wait for each in metrics.endpoints] == [None, WAIT, OTHER, WAIT]
    counted.update(1, Counts(waits=(OTHER,)))
    assert [each.wait for each in metrics.endpoints] == [None, WAIT, OTHER]
    counted.update(1, Counts())
    counted.gone(2)
    assert metrics.endpoints == [own]


def test_a_run_without_models_counts_no_calls() -> None:
    progress = RunProgress()
    CountedWorkers(progress).update(1, Counts(calls=3, turns=1, waits=(WAIT,)))
    assert (progress.metrics, progress.turns) == (None, 1)


# --- errors -----------------------------------------------------------------------------------------------------------


def crossed(error: BaseException) -> BaseException:
    return unpacked_error(packed_error(error))


def raised(error: BaseException) -> BaseException:
    """The error as a component raised it, with a traceback."""
    try:
        raise error
    except type(error) as found:
        return found


def test_an_error_of_a_worker_is_the_same_in_the_driver() -> None:
    fault = AgentFault("no idea")
    fault.add_note("in the worker alone")
    vars(fault)["extra"] = 5
    found = crossed(fault)
    assert type(found) is AgentFault
    assert (str(found), found.args, vars(found)["extra"]) == ("no idea", ("no idea",), 5)
    assert not hasattr(found, "__notes__")
    assert type(crossed(ValueError("x", 1))) is ValueError
    assert crossed(ValueError("x", 1)).args == ("x", 1)


class Empty(ValueError):
    """An error that is made without its arguments."""

    def __new__(cls, *given: object) -> Empty:
        return super().__new__(cls)


def test_an_error_keeps_arguments_that_it_is_not_made_with() -> None:
    assert crossed(Empty("a", 1)).args == ("a", 1)


def test_its_traceback_becomes_a_note() -> None:
    (note,) = crossed(raised(AgentFault("no"))).__notes__
    assert note.startswith("in a worker:\n")
    assert "in raised" in note


class Peculiar(Fault):
    """An error that needs more to be made than it keeps."""

    def __new__(cls, text: str, more: int) -> Peculiar:
        return super().__new__(cls, text)

    def __init__(self, text: str, more: int) -> None:
        super().__init__(text)


def test_an_error_that_cannot_be_rebuilt_keeps_its_words() -> None:
    class Local(Fault):
        """A class that pickle does not find."""

    for error in (Local("broken"), Peculiar("broken", 1)):
        found = crossed(raised(error))
        assert type(found) is RemoteError
        assert "broken" in str(found)
        assert "in raised" in found.__notes__[0]


def test_what_is_not_said_is_nothing() -> None:
    spec = PlaySpec(run_id="run", cast=cast("Any", None), search=cast("Any", None))
    assert (spec.concurrency, spec.workers, spec.strict, spec.recorded, spec.keeps_faults) == (1, 1, False, 0, False)
    assert (spec.adjustments, spec.served) == ({}, {})
    numbers = [value for value in vars(Counts()).values() if isinstance(value, int | float)]
    assert (set(numbers), len(numbers)) == ({0}, 12)
    down, up = Down(), Up()
    assert (down.orders, down.acked, down.stop) == ((), 0, "")
    assert (up.lines, up.end, up.results, up.faults, up.error, up.done) == ((), 0, (), (), None, False)
    assert (Order(1, unit(1)).past, Result(1).episode, Result(1).missed) == (b"", None, None)


@pytest.mark.parametrize("value", [Counts(turns=1, flags={"a": 1}), Counts()])
def test_counts_cross_processes(value: Counts) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
