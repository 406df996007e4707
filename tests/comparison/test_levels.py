"""Runs as a sample: claims that have to hold for other trainings, and not only for other tasks."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean

import pytest
from comparing import RecordedRuns, Rewards, drawn

from simkit.comparison import Arm, Comparison, ComparisonPlan, compare, one_family
from simkit.errors import UsageError
from simkit.statistics.intervals import student
from simkit.statistics.levels import Matrix, over_levels

SEEDS = (0, 1, 2)
ARMS = [Arm("before", ("b0", "b1", "b2")), Arm("after", ("a0", "a1", "a2"))]


def trained(recorded: RecordedRuns, rates: tuple[float, ...]) -> None:
    """Three trainings of an arm `after` with these success rates, beside three of `before` with a rate of 0.4."""
    for seed, rate in enumerate(rates):
        recorded.run(f"b{seed}", drawn(0.4, seed), seed=seed, model=f"local/b{seed}")
        recorded.run(f"a{seed}", drawn(rate, seed + 10), seed=seed, model=f"local/a{seed}")


def success(recorded: RecordedRuns, plan: ComparisonPlan | None = None, arms: list[Arm] = ARMS) -> Comparison:
    return compare(recorded.store, arms, metrics=("success",), plan=plan, resamples=100)


def test_one_lucky_training_is_no_claim_about_others(recorded: RecordedRuns) -> None:
    trained(recorded, (0.4, 0.4, 1.0))
    (found,) = success(recorded).differences
    (pooled,) = success(recorded, ComparisonPlan(runs_as="repeats")).differences
    assert found.over_tasks == pooled.estimate
    assert pooled.claimed
    assert pooled.runs is None
    assert not found.claimed
    assert found.estimate.low < 0 < pooled.estimate.low
    assert found.p > 0.05 > pooled.p


def test_trainings_that_agree_are_one(recorded: RecordedRuns) -> None:
    trained(recorded, (0.8, 0.8, 0.8))
    compared = success(recorded)
    (found,) = compared.differences
    assert found.claimed
    assert found.runs is not None
    assert found.runs.runs == (3,)
    assert found.estimate.low <= found.runs.over_both.low
    assert "3 runs as a sample: over tasks alone" in compared.claims[0]
    assert "over runs alone" in compared.claims[0]


def test_repeats_of_one_model_are_no_sample_of_trainings(recorded: RecordedRuns) -> None:
    for seed in SEEDS:
        recorded.run(f"b{seed}", drawn(0.4, seed), seed=seed, model="local/b")
        recorded.run(f"a{seed}", drawn(0.8, seed + 10), seed=seed, model="local/a")
    assert success(recorded).differences[0].runs is None
    assert success(recorded, ComparisonPlan(runs_as="seeds")).differences[0].runs is not None


def test_one_base_against_several_trainings(recorded: RecordedRuns) -> None:
    trained(recorded, (0.8, 0.7, 0.8))
    (found,) = success(recorded, arms=[Arm("base", ("b0",)), ARMS[1]]).differences
    assert found.runs is not None
    assert found.runs.runs == (1, 3)
    assert found.claimed


def test_the_interval_of_two_levels_is_that_of_its_parts() -> None:
    """Without an effect of runs it is the interval over tasks; with nothing else, that over runs."""
    rng = Random(1)
    tasks = {f"t{number}": rng.gauss(0.1, 0.3) for number in range(50)}
    same = over_levels([*tasks.values()], [[tasks, tasks, tasks]])
    assert same.over_runs.low == pytest.approx(same.over_runs.high)
    assert same.freedom == pytest.approx(49)
    shifted = [dict.fromkeys(tasks, shift) for shift in (0.0, 0.1, 0.2)]
    only = over_levels([0.1] * 50, [shifted])
    assert only.freedom == pytest.approx(2)
    assert only.over_both.low == pytest.approx(0.1 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)  # Student's t, 2 degrees
    assert only.p == pytest.approx(0.2254, abs=1e-4)


def crossed(differences: Sequence[float], sides: Sequence[Matrix]) -> tuple[float, float, float]:
    """Standard error, degrees of freedom and the variance over runs, from sums of squares."""
    number = len(differences)
    tasks = sum((each - fmean(differences)) ** 2 for each in differences) / (number - 1) / number
    parts, shared = list[tuple[float, int]](), 0.0
    for side in sides:
        if len(side) == 1:
            continue
        means = [sum(run.values()) / len(run) for run in side]
        parts.append((sum((each - fmean(means)) ** 2 for each in means) / (len(side) - 1) / len(side), len(side) - 1))
        common = sorted(set[str].intersection(*map(set, side)))
        rows = [[run[task] for task in common] for run in side]
        if len(common) > 1:
            count, centre = len(rows) * len(common), fmean(map(fmean, rows))
            squares = sum(value * value for row in rows for value in row) + count * centre**2
            by_run = len(common) * sum(fmean(row) ** 2 for row in rows)
            by_task = len(rows) * sum(fmean(column) ** 2 for column in zip(*rows, strict=True))
            shared += (squares - by_run - by_task) / ((len(rows) - 1) * (len(common) - 1)) / count
    runs = sum(value for value, _ in parts)
    runs_freedom = runs**2 / sum(value**2 / freedom for value, freedom in parts)
    whole = max(tasks, runs, tasks + runs - shared)
    return whole**0.5, whole**2 / (tasks**2 / (number - 1) + runs**2 / runs_freedom), runs


THREE = [
    {"a": 0.9, "extra": 0.2, "b": 0.3, "c": 0.5, "d": 0.0},
    {"a": 0.6, "b": 0.8, "c": 0.9, "d": 0.4},
    {"a": 0.1, "b": 0.0, "c": 0.4, "d": 0.3, "other": 1.0},
]
TWO = [{"a": 0.5, "b": 0.1, "c": 0.9, "d": 0.2}, {"a": 0.2, "b": 0.4, "c": 0.3, "d": 0.6}]
APART = [{"a": 0.9, "b": 0.7, "c": 0.8, "d": 0.95}, {"a": 0.1, "b": 0.0, "c": 0.15, "d": 0.1}]
"""Runs that differ more than their single values do."""
ONE = [{"a": 0.7, "b": 0.2, "c": 0.3, "d": 0.1}]


@pytest.mark.parametrize(
    ("differences", "sides"),
    [
        ([0.3, 0.5, -0.4, 0.9], [THREE]),
        ([0.3, 0.5, -0.4, 0.9], [TWO]),
        ([0.3, 0.5, -0.4, 0.9], [THREE, TWO]),
        ([0.3, 0.5, -0.4, 0.9], [APART, TWO]),
        ([0.3, 0.5, -0.4, 0.9], [APART, APART[::-1]]),
        ([0.3, 0.5, -0.4, 0.9], [ONE, TWO]),
        ([0.3, 0.5, -0.4, 0.9], [TWO, ONE]),
        ([0.3, 0.5, -0.4, 0.9], [[{"a": 0.7}, {"a": 0.1}]]),  # nothing shows what single values vary by
        ([0.3, 0.5], [[{"a": 0.0, "b": 0.5, "c": 0.4}, {"a": 0.4, "b": 0.3, "d": 0.1}]]),  # two common tasks
    ],
)
def test_two_levels_are_those_of_sums_of_squares(differences: list[float], sides: list[Matrix]) -> None:
    found = over_levels(differences, sides, 0.9, null=0.2)
    error, freedom, runs = crossed(differences, sides)
    assert (found.error, found.freedom) == (pytest.approx(error), pytest.approx(freedom))
    assert found.runs == tuple(map(len, sides))
    centre = fmean(differences)
    reach = found.over_both.high - centre
    assert reach == pytest.approx(student(0.95, freedom) * error)
    assert found.over_both.low == pytest.approx(centre - reach)
    runs_freedom = sum(len(side) - 1 for side in sides) if len(sides) == 1 or ONE in sides else None
    if runs_freedom is not None:
        assert found.over_runs.high == pytest.approx(centre + student(0.95, runs_freedom) * runs**0.5)
    t = (centre - 0.2) / error
    assert student(1 - found.p / 2, freedom) == pytest.approx(abs(t))


def test_an_interval_over_runs_needs_two_tasks_and_two_runs() -> None:
    for differences, sides in (([0.3], [TWO]), ([0.3, 0.1], [ONE, ONE]), ([], [TWO])):
        with pytest.raises(UsageError, match="needs two tasks, and two runs on one side"):
            over_levels(differences, sides)


def test_values_that_are_all_equal_leave_no_doubt() -> None:
    same = [{"a": 0.1, "b": 0.1}] * 2
    assert over_levels([0.1, 0.1], [same]).p == 0.0
    assert over_levels([0.1, 0.1], [same], null=0.1).p == 1.0


def test_of_trainings_that_differ_the_interval_holds_the_truth_and_the_one_over_tasks_does_not() -> None:
    rng, both, tasks = Random(5), 0, 0
    for _ in range(200):
        side: list[dict[str, float]] = []
        for _ in range(3):
            effect = rng.gauss(0, 0.1)
            side.append({f"t{task}": rng.gauss(effect, 0.5) for task in range(60)})
        values = [fmean(run[f"t{task}"] for run in side) for task in range(60)]
        found = over_levels(values, [side])
        both += found.over_both.low <= 0 <= found.over_both.high
        alone = 2 * (sum(value * value for value in values) ** 0.5) / 60
        tasks += abs(fmean(values)) <= alone
    assert both >= 172  # nine in ten at least
    assert tasks <= 160


def test_an_interval_over_runs_needs_runs() -> None:
    with pytest.raises(UsageError, match="two runs"):
        over_levels([0.1, 0.2], [[{"a": 0.1}]])


def rates(recorded: RecordedRuns, **by_name: float) -> None:
    for number, (name, rate) in enumerate(by_name.items()):
        rewards: Rewards = drawn(rate, number)
        recorded.run(name, rewards)


def test_only_the_stated_pairs_are_compared_and_counted(recorded: RecordedRuns) -> None:
    rates(recorded, base=0.3, sft=0.5, josh=0.7)
    plan = ComparisonPlan(pairs=[("base", "josh"), ("sft", "josh")])
    found = recorded.compare("base", "sft", "josh", metrics=("success",), plan=plan)
    assert [(each.reference, each.arm, each.family) for each in found.differences] == [
        ("base", "josh", 2),
        ("sft", "josh", 2),
    ]
    for pairs, said in (((("base", "best"),), "there are base, sft, josh"), ((("sft", "sft"),), "`sft` twice")):
        with pytest.raises(UsageError, match=said):
            recorded.compare("base", "sft", "josh", plan=ComparisonPlan(pairs=pairs))
    with pytest.raises(UsageError, match="either name the pairs"):
        ComparisonPlan(pairs=[("a", "b")], all_pairs=True)


def test_several_comparisons_are_one_family(recorded: RecordedRuns) -> None:
    rates(recorded, base=0.4, warm=0.62, cold=0.62)
    warm, cold = (recorded.compare("base", name, metrics=("success",)) for name in ("warm", "cold"))
    joined = one_family(warm, cold)
    ps = sorted(each.differences[0].p for each in (warm, cold))
    assert sorted(each.differences[0].corrected for each in joined) == [min(1, 2 * ps[0]), max(2 * ps[0], ps[1])]
    assert {each.differences[0].family for each in joined} == {2}
    assert "corrected for 2 comparisons" in joined[0].claims[0]
