"""Results of a self-training experiment: success of all arms, and the stated comparisons, as tables and a plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import orjson

from simkit.comparison.claims import format_interval, format_p, format_value
from simkit.comparison.compare import compare
from simkit.comparison.family import corrected
from simkit.comparison.pictures import COLOURS, MARKERS
from simkit.comparison.plan import ComparisonPlan
from simkit.comparison.records import Arm
from simkit.comparison.results import Difference
from simkit.plugins.extras import require
from simkit.recipes.selftrain.plan import JOSH, LABELS, SAMPLING, ExperimentPlan
from simkit.run.stages import PartOf
from simkit.statistics.intervals import student
from simkit.statistics.scores import Estimate
from simkit.store import Reader, Store

if TYPE_CHECKING:
    from simkit.run.run import Run

PICTURE, REPORT, NUMBERS = "before-after.png", "result.md", "result.json"
STAGE = ("seed", "stage", "examples", "steps", "tokens")
STAGES = """
    select s.stage, (r.summary ->> 'examples')::int, (r.summary ->> 'steps')::int, (r.summary ->> 'tokens')::bigint
    from run_summary s join runs r using (run_id)
    where s.part_of = ? and (s.stage like '%/train-%' or s.stage like '%/harvest-%')
    order by r.number nulls first, r.started_at
"""


@dataclass(frozen=True, slots=True)
class StatedDifference:
    """A stated comparison at one temperature.

    Attributes:
        found: the difference with its interval over goals; its p-value is corrected for all stated comparisons.
        over_seeds: the same difference with its interval over seeds (Student's t); None for a single seed.
    """

    temperature: str
    found: Difference
    over_seeds: Estimate | None

    @property
    def name(self) -> str:
        """The arm, and the arm that it is compared with."""
        return f"{self.found.arm} - {self.found.reference}"

    @property
    def sign(self) -> int:
        """1 or -1 if both intervals are above or below 0, and 0 otherwise."""
        both = [each for each in (self.found.estimate, self.over_seeds) if each is not None]
        return all(each.low > 0 for each in both) - all(each.high < 0 for each in both)

    def __str__(self) -> str:
        unit = self.found.unit
        seeds = "" if self.over_seeds is None else f"; over seeds {format_interval(self.over_seeds, unit)}"
        return (
            f"{format_value(self.found.estimate.value, unit)}, {format_interval(self.found.estimate, unit)}{seeds} "
            f"(p {format_p(self.found.corrected)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOutcome:
    """The result.

    Attributes:
        arms: success of each arm by temperature, with intervals over goals; seeds are pooled.
        rates: success of each seed, by temperature and arm.
        stated: the stated comparisons, which are one family.
        stages: harvests and trainings of the seeds, each with the columns of `STAGE`; an unknown number is None.
    """

    plan: ExperimentPlan
    goals: int
    arms: Mapping[str, Mapping[str, Estimate]]
    rates: Mapping[str, Mapping[str, tuple[float, ...]]]
    stated: tuple[StatedDifference, ...]
    stages: tuple[tuple[Any, ...], ...]

    def to_summary(self) -> dict[str, Any]:
        """Values for the run's summary: rates with intervals, the stated differences, and the verdict."""
        rates = {f"{arm}, {_at(at)}": each.to_json() for at, arms in self.arms.items() for arm, each in arms.items()}
        stated = {f"{each.name}, {_at(each.temperature)}": str(each) for each in self.stated}
        return {**rates, **stated, "trees or rejection sampling": self.verdict()}

    def verdict(self) -> str:
        """One sentence for each temperature: whether trees beat rejection sampling for as many tokens."""
        said = {1: "JOSH's trees beat rejection sampling", -1: "rejection sampling beats JOSH's trees"}
        pair = (LABELS[JOSH], LABELS[SAMPLING])
        return " ".join(
            f"At {_at(each.temperature)} and equal tokens, {said.get(each.sign, 'neither is shown to be better')}: "
            f"{each.found.after:.3f} for JOSH, {each.found.before:.3f} for rejection sampling."
            for each in self.stated
            if (each.found.arm, each.found.reference) == pair
        )

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
        stages = [dict(zip(STAGE, each, strict=True)) for each in self.stages]
        numbers = {"rates": self.rates, "arms": self.arms, "stated": self.stated, "stages": stages}
        (folder / NUMBERS).write_bytes(orjson.dumps(numbers, option=orjson.OPT_INDENT_2, default=str))
        draw(self, folder / PICTURE)
        return [folder / name for name in (PICTURE, REPORT, NUMBERS)]

    def to_markdown(self) -> str:
        """The result as a document: rates, stated comparisons, rates by seed, stages, and the verdict."""
        at = list(self.arms)
        names = list(self.arms[at[0]])
        stated = {(each.name, each.temperature): str(each) for each in self.stated}
        blocks = [
            _table(("success", *map(_at, at)), ((arm, *(str(self.arms[t][arm]) for t in at)) for arm in names)),
            _table(
                (f"difference (p of Holm, {len(self.stated)} comparisons)", *map(_at, at)),
                ((pair, *(stated[pair, t] for t in at)) for pair in dict.fromkeys(each.name for each in self.stated)),
            ),
            _table(
                ("success by seed", *map(_at, at)),
                ((arm, *(", ".join(f"{rate:.3f}" for rate in self.rates[t][arm]) for t in at)) for arm in names),
            ),
            _table(STAGE, ((seed, stage, *map(_cell, counts)) for seed, stage, *counts in self.stages)),
            self.verdict(),
        ]
        return "\n\n".join(blocks) + "\n"


def read_outcome(store: Store, run_id: str, plan: ExperimentPlan) -> ExperimentOutcome:
    """Read the measurements of all seeds, and make the stated comparisons.

    Raises:
        UsageError: a measurement is missing.
        StoreError: the store cannot be read.
    """
    arms: dict[str, dict[str, Estimate]] = {}
    rates: dict[str, dict[str, tuple[float, ...]]] = {}
    stated: list[tuple[str, Difference]] = []
    goals, incomplete = 0, plan.allow_incomplete
    pooled = ComparisonPlan(all_pairs=True, runs_as="repeats")  # seeds have an interval of their own here
    with store.reading(allow_incomplete=incomplete) as reader:
        measured = {run.run_id: run.success_rate for run in reader.runs()}
        for at in plan.temperatures:
            runs = {arm: _runs_of(run_id, f"{stage}-{at}", plan.seeds) for arm, stage in plan.stages().items()}
            chosen = [Arm(arm, ids) for arm, ids in runs.items()]
            found = compare(reader, chosen, metrics=("success",), plan=pooled, allow_incomplete=incomplete)
            goals = found.tasks
            arms[at] = {
                arm.name: next(each.estimate for each in arm.scores if each.name == "success") for arm in found.arms
            }
            rates[at] = {arm: tuple(measured[each] or 0.0 for each in ids) for arm, ids in runs.items()}
            stated += [(at, found.difference("success", *pair)) for pair in plan.stated()]
        stages = tuple(_stages(reader, run_id, plan.seeds))
    family = zip(stated, corrected([each for _, each in stated]), strict=True)
    return ExperimentOutcome(
        plan=plan,
        goals=goals,
        arms=arms,
        rates=rates,
        stated=tuple(StatedDifference(at, found, over_seeds(found.by_run)) for (at, _), found in family),
        stages=stages,
    )


def over_seeds(differences: Sequence[float], level: float = 0.95) -> Estimate | None:
    """The mean of the seeds' differences with its interval of Student's t; None for fewer than two seeds."""
    if len(differences) < 2:
        return None
    centre, count = fmean(differences), len(differences)
    reach = student(0.5 + level / 2, count - 1) * stdev(differences) / sqrt(count)
    return Estimate(centre, centre - reach, centre + reach)


def _runs_of(run_id: str, stage: str, seeds: int) -> tuple[str, ...]:
    """The ids of a stage's parts, one for each seed."""
    return tuple(PartOf(PartOf(run_id, f"seed{number}").id, stage).id for number in range(seeds))


def _stages(reader: Reader, run_id: str, seeds: int) -> Iterable[tuple[Any, ...]]:
    for seed in range(seeds):
        for row in reader.query(STAGES, [PartOf(run_id, f"seed{seed}").id]).rows:
            yield (seed, *row)


def conditions(run: Run, command: str) -> tuple[str, ...]:
    """Circumstances of a run's result: the command, the machine and the resources used."""
    times = os.times()
    took = times.user + times.system + times.children_user + times.children_system
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "josh-simkit"))
    return (
        f"- Command: `{command}`, seed {run.seed}",
        f"- Machine: {_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        f"- Versions: {versions}",
        f"- Took {run.progress.seconds:.0f} s, {took:.0f} s of processor time in all processes, since the last start",
        f"- Run: {run.id}",
    )


