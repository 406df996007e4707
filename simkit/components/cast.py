"""The players of a run: the addresses of its four components, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simkit.actors.actor import ActorRef
from simkit.core.boundary import boundary
from simkit.core.tasks import Task
from simkit.errors import UsageError, UserFault


@dataclass(frozen=True, slots=True)
class Cast:
    """The addresses of everybody in a simulation.

    `unforkable` names the components that cannot be branched; `deterministic` says that the agent ignores seeds, so
    that every branch would be the same; `checks` are told of each task before it is played.
    """

    agent: ActorRef
    user: ActorRef
    tools: ActorRef
    reward: ActorRef
    unforkable: tuple[str, ...] = field(default=())
    deterministic: bool = False
    reward_range: tuple[float, float] = (0.0, 1.0)
    checks: tuple[Callable[[Task], None], ...] = ()

    def check(self, task: Task) -> None:
        """Make sure, before anybody is asked anything, that everybody can play a task.

        Raises:
            UsageError: somebody cannot; the message says what to choose instead.
            UserFault: the check itself failed.
        """
        for check in self.checks:
            try:
                with boundary(UserFault, f"asking whether {task.id} can be played"):
                    check(task)
            except UserFault as fault:
                raise (fault.__cause__ if isinstance(fault.__cause__, UsageError) else fault) from fault.__cause__
