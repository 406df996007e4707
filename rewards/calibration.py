"""Calibration of a judge: its verdicts beside the labels of people."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

import orjson

from simkit.errors import UsageError, reason
from simkit.rewards.criteria import Rubric
from simkit.statistics.scores import RESAMPLES, Estimate, mean_of_tasks, quantile


@dataclass(frozen=True, slots=True)
class Rating:
    """One verdict of a judge and the label of a person for it, as values from 0 to 1; `task` groups them."""

    task: str
    judge: float
    person: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Agreement of a judge with people, with 95% intervals over tasks.

    Attributes:
        labels: number of verdicts with a label.
        agreement: share of equal ones.
        kappa: Cohen's kappa: 0 for chance, 1 for full agreement; None where it is undefined, because all verdicts and
            labels are the same, or (for the interval) because there are fewer than two tasks.
        bias: mean of the judge's values minus that of the people's: above 0 for a judge that is too kind.
    """

    labels: int
    agreement: Estimate
    kappa: Estimate | None
    bias: Estimate

    def __str__(self) -> str:
        kappa = "undefined" if self.kappa is None else str(self.kappa)
        return f"{self.labels} labels: agreement {self.agreement}, kappa {kappa}, bias {self.bias}"


def calibrate(ratings: Sequence[Rating]) -> Calibration:
    """The agreement of some verdicts with their labels.

    Raises:
        UsageError: there are none.
    """
    if not ratings:
        raise UsageError("no verdict has a label; label some of the judged conversations")
    tasks = _by_task(ratings)
    return Calibration(
        labels=len(ratings),
        agreement=mean_of_tasks([[float(_same(each)) for each in group] for group in tasks]),
        kappa=_kappa_with_interval(tasks),
        bias=mean_of_tasks([[each.judge - each.person for each in group] for group in tasks], bounds=(-1.0, 1.0)),
    )


def kappa(ratings: Sequence[Rating]) -> float | None:
    """Cohen's kappa (1960) of verdicts and labels; None without any, or if all of both are the same."""
    if not ratings:
        return None
    ours, theirs = Counter(each.judge for each in ratings), Counter(each.person for each in ratings)
    observed = sum(map(_same, ratings)) / len(ratings)
    expected = sum(ours[value] * theirs[value] for value in ours) / len(ratings) ** 2
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def _kappa_with_interval(tasks: Sequence[Sequence[Rating]]) -> Estimate | None:
    """Kappa with percentiles of resampled tasks; resamples for which it is undefined are left out."""
    whole = kappa([each for group in tasks for each in group])
    if whole is None or len(tasks) < 2:
        return None
    rng = Random(0)
    drawn = (kappa([each for group in rng.choices(tasks, k=len(tasks)) for each in group]) for _ in range(RESAMPLES))
    found = sorted(value for value in drawn if value is not None)
    return Estimate(whole, min(whole, quantile(found, 0.025)), max(whole, quantile(found, 0.975)))


def _by_task(ratings: Sequence[Rating]) -> list[list[Rating]]:
    groups: dict[str, list[Rating]] = {}
    for each in ratings:
        groups.setdefault(each.task, []).append(each)
    return list(groups.values())


def _same(rating: Rating) -> bool:
    return abs(rating.judge - rating.person) < 1e-9


@dataclass(frozen=True, slots=True)
class Label:
    """The labels of a person for one conversation: a value from 0 to 1 by criterion; `run` if they name the run."""

    task: str
    trial: int
    values: Mapping[str, float]
    run: str | None = None


def read_labels(file: Path, rubric: Rubric) -> tuple[Label, ...]:
    """The labels in a file of JSON lines: `{"task_id": "...", "trial": 0, "labels": {"polite": true, "clear": 4}}`.

    `trial` is 0 if it is left out; an `episode_id` may stand for both. Criteria without a label are left out.

    Raises:
        UsageError: the file cannot be read or has none, a line has another form, or a label is none of its criterion.
    """
    try:
        lines = file.read_bytes().removeprefix(BOM_UTF8).splitlines()
    except OSError as error:
        raise UsageError(f"the labels {file} cannot be read: {reason(error)}; give a file of JSON lines") from error
    found = [_label(line, rubric, f"{file}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UsageError(f'{file} has no labels; a line is {{"task_id": "...", "labels": {{"NAME": true}}}}')
    places = Counter((each.task, each.trial) for each in found)
    if twice := next((place for place, times in places.items() if times > 1), None):
        raise UsageError(f"{file} labels the task {twice[0]}, trial {twice[1]}, twice; label each conversation once")
    return tuple(found)


def _label(line: bytes, rubric: Rubric, where: str) -> Label:
    try:
        fields = cast("Mapping[str, Any]", orjson.loads(line))
        run, task, trial = _place(fields)
        given = dict(fields["labels"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{where} is not a label ({type(error).__name__}: {error}); a line is "
            '{"task_id": "...", "trial": 0, "labels": {"NAME": true}}'
        ) from error
    known = {each.name: each for each in rubric}
    values: dict[str, float] = {}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"{where}: the rubric has no criterion `{name}`; it has: {', '.join(known)}")
        found = known[name].value(value)
        if found is None:
            raise UsageError(f"{where}: `{value}` is no label for {known[name]}")
        values[name] = found
    return Label(task, trial, values, run)


def _place(fields: Mapping[str, Any]) -> tuple[str | None, str, int]:
    """The run, if it is named, the task and the trial."""
    episode = fields.get("episode_id")
    if isinstance(episode, str):
        run, _, place = episode.partition("/")
        task, _, trial = place.rpartition("/")
        return run, task, int(trial)
    task, trial = fields["task_id"], fields.get("trial", 0)
    if not isinstance(task, str) or not isinstance(trial, int) or isinstance(trial, bool):
        raise TypeError(f"the task {task!r} must be a text, and the trial {trial!r} a whole number")
    return None, task, trial
