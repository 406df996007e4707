"""What a comparison found, as values: everything that the tables, the pictures and the sentences tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simkit.comparison.measures import Kind, Noise, Unit
from simkit.comparison.pairs import Outcomes
from simkit.statistics.scores import Estimate

if TYPE_CHECKING:
    from simkit.core.text_table import Table
    from simkit.store import ReadState


@dataclass(frozen=True, slots=True)
class Score:
    """A number of one arm alone, over the tasks that all arms have."""

    name: str
    label: str
    unit: Unit
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScores:
    """One arm: its runs (ids), and what they scored on the `tasks` that all arms have.

    Attributes:
        episodes: played on those tasks; `scored` of them have a reward, `faulted` ended in a component's failure.
        elsewhere: its tasks that another arm lacks.
    """

    name: str
    runs: tuple[str, ...]
    tasks: int
    elsewhere: int
    episodes: int
    scored: int
    faulted: int
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One arm against another by one number; `arm` minus `reference`.

    Attributes:
        kind: `overall`, `suite` (items of an evaluation), or `domain` and `goal type`, which show where to look.
        tasks: clusters behind it (items, for a suite); `pairs` of episodes, `left_out` episodes without a partner.
        before, after: the averages of reference and arm over those pairs.
        estimate: after minus before, with its interval.
        p: two-sided, of the sign-flip test over tasks; `corrected` for the `family` of comparisons made (Holm).
        effect: Cohen's h for shares of successes (`effect_name` h), else d, the mean over the standard deviation of the
            tasks' differences; None when nothing differs.
        detectable: the difference that would have been found 4 times in 5.
        by_run: the same difference in each pair of runs, where the arms have equally many and several.
        noise: how far apart independent repeats of this size lie; None when that was not measured.
        guarded: the noise was measured on repeated runs, so what is claimed must exceed it. Trials of one run do not
            tell what differs between runs, and what differs between trials the test knows already.
        outcomes: McNemar's table, where single successes and failures stand against each other.
        less_is_better: for a suite that says so (perplexity).
        incomparable: why the numbers may stand side by side, but nothing may be claimed of them; empty when it may.
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
    outcomes: Outcomes | None
    alpha: float
    less_is_better: bool = False
    incomparable: str = ""

    @property
    def significant(self) -> bool:
        """Whether chance is no explanation, with all comparisons in view; never of what cannot be compared."""
        return (
            not self.incomparable and self.corrected <= self.alpha and (self.estimate.low > 0 or self.estimate.high < 0)
        )

    @property
    def claimed(self) -> bool:
        """Whether it may be claimed: significant, and beyond what repeated runs, where there are any, show."""
        within = self.guarded and self.noise is not None and abs(self.estimate.value) <= self.noise
        return self.significant and not within


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The share of goals of one domain or type that an arm reached; `tasks` have such goals."""

    kind: Kind
    name: str
    arm: str
    tasks: int
    value: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The reward an arm has earned by turn 1, 2, ... on average over `tasks`, with intervals."""

    arm: str
    tasks: int
    points: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two or more arms on the same tasks; the first is the reference.

    Attributes:
        tasks: how many tasks all runs have.
        differences: what is claimed or not, one family for the correction; `places` show where differences lie
            (domains and goal types), a family of their own, for looking and not for claiming.
        noise: by measure; empty when nothing was repeated.
        notes: what the reader must know; claims: what may be said, in plain sentences.
        state: the state of the store that the runs were read from; its notes say what was missing.
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

    def difference(self, name: str, arm: str, reference: str | None = None) -> Difference:
        """One difference by its name (`reward`, `success`, `suite/metric`, a domain) and its arms.

        Raises:
            KeyError: there is none.
        """
        against = self.arms[0].name if reference is None else reference
        for each in (*self.differences, *self.places):
            if (each.name, each.arm, each.reference) == (name, arm, against):
                return each
        raise KeyError(f"no difference in {name} between {arm} and {against}")

    def tables(self) -> tuple[tuple[str, Table], ...]:
        """Titles and tables, as the terminal shows them."""
        from simkit.comparison.tables import tables

        return tables(self)

    def to_markdown(self) -> str:
        """The claims, the notes and the tables as one markdown document."""
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
        """Everything as JSON-able values; shares are of 1, not points."""
        judged = {"differences": self.differences, "places": self.places}
        plain: Mapping[str, Any] = asdict(replace(self, state=None))
        state = {"state": None if self.state is None else self.state.to_json()}
        told = {
            name: [{**asdict(each), "significant": each.significant, "claimed": each.claimed} for each in found]
            for name, found in judged.items()
        }
        return {**plain, **told, **state}
