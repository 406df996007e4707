"""Results of a self-training experiment: before, after and control at both temperatures, as numbers and a plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from simkit.comparison.claims import format_interval, format_p_values, format_value
from simkit.comparison.compare import compare
from simkit.comparison.pictures import COLOURS, MARKERS
from simkit.comparison.records import Arm
from simkit.comparison.results import Comparison, Difference
from simkit.data.examples import Kind
from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.recipes.selftrain.experiment import TEMPERATURES
from simkit.run.stages import PartOf
from simkit.statistics.scores import Estimate
from simkit.store import Reader, Store

if TYPE_CHECKING:
    from simkit.run.run import Run

PICTURE, REPORT, NUMBERS = "before-after.png", "result.md", "result.json"
BEFORE = "before"
TRAININGS = """
    select s.stage, cast(r.summary ->> 'examples' as int), cast(r.summary ->> 'steps' as int),
           cast(r.summary ->> 'kept_step' as int), r.summary ->> 'stopped'
    from run_summary s join runs r using (run_id)
    where s.part_of = ? and r.recipe like 'train_%' order by r.number nulls first, r.started_at
"""
CONTROLS: Mapping[Kind, str] = {"sft": "unfiltered control", "kto": "control", "dpo": "control"}
"""Name of the control. With KTO and DPO it learns from shuffled labels."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """One training: its seed and stage, examples, optimizer steps, the kept step, and the reason of an early end."""

    seed: int
    stage: str
    examples: int
    steps: int
    kept: int
    stopped: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOutcome:
    """The comparisons by temperature (`t1`, `t0`); in each, the first arm is the model before training.

    Attributes:
        seeds: number of pooled seeds.
        rates: success rates of the runs, by temperature and arm, in the order of the seeds.
        trainings: the trainings, by seed and round.
        control: the name of the control.
    """

    comparisons: Mapping[str, Comparison]
    rates: Mapping[str, Mapping[str, tuple[float, ...]]]
    trainings: tuple[TrainingRecord, ...]
    seeds: int
    control: str

    def to_summary(self) -> dict[str, Any]:
        """Values for the run's summary: rates with intervals, differences with p-values."""
        sizes = ", ".join(str(each.examples) for each in self.trainings if each.stage.endswith("train"))
        figures: dict[str, Any] = {"examples learnt from": f"{sizes} by seed and round; the control from as many"}
        for name, found in self.comparisons.items():
            at = _at(name)
            for arm in found.arms:
                figures[f"{arm.name}, {at}"] = _success(found, arm.name).to_json()
            for each in found.differences:
                figures[f"{each.arm} - {each.reference}, {at}"] = _difference(each)
        return figures

    def write(self, folder: Path, conditions: Sequence[str] = ()) -> list[Path]:
        """Write plot, report and numbers into a folder, and return their paths.

        Args:
            folder: created if it does not exist.
            conditions: circumstances of the result for the report, one sentence each.

        Raises:
            UsageError: matplotlib is not installed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        report = "".join(f"{each}\n" for each in (*conditions, "")) + self.to_markdown()
        (folder / REPORT).write_text(report, encoding="utf-8")
        numbers = {
            "rates": self.rates,
            "comparisons": {name: each.to_json() for name, each in self.comparisons.items()},
        }
        (folder / NUMBERS).write_bytes(orjson.dumps(numbers, option=orjson.OPT_INDENT_2, default=str))
        draw(self, folder / PICTURE)
        return [folder / name for name in (PICTURE, REPORT, NUMBERS)]

    def to_markdown(self) -> str:
        """The result as a document: a table of rates, a table of differences, and the conclusion."""
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
        learnt = ["| seed | training | examples | steps | kept | stopped by the guard |", _rule(6)]
        learnt += [
            f"| {each.seed} | {each.stage} | {each.examples} | {each.steps} | {each.kept} | {each.stopped} |"
            for each in self.trainings
        ]
        claims = [f"- {_at(name)}: {claim}" for name, found in self.comparisons.items() for claim in found.claims]
        by_seed = ["| | arm | success by seed |", _rule(3), *seeds]
        blocks = [rates, changes, by_seed, learnt, claims]
        return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def read_outcome(
    store: Store, run_id: str, *, seeds: int, rounds: int, method: Kind = "sft", allow_incomplete: bool = False
) -> ExperimentOutcome:
    """Compare the models of the last round with the initial one. Seeds are pooled, and tasks are clusters.

    Raises:
        UsageError: a measurement is missing.
        StoreError: the store cannot be read.
    """
    last, control = f"round{rounds}", CONTROLS[method]
    after = "after" if rounds == 1 else f"after {rounds} rounds"
    stages = {BEFORE: "before", after: f"{last}/after", control: f"{last}/control"}
    found: dict[str, Comparison] = {}
    rates: dict[str, dict[str, tuple[float, ...]]] = {}
    with store.reading(allow_incomplete=allow_incomplete) as reader:
        measured = {run.run_id: run.success_rate for run in reader.runs()}
        for temperature in TEMPERATURES:
            runs = {arm: runs_of(run_id, f"{stage}-{temperature}", seeds) for arm, stage in stages.items()}
            arms = [Arm(arm, ids) for arm, ids in runs.items()]
            found[temperature] = compare(reader, arms, metrics=("success",), all_pairs=True)
            rates[temperature] = {arm: _rates(measured, ids) for arm, ids in runs.items()}
        trainings = _trainings(reader, run_id, seeds)
    return ExperimentOutcome(comparisons=found, rates=rates, trainings=trainings, seeds=seeds, control=control)


def runs_of(run_id: str, stage: str, seeds: int) -> tuple[str, ...]:
    """The ids of a stage's parts, one for each seed."""
    return tuple(PartOf(PartOf(run_id, f"seed{number}").id, stage).id for number in range(seeds))


