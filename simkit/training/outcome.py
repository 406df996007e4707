"""What came of a self-training experiment: before, after and control at both temperatures, in numbers and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from simkit.comparison.claims import chances, span, told
from simkit.comparison.compare import compare
from simkit.comparison.pictures import COLOURS, MARKERS
from simkit.comparison.records import Arm
from simkit.comparison.results import Comparison, Difference
from simkit.errors import UsageError
from simkit.extras import require
from simkit.parts import PartOf
from simkit.statistics import Estimate, mean
from simkit.store import Store
from simkit.training.examples import Kind
from simkit.training.selftraining import TEMPERATURES

PICTURE, REPORT, NUMBERS = "before-after.png", "result.md", "result.json"
BEFORE = "before"
CONTROLS: Mapping[Kind, str] = {"sft": "unfiltered control", "kto": "control", "dpo": "control"}
"""What the control is called: with KTO and DPO it learns from judgements dealt out by lot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The comparisons by temperature (`t1`, `t0`); in each, the first arm is the model before training.

    Attributes:
        seeds: how many seeds are pooled.
        rates: the success rate of every run, by temperature and arm, in the order of the seeds.
        control: what the control is called.
    """

    comparisons: Mapping[str, Comparison]
    rates: Mapping[str, Mapping[str, tuple[float, ...]]]
    seeds: int
    control: str

    def to_summary(self) -> dict[str, Any]:
        """What the run's summary says: rates with their intervals, differences with their chances."""
        told: dict[str, Any] = {}
        for name, found in self.comparisons.items():
            at = _at(name)
            for arm in found.arms:
                told[f"{arm.name}, {at}"] = _interval(_success(found, arm.name))
            for each in found.differences:
                told[f"{each.arm} - {each.reference}, {at}"] = _difference(each)
        return told

    def write(self, folder: Path) -> list[Path]:
        """Write picture, report and numbers into a folder, and return their paths.

        Raises:
            UsageError: matplotlib is not installed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / REPORT).write_text(self.to_markdown(), encoding="utf-8")
        numbers = {
            "rates": self.rates,
            "comparisons": {name: each.to_json() for name, each in self.comparisons.items()},
        }
        (folder / NUMBERS).write_bytes(orjson.dumps(numbers, option=orjson.OPT_INDENT_2, default=str))
        draw(self, folder / PICTURE)
        return [folder / name for name in (PICTURE, REPORT, NUMBERS)]

    def to_markdown(self) -> str:
        """The result as a document: a table of rates, one of differences, and what may be claimed."""
        rates = ["| success | " + " | ".join(map(_at, self.comparisons)) + " |", _rule(1 + len(self.comparisons))]
        for arm in next(iter(self.comparisons.values())).arms:
            cells = [str(_success(found, arm.name)) for found in self.comparisons.values()]
            rates.append(f"| {arm.name} | {' | '.join(cells)} |")
        changes = ["| difference | " + " | ".join(map(_at, self.comparisons)) + " |", rates[1]]
        for place, each in enumerate(next(iter(self.comparisons.values())).differences):
            cells = [_difference(found.differences[place]) for found in self.comparisons.values()]
            changes.append(f"| {each.arm} - {each.reference} | {' | '.join(cells)} |")
        seeds = [
            f"| {_at(name)} | {arm} | {', '.join(f'{rate:.3f}' for rate in values)} |"
            for name, arms in self.rates.items()
            for arm, values in arms.items()
        ]
        claims = [f"- {_at(name)}: {claim}" for name, found in self.comparisons.items() for claim in found.claims]
        by_seed = ["| | arm | success by seed |", _rule(3), *seeds]
        blocks = [rates, changes, by_seed, claims]
        return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def read_outcome(store: Store, run_id: str, *, seeds: int, rounds: int, method: Kind = "sft") -> Outcome:
    """Compare what the last round left with what it all began with; seeds are pooled and tasks are clusters.

    Raises:
        UsageError: a measurement is missing.
        StoreError: the store cannot be read.
    """
    last, control = f"round{rounds}", CONTROLS[method]
    after = "after" if rounds == 1 else f"after {rounds} rounds"
    stages = {BEFORE: "before", after: f"{last}/after", control: f"{last}/control"}
    found: dict[str, Comparison] = {}
    rates: dict[str, dict[str, tuple[float, ...]]] = {}
    for temperature in TEMPERATURES:
        runs = {arm: runs_of(run_id, f"{stage}-{temperature}", seeds) for arm, stage in stages.items()}
        arms = [Arm(arm, ids) for arm, ids in runs.items()]
        found[temperature] = compare(store, arms, metrics=("success",), all_pairs=True)
        rates[temperature] = {arm: _rates(store, ids) for arm, ids in runs.items()}
    return Outcome(comparisons=found, rates=rates, seeds=seeds, control=control)


def runs_of(run_id: str, stage: str, seeds: int) -> tuple[str, ...]:
    """The ids of a stage's parts, one for each seed."""
    return tuple(PartOf(PartOf(run_id, f"seed{number}").id, stage).id for number in range(seeds))


