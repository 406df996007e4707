"""What every supervisor is: something that plays one work unit with a cast and tells a recorder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simkit.components.cast import Cast
from simkit.core.events import Recorder
from simkit.core.ids import episode_id
from simkit.core.tasks import Task


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """One task with its trial number: the unit of work that engines hand out, a pure function of its fields.

    `attempt` counts the starts of its episode from 0.
    """

    run_id: str
    run_seed: int
    task: Task
    trial: int = 0
    attempt: int = 0

    @property
    def episode_id(self) -> str:
        """The name of the episode this unit plays."""
        return episode_id(self.run_id, self.task.id, self.trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """What came of a work unit. `reward` is None when the episode must be left out of averages.

    `full_reward` is the greatest that there is to get, `success` whether it got that (None without a reward);
    `branches` counts agent turns played in all branches, `faults` those that ended in a fault.
    """

    episode_id: str
    task_id: str
    trial: int
    reward: float | None
    outcome: str
    goals: tuple[str, ...]
    achieved: tuple[str, ...]
    final_branch_id: str | None
    turns: int
    branches: int
    faults: int
    tool_calls: int = 0
    error: str | None = None
    full_reward: float = 1.0

    @property
    def success(self) -> bool | None:
        """Whether it got the full reward."""
        return None if self.reward is None else succeeded(self.reward, self.full_reward)


def succeeded(reward: float, full_reward: float) -> bool:
    """Whether a reward is the full one, as the store decides it; shares of weights need not add up to it exactly."""
    return reward >= full_reward - 1e-9 * max(1.0, abs(full_reward))


class Supervisor(Protocol):
    """Plays work units. It sees states and replies, never a provider or a file."""

    @property
    def name(self) -> str:
        """What the store calls it."""
        ...

    @property
    def branching(self) -> bool:
        """Whether it forks; then every component of the cast must be forkable."""
        ...

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        """Play one work unit to its end.

        Raises:
            NotForkable: a component of the cast cannot be branched; raised before any work is done.
            StoreError: events cannot be recorded.
        """
        ...


class Watch(Protocol):
    """Told of progress as it happens, many times a second: must return at once."""

    def live(self, change: int) -> None:
        """So many more (or fewer) branches are live."""
        ...

    def turn(self) -> None:
        """An agent turn was played."""
        ...

    def hit(self, goals: int) -> None:
        """So many goals were taken."""
        ...


class NoWatch:
    """Nobody is watching."""

    def live(self, change: int) -> None:
        """Ignored."""

    def turn(self) -> None:
        """Ignored."""

    def hit(self, goals: int) -> None:
        """Ignored."""