def _trainings(reader: Reader, run_id: str, seeds: int) -> tuple[TrainingRecord, ...]:
    found: list[TrainingRecord] = []
    for seed in range(seeds):
        rows = reader.query(TRAININGS, [PartOf(run_id, f"seed{seed}").id]).rows
        found += [TrainingRecord(seed, *row) for row in rows]
    return tuple(found)


def conditions(run: Run, command: str) -> tuple[str, ...]:
    """Circumstances of a run's result: the command, the machine and the resources used."""
    times = os.times()
    took = times.user + times.system + times.children_user + times.children_system
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "josh-simkit"))
    return (
        f"- Command: `{command}`, seed {run.seed}",
        f"- Machine: {_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        f"- Versions: {versions}",
        f"- Took {run.progress.seconds:.0f} s, {took:.0f} s of processor time in all processes",
        f"- Run: {run.id}",
    )


def _processor() -> str:
    """The processor's name, if the system provides it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _rates(measured: Mapping[str, float | None], runs: tuple[str, ...]) -> tuple[float, ...]:
    found = tuple(rate for run in runs if (rate := measured.get(run)) is not None)
    if len(found) < len(runs):
        raise UsageError(f"{', '.join(runs)}: one of them has no scored episodes, so there is nothing to compare")
    return found


def _success(found: Comparison, arm: str) -> Estimate:
    scores = next(each for each in found.arms if each.name == arm).scores
    return next(score.estimate for score in scores if score.name == "success")


def _difference(found: Difference) -> str:
    value, interval = format_value(found.estimate.value, found.unit), format_interval(found.estimate, found.unit)
    return f"{value}, {interval} ({format_p_values(found)})"


def _at(temperature: str) -> str:
    return f"T = {TEMPERATURES[temperature]:g}"


def _rule(columns: int) -> str:
    return f"|{' --- |' * columns}"


# --- picture ----------------------------------------------------------------------------------------------------------


def draw(outcome: ExperimentOutcome, path: Path) -> None:
    """Draw the success of each arm at each temperature with its interval, and a mark for each seed.

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
    figure.legend(loc="outside lower center", frameon=False, ncols=len(arms))
    first = outcome.comparisons[names[0]]
    axes.set_title(
        f"{first.tasks} held-out goals, {_counted(outcome.seeds)}, {first.level:.0%} intervals over goals",
        fontsize=10,
    )
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _counted(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds (marks)"


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
    """Draw one mark per seed next to the interval, if there are several seeds."""
    if len(rates) == 1:
        return
    for place, rate in enumerate(rates):
        aside = (place - (len(rates) - 1) / 2) * width * 0.16 - width * 0.25
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(x + aside, 100 * rate, marker, color="#222222", markersize=4, markerfacecolor="white")


def _changes(outcome: ExperimentOutcome, name: str) -> str:
    """Text below the bars: after compared with before."""
    found = outcome.comparisons[name].differences[0]
    value, p = format_value(found.estimate.value, found.unit), format_p_values(found).partition(",")[0]
    return f"{found.arm} - {found.reference}: {value}, {p}"