def _rates(store: Store, runs: tuple[str, ...]) -> tuple[float, ...]:
    found = {run.run_id: run.success_rate for run in store.runs() if run.run_id in runs}
    if missing := [run for run in runs if found.get(run) is None]:
        raise UsageError(f"{missing[0]} has no scored episodes, so there is nothing to compare")
    return tuple(found[run] or 0.0 for run in runs)


def _success(found: Comparison, arm: str) -> Estimate:
    scores = next(each for each in found.arms if each.name == arm).scores
    return next(score.estimate for score in scores if score.name == "success")


def _interval(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _difference(found: Difference) -> str:
    return f"{told(found.estimate.value, found.unit)}, {span(found.estimate, found.unit)} ({chances(found)})"


def _at(temperature: str) -> str:
    return f"T = {TEMPERATURES[temperature]:g}"


def _rule(columns: int) -> str:
    return f"|{' --- |' * columns}"


# --- picture ----------------------------------------------------------------------------------------------------------


def draw(outcome: Outcome, path: Path) -> None:
    """Success of each arm at each temperature with its interval; a mark for every seed.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "plots").Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    names = list(outcome.comparisons)
    arms = [arm.name for arm in outcome.comparisons[names[0]].arms]
    width = 0.8 / len(arms)
    for place, arm in enumerate(arms):
        at = [index + (place - (len(arms) - 1) / 2) * width for index in range(len(names))]
        found = [_success(outcome.comparisons[name], arm) for name in names]
        _bars(axes, at, found, width, COLOURS[place % len(COLOURS)], arm)
        for x, name in zip(at, names, strict=True):
            _seeds(axes, x, outcome.rates[name][arm], width)
    axes.set_xticks(range(len(names)), [f"{_at(name)}\n{_changes(outcome, name)}" for name in names])
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("success on held-out goals (%)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, ncols=len(arms))
    first = outcome.comparisons[names[0]]
    axes.set_title(
        f"{first.tasks} held-out goals, {outcome.seeds} seeds (marks), {first.level:.0%} intervals over goals",
        fontsize=10,
    )
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _bars(axes: Any, at: list[float], found: list[Estimate], width: float, colour: str, name: str) -> None:
    values = [100 * each.value for each in found]
    reach = [
        [100 * (each.value - each.low) for each in found],
        [100 * (each.high - each.value) for each in found],
    ]
    axes.bar(at, values, width * 0.92, color=colour, alpha=0.85, label=name)
    axes.errorbar(at, values, yerr=reach, fmt="none", ecolor="#222222", elinewidth=1.3, capsize=4)
    for x, value, high in zip(at, values, reach[1], strict=True):
        axes.annotate(f"{value:.0f}", (x, value + high), (0, 4), textcoords="offset points", ha="center", fontsize=10)


def _seeds(axes: Any, x: float, rates: tuple[float, ...], width: float) -> None:
    """One mark for each seed beside the interval."""
    for place, rate in enumerate(rates):
        aside = (place - (len(rates) - 1) / 2) * width * 0.16 - width * 0.25
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(x + aside, 100 * rate, marker, color="#222222", markersize=4, markerfacecolor="white")


def _changes(outcome: Outcome, name: str) -> str:
    """After against before in words below the bars."""
    found = outcome.comparisons[name].differences[0]
    return (
        f"{found.arm} - {found.reference}: {told(found.estimate.value, found.unit)}, {chances(found).partition(',')[0]}"
    )


def gain(outcome: Outcome, temperature: str) -> float:
    """After minus before, as a share, on average over the seeds."""
    before, after, _ = outcome.rates[temperature].values()
    return mean(after) - mean(before)
