"""The players of a run: the addresses of its four components, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simkit.actors.actor import ActorRef
from simkit.actors.capacity import Held
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

    def sessions(self, conversations: int) -> Held:
        """The sessions of one episode, for an `async with` block: waits until all are free, and frees them at its end.

        Each component that declares `sessions` gives one for every conversation that the episode may have side by side.

        Args:
            conversations: how many that is: 1 for a rollout, as many as there can be leaves for a tree.

        Raises:
            UsageError: a component has fewer, so that the episode could never be played.
        """
        limited = [ref for ref in (self.agent, self.user, self.tools, self.reward) if ref.sessions is not None]
        capacities = [ref.sessions for ref in limited if ref.sessions is not None]
        for ref, capacity in zip(limited, capacities, strict=True):
            if capacity.places < conversations:
                raise UsageError(
                    f"`{ref.name}` holds {capacity.places} conversations open at once (`sessions`), and an episode of "
                    f"this search has up to {conversations} side by side; choose a narrower search (--beam), the "
                    "rollout recipe, or more sessions"
                )
        return Held(capacities, conversations)

    @property
    def failure_reward(self) -> float:
        """The reward of an episode that has failed: 0, or what is nearest to it in the range."""
        least, most = self.reward_range
        return min(max(0.0, least), most)

    def is_rewarded(self, reward: float) -> bool:
        """Whether a reward is more than that of a failure, or the full one."""
        return reward > self.failure_reward or reward >= self.reward_range[1]

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
