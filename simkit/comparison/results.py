"""Results of a comparison as immutable values, from which tables, pictures and claims are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simkit.comparison.measures import Kind, Noise, Unit
from simkit.comparison.pairs import PairedOutcomes
from simkit.statistics.levels import RunLevel
from simkit.statistics.scores import Estimate

if TYPE_CHECKING:
    from simkit.core.text_table import Table
    from simkit.store import ReadState


@dataclass(frozen=True, slots=True)
class Score:
    """A measure of one arm, over the tasks that all arms have."""

    name: str
    label: str
    unit: Unit
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScores:
    """Scores of one arm on the tasks that all arms have.

    Attributes:
        runs: ids of its runs.
        tasks: number of common tasks; `elsewhere` is the number of its tasks that another arm lacks.
        episodes: number of episodes on the common tasks; `scored` have a reward, `faulted` ended with a fault.
        outcomes: number of episodes by how they ended.
    """

    name: str
    runs: tuple[str, ...]
    tasks: int
    elsewhere: int
    episodes: int
    scored: int
    faulted: int
    scores: tuple[Score, ...]
    outcomes: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference of two arms in one measure: `arm` minus `reference`.

    Attributes:
        kind: `overall`, `suite` (items of an evaluation), or `domain` and `goal type`, which are exploratory.
        tasks: number of paired tasks (items, for a suite); `pairs` counts episodes, `left_out` those not paired.
        before, after: averages of the reference and the arm over those tasks.
        estimate: `after` minus `before`, with its interval.
        p: two-sided p-value of the sign-flip test; `corrected` for the number of comparisons `family` (Holm).
        effect: Cohen's h for shares of successes (`effect_name` is h), otherwise Cohen's d of the differences; None if
            all differences are equal.
        detectable: the difference that would have been detected with 80% power; None if none is that large, or all
            differences are equal.
        by_run: the difference of each pair of runs, if the arms have the same number of runs and more than one.
        noise: noise floor of independent repeats of this size; None if it was not measured.
        guarded: the noise was measured on repeated runs, so a claimed difference must exceed it. Noise measured on
            trials does not show how runs differ, and the test accounts for it already.
        outcomes: McNemar's table, if single successes and failures are paired.
        less_is_better: true for a suite whose lower scores are better (perplexity).
        margin: the largest loss that counts as preserved, in the unit of the measure. `p` then is that of a loss this
            large, and a claim says that it was preserved. None for a test for a difference.
        over_tasks: the interval over tasks alone.
        runs: the interval over runs, if they are a sample (trainings with different seeds); `estimate` and `p` then
            concern other tasks and other runs. None if only tasks are a sample.
        incomparable: reason why nothing may be claimed; empty if the arms can be compared.
    """

    kind: Kind
    name: str
    label: str
    unit: Unit
    reference: str
    arm: str
    tasks: int
    pairs: int
    left_out: int
    before: float
    after: float
    estimate: Estimate
    p: float
    corrected: float
    family: int
    effect: float | None
    effect_name: Literal["h", "d"]
    detectable: float | None
    by_run: tuple[float, ...]
    noise: float | None
    guarded: bool
    outcomes: PairedOutcomes | None
    alpha: float
    less_is_better: bool = False
    incomparable: str = ""
    margin: float | None = None
    over_tasks: Estimate | None = None
    runs: RunLevel | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference (or that none beyond the margin was lost) is significant after correction."""
        if self.incomparable or self.corrected > self.alpha:
            return False
        return self.worst > 0 if self.margin is not None else self.estimate.low > 0 or self.estimate.high < 0

    @property
    def worst(self) -> float:
        """How far the worse end of the interval stays within the margin; negative beyond it."""
        gain = -self.estimate.high if self.less_is_better else self.estimate.low
        return gain + (self.margin or 0.0)

    @property
    def claimed(self) -> bool:
        """Whether the difference may be claimed: significant, and larger than any noise of repeated runs."""
        within = self.guarded and self.noise is not None and abs(self.estimate.value) <= self.noise
        return self.significant and not within


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Share of the goals of one domain or type that an arm reached, over the `tasks` with such goals."""

    kind: Kind
    name: str
    arm: str
    tasks: int
    value: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Average reward that an arm has earned by turn 1, 2, ... over `tasks`, with intervals."""

    arm: str
    tasks: int
    points: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two or more arms on the same tasks; the first is the reference.

    Attributes:
        tasks: number of tasks that all runs have.
        differences: measures and the primary metric of each suite, corrected as one family.
        secondary: the other metrics of suites, corrected as a family of their own: exploratory, not to be claimed.
        places: domains and goal types, corrected as a family of their own: exploratory, not to be claimed.
        noise: noise of repeats by measure; empty if nothing was repeated.
        notes: facts that the reader needs in order to interpret the numbers.
        claims: sentences that say what may be claimed.
        state: state of the store from which the runs were read; its notes say what was missing.
    """

    level: float
    tasks: int
    arms: tuple[ArmScores, ...]
    differences: tuple[Difference, ...]
    places: tuple[Difference, ...]
    groups: tuple[GroupScore, ...]
    curves: tuple[Curve, ...]
    noise: tuple[Noise, ...]
    notes: tuple[str, ...]
    claims: tuple[str, ...]
    state: ReadState | None = None
    secondary: tuple[Difference, ...] = ()
    paired_seeds: bool = False

    def __repr__(self) -> str:
        arms = ", ".join(arm.name for arm in self.arms)
        return f"<Comparison of {arms} on {self.tasks} tasks: {len(self.differences)} differences>"

    def difference(self, name: str, arm: str, reference: str | None = None) -> Difference:
        """One difference by its name (`reward`, `success`, `suite/metric`, a domain) and its arms.

        Raises:
            KeyError: there is no such difference.
        """
        against = self.arms[0].name if reference is None else reference
        for each in (*self.differences, *self.secondary, *self.places):
            if (each.name, each.arm, each.reference) == (name, arm, against):
                return each
        raise KeyError(f"no difference in {name} between {arm} and {against}")

    def tables(self) -> tuple[tuple[str, Table], ...]:
        """Tables with their titles, as the terminal shows them."""
        from simkit.comparison.tables import tables

        return tables(self)

    def to_markdown(self) -> str:
        """Claims, notes and tables as one markdown document."""
        from simkit.comparison.tables import markdown

        return markdown(self)

    def save_pictures(self, folder: Path | str) -> list[Path]:
        """Draw the pictures into a folder as PNG files, and return their paths.

        Raises:
            UsageError: matplotlib is not installed.
        """
        from simkit.comparison.pictures import save_pictures

        return save_pictures(self, Path(folder))

    def to_json(self) -> dict[str, Any]:
        """The whole comparison as JSON values; shares are shares of 1, not points."""
        tested = {"differences": self.differences, "secondary": self.secondary, "places": self.places}
        plain: Mapping[str, Any] = asdict(replace(self, state=None))
        state = {"state": None if self.state is None else self.state.to_json()}
        marked = {
            name: [{**asdict(each), "significant": each.significant, "claimed": each.claimed} for each in found]
            for name, found in tested.items()
        }
        return {**plain, **marked, **state}

    def _repr_html_(self) -> str:
        from simkit.comparison.notebook import comparison_html

        return str(comparison_html(self))
