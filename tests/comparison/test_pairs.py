"""Pairing of episodes, by hand."""

from __future__ import annotations

import dataclasses
from statistics import fmean
from typing import Any

import pytest

from simkit.comparison.measures import numbers, pass_k
from simkit.comparison.pairs import PairedOutcomes, PairedValues, Table, pair
from simkit.comparison.records import ArmRecords, EpisodeRecord, RunRecord


def average(values: Any) -> float | None:
    """The mean, as most measures take it."""
    return fmean(values) if values else None


def test_trial_stands_against_trial_and_task_against_task() -> None:
    before: Table = {"b": {0: 0.0, 1: 1.0}, "a": {0: 1.0, 1: 1.0}, "gone": {0: 1.0}}
    after: Table = {"new": {0: 1.0}, "a": {1: 0.0, 0: 1.0}, "b": {1: 1.0, 0: 1.0}}
    found = pair([before], [after], average, binary=True)
    assert found == PairedValues(("a", "b"), (1.0, 0.5), (0.5, 1.0), 4, 0, PairedOutcomes(2, 1, 1, 0))
    assert found.differences == (-0.5, 0.5)
    assert pair([before], [after], average).outcomes is None, "only successes and failures have McNemar's table"


def test_tasks_stand_in_the_order_of_their_names() -> None:
    table: Table = {f"t{number}": {0: 1.0} for number in (7, 2, 9, 4, 1, 8, 3, 6, 5)}
    assert pair([table], [table], average).tasks == tuple(sorted(table))


def test_a_trial_without_a_number_is_left_out_with_its_partner() -> None:
    before: Table = {"a": {0: None, 1: 1.0, 2: 0.0, 3: None, 4: 1.0}, "b": {0: None}}
    after: Table = {"a": {0: 1.0, 1: None, 2: 0.0, 3: None, 4: 0.0}, "b": {0: 1.0}}
    found = pair([before], [after], average, binary=True)
    assert found == PairedValues(("a",), (0.5,), (0.0,), 2, 8, PairedOutcomes(0, 1, 0, 1))
    assert pair([{"b": {0: None}}], [{"b": {0: 1.0}}], average) == PairedValues((), (), (), 0, 2)


def test_other_numbers_of_trials_are_averaged_and_have_no_table_of_pairs() -> None:
    before: Table = {"a": {0: 0.0, 1: None, 2: 1.0}, "b": {0: 1.0}}
    after: Table = {"a": {0: 1.0, 1: None, 2: None, 3: None}, "b": {0: 1.0}}
    found = pair([before], [after], average, binary=True)
    assert found == PairedValues(("a", "b"), (0.5, 1.0), (1.0, 1.0), 3, 4, None)


def test_runs_stand_against_each_other_by_place_where_there_are_equally_many() -> None:
    before: list[Table] = [{"a": {0: 0.0}, "b": {0: 0.0}}, {"a": {0: 1.0}}]
    after: list[Table] = [{"a": {0: 1.0}}, {"a": {0: 1.0}, "b": {0: 1.0}}]
    found = pair(before, after, average, binary=True)
    assert found == PairedValues(("a",), (0.5,), (1.0,), 2, 0, PairedOutcomes(1, 0, 1, 0)), (
        "`b` has no partner in its place"
    )
    unequal = pair([*before, {"b": {0: 1.0}, "alone": {0: None}}], after, average, binary=True)
    assert unequal == PairedValues(("a", "b"), (0.5, 0.5), (1.0, 1.0), 4, 0, None), "`alone` is on one side only"


def test_a_task_with_too_few_trials_for_the_measure_on_one_side_is_no_pair() -> None:
    combine = pass_k(2).combine
    before: Table = {"a": {0: 1.0, 1: 1.0}, "b": {0: 1.0}, "c": {0: 1.0, 1: 0.0}}
    after: Table = {"a": {0: 1.0}, "b": {0: 1.0, 1: 1.0}, "c": {0: 1.0, 1: 1.0}}
    assert pair([before], [after], combine) == PairedValues(("c",), (0.0,), (1.0,), 2, 0)


def test_sides_of_different_length_have_no_differences() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = PairedValues(("a", "b"), (0.0, 1.0), (1.0,), 2, 0).differences


def episode(task: str, trial: int, reward: float | None) -> EpisodeRecord:
    """An episode with a reward and little else."""
    return EpisodeRecord(
        task_id=task,
        trial=trial,
        reward=reward,
        full_reward=1.0,
        outcome="done",
        goals=(),
        achieved=(),
        turns=1,
        calls=0,
        errors=0,
        reached=(),
        weights={},
    )


def test_the_numbers_of_an_arm_are_those_of_each_run_for_the_tasks_it_has() -> None:
    run = RunRecord(
        run_id="r1",
        name="",
        recipe="rollout",
        status="done",
        seed=1,
        config={},
        tasks={},
        episodes=(episode("a", 0, 1.0), episode("a", 1, None), episode("b", 0, 0.5), episode("c", 0, 1.0)),
        items=(),
    )
    other = dataclasses.replace(run, run_id="r2", episodes=(episode("b", 3, 1.0),))
    found = numbers(ArmRecords("arm", (run, other)), pass_k(2), ["a", "b", "d"])
    assert found == ({"a": {0: 1.0, 1: None}, "b": {0: 0.0}}, {"b": {3: 1.0}})
