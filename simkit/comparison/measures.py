"""What is compared: a number of each episode, and how numbers of one task come together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from simkit.comparison.records import EpisodeFacts
from simkit.errors import UsageError
from simkit.statistics.scores import pass_hat

Unit: TypeAlias = Literal["points", ""]
Kind: TypeAlias = Literal["overall", "domain", "goal type", "suite"]

DEFAULT = ("reward", "success")


@dataclass(frozen=True, slots=True)
class Measure:
    """One number by which runs are compared.

    Attributes:
        name: as `--metric` takes it.
        label: as people say it.
        of: the number of an episode; None where it has none.
        unit: `points` for shares of 1, told in hundredths; otherwise the number as it is.
        k: for pass^k, how many trials must succeed together.
        share: it is a share of successes (effect sizes are Cohen's h).
    """

    name: str
    label: str
    of: Callable[[EpisodeFacts], float | None]
    unit: Unit = "points"
    k: int = 0
    share: bool = False
    kind: Kind = "overall"

    def together(self, values: Sequence[float]) -> float | None:
        """The number of a task from those of its trials; None when there are too few."""
        if self.k:
            return pass_hat([[bool(value) for value in values]], self.k)
        return fmean(values) if values else None


def _scored(count: Callable[[EpisodeFacts], int]) -> Callable[[EpisodeFacts], float | None]:
    return lambda episode: None if episode.reward is None else float(count(episode))


REWARD = Measure("reward", "average reward", lambda episode: episode.reward)
SUCCESS_RATE = Measure("success", "success rate", lambda episode: episode.success, share=True)
COUNTS = (
    Measure("turns", "agent turns per episode", _scored(lambda episode: episode.turns), ""),
    Measure("calls", "tool calls per episode", _scored(lambda episode: episode.calls), ""),
    Measure("errors", "refused tool calls per episode", _scored(lambda episode: episode.errors), ""),
)


def pass_k(k: int) -> Measure:
    """pass^k of tau-bench: the chance that k trials of a task all succeed."""
    return Measure(f"pass^{k}", f"pass^{k}", lambda episode: episode.success, k=k, share=True)


def measure_of(name: str) -> Measure:
    """The measure of a name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    known = {measure.name: measure for measure in (REWARD, SUCCESS_RATE, *COUNTS)}
    if name in known:
        return known[name]
    if found := re.fullmatch(r"pass\^?([1-9]\d?)", name):
        return pass_k(int(found[1]))
    raise UsageError(f"there is no metric `{name}`; take one of: {', '.join(known)}, pass^2 (pass^3, ...)")


def domain_of(goal: str) -> str:
    """The domain of a goal's key: what follows the verb (`book_hotel`), or the key itself."""
    return goal.partition("_")[2] or goal


def groups(episodes: Sequence[EpisodeFacts]) -> tuple[Measure, ...]:
    """The share of goals reached, per domain and per goal type, of all goals that there are."""
    keys = sorted({goal for episode in episodes for goal in episode.goals})
    domains = sorted({domain_of(key) for key in keys})
    return (
        *(
            Measure(name, name, _share(lambda key, name=name: domain_of(key) == name), kind="domain")
            for name in domains
        ),
        *(Measure(name, name, _share(lambda key, name=name: key == name), kind="goal type") for name in keys),
    )


def _share(chosen: Callable[[str], bool]) -> Callable[[EpisodeFacts], float | None]:
    def share(episode: EpisodeFacts) -> float | None:
        wanted = Counter(filter(chosen, episode.goals))
        if episode.reward is None or not wanted:
            return None
        return (wanted & Counter(episode.achieved)).total() / wanted.total()

    return share


def reached_by(episode: EpisodeFacts, turn: int) -> float | None:
    """The share of the goals' weight that was credited up to a turn; None when the episode is not scored."""
    if episode.reward is None or not episode.goals:
        return None
    whole = sum(episode.weights.get(goal, 1.0) for goal in episode.goals)
    return sum(episode.weights.get(goal, 1.0) for at, goal in episode.reached if at <= turn) / whole if whole else None
