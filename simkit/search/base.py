"""The contract of searches: a search plays one work unit with a cast and records what happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from simkit.components.cast import Cast
from simkit.core.events import Episode
from simkit.core.ids import episode_id
from simkit.core.recorder import Recorder
from simkit.core.tasks import Task
from simkit.errors import Fault, NotForkable, UsageError


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """One task with its trial number: the unit of work of an engine. Its episode depends only on these fields.

    `attempt` counts the starts of its episode from 0.
    """

    run_id: str
    run_seed: int
    task: Task
    trial: int = 0
    attempt: int = 0

    @property
    def episode_id(self) -> str:
        """Id of the episode that this unit plays."""
        return episode_id(self.run_id, self.task.id, self.trial)


class Search(Protocol):
    """Plays work units. It sees only states and replies, never a provider or a file.

    `simkit.TreeSearch` is a base class for custom searches. `name` is the name in the store (the column `supervisor`);
    episodes of different searches are never compared.
    """

    name: ClassVar[str]

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        """Play one work unit to its end.

        Raises:
            NotForkable: a component of the cast cannot be forked; raised before any work is done.
            StoreError: events cannot be recorded.
        """
        ...


def refuse_unforkable(search: str, cast: Cast) -> None:
    """Check that a cast can be played by a search that branches.

    Raises:
        NotForkable: a component cannot be forked.
        UsageError: the agent is deterministic, so that all branches would be the same.
    """
    if cast.unforkable:
        names = ", ".join(cast.unforkable)
        raise NotForkable(
            f"{search} branches, but {names} cannot be forked; use the rollout recipe, or give it a fork()"
        )
    if cast.deterministic:
        raise UsageError(
            f"{search} needs branches that differ, but the agent `{cast.agent.name}` is deterministic; "
            "sample at a temperature above 0, or use the rollout recipe"
        )


class Watch(Protocol):
    """Receives progress updates, many times a second; its methods must return quickly."""

    def live(self, change: int) -> None:
        """Add `change` to the number of live branches."""
        ...

    def turn(self) -> None:
        """Count one agent turn."""
        ...

    def hit(self, goals: int) -> None:
        """Add `goals` to the number of goals taken."""
        ...

    def fault(self, fault: Fault) -> None:
        """Receive a fault that ended a branch or an episode."""
        ...

    def flag(self, flags: Sequence[str]) -> None:
        """Count doubts about a message of the agent or the user."""
        ...


class NoWatch:
    """A watch that ignores all updates."""

    def live(self, change: int) -> None:
        """Ignored."""

    def turn(self) -> None:
        """Ignored."""

    def hit(self, goals: int) -> None:
        """Ignored."""

    def fault(self, fault: Fault) -> None:
        """Ignored."""

    def flag(self, flags: Sequence[str]) -> None:
        """Ignored."""