def _processor() -> str:
    """The processor's name, as Linux tells it, or its kind."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return platform.processor() or platform.machine()


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cell(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _at(temperature: str) -> str:
    return f"T = {temperature.removeprefix('t')}"


# --- picture ----------------------------------------------------------------------------------------------------------


def draw(outcome: ExperimentOutcome, path: Path) -> None:
    """Draw the success of each arm at each temperature with its interval over goals, and a mark for each seed.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "plots").Figure(figsize=(9.0, 5.2), layout="constrained")
    axes, names = figure.subplots(), list(outcome.arms)
    arms = list(outcome.arms[names[0]])
    width = 0.84 / len(arms)
    for place, arm in enumerate(arms):
        for group, name in enumerate(names):
            x = group + (place - (len(arms) - 1) / 2) * width
            found = outcome.arms[name][arm]
            value, low, high = (100 * each for each in (found.value, found.low, found.high))
            axes.bar(x, value, width * 0.92, color=COLOURS[place % len(COLOURS)], **({} if group else {"label": arm}))
            axes.errorbar(x, value, yerr=[[value - low], [high - value]], fmt="none", ecolor="#222222", capsize=3)
            axes.annotate(f"{value:.0f}", (x, high), (0, 4), textcoords="offset points", ha="center", fontsize=9)
            for seed, rate in enumerate(outcome.rates[name][arm] if outcome.plan.seeds > 1 else ()):
                beside = x + width * (0.16 * (seed - (outcome.plan.seeds - 1) / 2) - 0.25)
                marker = MARKERS[seed % len(MARKERS)]
                axes.plot(beside, 100 * rate, marker, color="#222222", markersize=3.5, markerfacecolor="white")
    axes.set_xticks(range(len(names)), map(_at, names))
    axes.set(ylim=(0, 108), yticks=range(0, 101, 20), ylabel=f"success on goals of `{outcome.plan.split}` (%)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    seeds = "1 seed" if outcome.plan.seeds == 1 else f"{outcome.plan.seeds} seeds (marks)"
    axes.set_title(f"{outcome.goals} goals, {seeds}, 95% intervals over goals, equal tokens", fontsize=10)
    figure.savefig(path, dpi=130, metadata={"Software": None})
