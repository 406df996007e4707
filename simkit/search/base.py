"""What every supervisor is: something that plays one work unit with a cast and tells a recorder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simkit.components.cast import Cast
from simkit.core.events import Episode, Recorder
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
