"""The plan of a comparison: which arms, metrics and suites are compared, and what would count as preserved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, TypeAlias, TypeVar

from simkit.comparison.records import ArmRecords, RunRecord
from simkit.errors import UsageError

RunsAs: TypeAlias = Literal["seeds", "repeats"]
T = TypeVar("T")

MARGIN = 2.0
"""Default of `ComparisonPlan.margin` for runs of the recipe `preserve`, if they name none themselves."""

PRIMARY = ("score", "win", "exact_match", "acc", "acc_norm", "f1", "bits_per_byte")
"""Which metric of a suite is its primary one, if the suite does not say so: the first of these that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    """What is compared. All p-values of one plan are corrected as one family.

    Attributes:
        pairs: names of the reference and the arm of each comparison; empty for the first arm with every other one.
        all_pairs: compare every arm with every other one.
        runs_as: `seeds` if the runs of an arm are trainings with different seeds, so that a claim must hold for other
            seeds, too; `repeats` if they are the same agent. None takes runs of different models or agents for `seeds`.
        primary: the metric of a suite about which something may be claimed, by suite; the others are exploratory.
            None for the one that the suite says, which for benchmarks is the first.
        margin: largest loss, in points, at which a suite counts as preserved; of the reference's value in per cent if
            it is not a share. None for the margin that runs of the recipe `preserve` state. Other runs' suites are then
            tested for a difference.

    Raises:
        UsageError: a margin that is not above 0, or pairs together with `all_pairs`.
    """

    pairs: Sequence[tuple[str, str]] = ()
    all_pairs: bool = False
    runs_as: RunsAs | None = None
    primary: Mapping[str, str] = field(default_factory=dict[str, str])
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 < self.margin < 100:
            raise UsageError(f"--margin is {self.margin:g}; give a loss in points that would not matter, e.g. 2")
        if self.pairs and self.all_pairs:
            raise UsageError("either name the pairs of arms to compare (--pair), or compare them all (--all-pairs)")

    def arm_pairs(self, arms: Sequence[ArmRecords]) -> Iterator[tuple[ArmRecords, ArmRecords]]:
        """Pairs of arms to compare, the reference first.

        Raises:
            UsageError: a pair names an unknown arm, or an arm twice.
        """
        if self.all_pairs:
            yield from combinations(arms, 2)
            return
        known = {arm.name: arm for arm in arms}
        for reference, arm in self.pairs or [(arms[0].name, arm.name) for arm in arms[1:]]:
            if missing := [name for name in (reference, arm) if name not in known]:
                raise UsageError(f"--pair names the arm `{missing[0]}`; there are {', '.join(known)}")
            if reference == arm:
                raise UsageError(f"--pair names the arm `{arm}` twice; name two arms: --pair BEFORE=AFTER")
            yield known[reference], known[arm]

    def are_seeds(self, *arms: ArmRecords) -> bool:
        """Whether the runs of these arms are a sample, over which a claim has to generalise."""
        several = [arm for arm in arms if len(arm.runs) > 1]
        if self.runs_as is not None:
            return bool(several) and self.runs_as == "seeds"
        return any(len({_player(run) for run in arm.runs}) > 1 for arm in several)

    def margin_of(self, reference: ArmRecords, arm: ArmRecords) -> float | None:
        """The margin of these arms' suites as a share of 1; None if they are tested for a difference.

        If both sides state a margin, the smaller one counts.
        """
        runs = (*reference.runs, *arm.runs)
        if self.margin is not None:
            return self.margin / 100
        if any(run.recipe != "preserve" for run in runs):
            return None
        stated = [run.config["margin"] for run in runs if run.config.get("margin") is not None]
        return min(map(float, stated), default=MARGIN) / 100

    def primary_of(self, suite: str, metrics: Sequence[str], said: Sequence[str]) -> str:
        """The primary metric of a suite: the one of this plan, of the suite itself (`said`), or by its name.

        Raises:
            UsageError: the plan names a metric that the suite does not have.
        """
        if wanted := self.primary.get(suite):
            if wanted not in metrics:
                raise UsageError(f"--primary: the suite {suite} has no metric `{wanted}`; it has {', '.join(metrics)}")
            return wanted
        found = [name for name in (*said, *PRIMARY) if name in metrics]
        return (found or sorted(metrics))[0]


def _player(run: RunRecord) -> tuple[str, str]:
    return str(run.config.get("model")), str(run.config.get("agent"))
