"""Summary of a run as one printable value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from simkit.core.events import FLOOR, MEASURES, Episode
from simkit.run.accounting import UnitCounts
from simkit.run.engine import is_faulted
from simkit.statistics.scores import Estimate, mean_of_tasks, pass_hat

if TYPE_CHECKING:
    from simkit.run.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Scores and counts of a run's episodes; the same seed gives the same summary.

    Attributes:
        episodes: episodes played; `scored` of them have a reward, and only those count in averages.
        reward: average reward, success_rate: share of episodes with the full reward; None if nothing was scored.
        pass_k: pass^1 ... pass^k for k trials per task.
        measures: averages of the measures that the reward records beside its value (`simkit.core.events.FLOOR`, ...).
        floor_tasks: tasks that an agent that does nothing solves, and all tasks for which that is known.
        faulted: episodes ended by a component's failure; `faults` counts failed branches of all episodes.
        account: counts of planned episodes by their state.
        extra: additional named values from the recipe.
    """

    episodes: int
    scored: int
    reward: Estimate | None
    success_rate: Estimate | None
    pass_k: tuple[float, ...]
    faulted: int
    faults: int
    turns: int
    branches: int
    tool_calls: int
    outcomes: Mapping[str, int]
    account: UnitCounts = field(default_factory=UnitCounts)
    measures: Mapping[str, float] = field(default_factory=dict[str, float])
    floor_tasks: tuple[int, int] = (0, 0)
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON-able values; an interval is `{value, low, high}`."""
        return {
            "episodes": self.episodes,
            "scored": self.scored,
            "reward": _interval(self.reward),
            "success_rate": _interval(self.success_rate),
            "pass_k": list(self.pass_k),
            "faulted": self.faulted,
            "faults": self.faults,
            "turns": self.turns,
            "branches": self.branches,
            "tool_calls": self.tool_calls,
            "outcomes": dict(self.outcomes),
            **({"measures": dict(self.measures)} if self.measures else {}),
            **self.account.to_json(),
            **self.extra,
        }

    def _repr_html_(self) -> str:
        from simkit.run.notebook import summary_html

        return str(summary_html(self))


HARVEST = """
    select count(*) filter (golden) as golden_branches,
           count(*) filter (not golden and not successful) as failed_branches,
           any_value(columns(c.* exclude (run_id, name)))
    from branches join episodes using (episode_id) join harvest_counts c using (run_id)
    where run_id = ?
"""


async def harvest_summary(run: Run) -> Summary:
    """Summary of a run that plays trees, with counts of golden and failed branches and of training examples.

    Raises:
        StoreError: the store cannot be read.
    """
    harvest = await run.query(HARVEST, run.id, runs=(run.id,), scoped=True)
    if not harvest.state.complete:
        run.note("the harvest was not counted, because the store does not hold all of it", *harvest.state.warnings)
        return run.summary()
    return run.summary(**harvest.dicts()[0])


def summarise(episodes: Sequence[Episode], account: UnitCounts | None = None, /, **extra: Any) -> Summary:
    """Summary of episodes in any order; without an account, all planned episodes are assumed to be present."""
    ordered = sorted(episodes, key=lambda episode: (episode.task_id, episode.trial))
    scored = _by_task(ordered)
    rewards = [[reward for reward, _ in group] for group in scored]
    successes = [[success for _, success in group] for group in scored]
    trials = max((len(group) for group in successes), default=0)
    outcomes = sorted({episode.outcome for episode in ordered})
    measured = {name: found for name in MEASURES if (found := measure_by_task(ordered, name))}
    floor = [fmean(values) for values in measured.get(FLOOR, ())]
    return Summary(
        episodes=len(ordered),
        scored=sum(len(group) for group in rewards),
        reward=mean_of_tasks(rewards, bounds=(0.0, _full(ordered))) if rewards else None,
        success_rate=mean_of_tasks([list(map(float, group)) for group in successes]) if successes else None,
        pass_k=tuple(found for k in range(1, trials + 1) if (found := pass_hat(successes, k)) is not None),
        faulted=sum(is_faulted(episode) for episode in ordered),
        faults=sum(episode.faults for episode in ordered),
        turns=sum(episode.turns for episode in ordered),
        branches=sum(episode.branches for episode in ordered),
        tool_calls=sum(episode.calls for episode in ordered),
        outcomes={name: sum(episode.outcome == name for episode in ordered) for name in outcomes},
        account=account or UnitCounts(planned=len(ordered), done=len(ordered)),
        measures={name: fmean(map(fmean, found)) for name, found in measured.items()},
        floor_tasks=(sum(value >= _full(ordered) for value in floor), len(floor)),
        extra=extra,
    )


def _full(episodes: Sequence[Episode]) -> float:
    """The highest reward that was attainable; 1 if none is above 0."""
    return max((episode.full_reward for episode in episodes if episode.full_reward > 0), default=1.0)


def _by_task(episodes: Sequence[Episode]) -> list[list[tuple[float, bool]]]:
    """Reward and success of the scored episodes, one list per task."""
    groups: dict[str, list[tuple[float, bool]]] = {}
    for episode in episodes:
        if episode.reward is not None:
            groups.setdefault(episode.task_id, []).append((episode.reward, bool(episode.success)))
    return list(groups.values())


def measure_by_task(episodes: Sequence[Episode], name: str) -> list[list[float]]:
    """A measure of the episodes that have it, one list per task."""
    groups: dict[str, list[float]] = {}
    for episode in episodes:
        for part in episode.parts:
            if part["name"] == name and not part["weight"]:
                groups.setdefault(episode.task_id, []).append(part["value"])
    return list(groups.values())


def _interval(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate.to_json()
