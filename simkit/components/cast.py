"""The players of a run: addresses and properties of its four components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simkit.actors.actor import ActorRef
from simkit.actors.capacity import HeldPlaces
from simkit.core.boundary import boundary
from simkit.core.limits import Limits
from simkit.core.tasks import Task
from simkit.errors import UsageError, UserFault


@dataclass(frozen=True, slots=True)
class Cast:
    """Addresses and properties of the four components of a simulation.

    `unforkable` names the components that cannot be forked; `deterministic` means that the agent ignores seeds, so that
    all branches would be the same; `final` that the reward judges how an episode ends, and needs no sparse goals;
    `user_calls` that the user can call tools of its own.
    `limits` are the world's, for what the caller leaves open; `checks` are called with each task before it is played.
    """

    agent: ActorRef
    user: ActorRef
    tools: ActorRef
    reward: ActorRef
    unforkable: tuple[str, ...] = field(default=())
    deterministic: bool = False
    reward_range: tuple[float, float] = (0.0, 1.0)
    final: bool = False
    limits: Limits = field(default_factory=Limits)
    checks: tuple[Callable[[Task], None], ...] = ()
    user_calls: bool = False

    def sessions(self, conversations: int) -> HeldPlaces:
        """The sessions of one episode, as an `async with` block: waits until all are free, and releases them on exit.

        Each component that declares `sessions` provides one for every concurrent conversation of the episode.

        Args:
            conversations: maximum number of concurrent conversations: 1 for a rollout, the maximum number of leaves for
                a tree.

        Raises:
            UsageError: a component has fewer sessions, so that the episode could never be played.
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
        return HeldPlaces(capacities, conversations)

    @property
    def failure_reward(self) -> float:
        """Reward of a failed episode: 0, or the nearest value in the range."""
        least, most = self.reward_range
        return min(max(0.0, least), most)

    def is_rewarded(self, reward: float) -> bool:
        """Whether a reward is higher than that of a failure, or the full one."""
        return reward > self.failure_reward or reward >= self.reward_range[1]

    def check(self, task: Task) -> None:
        """Check that the components can play a task, before any of them is asked anything.

        Raises:
            UsageError: a component cannot; the message says what to choose instead.
            UserFault: the check itself failed.
        """
        for check in self.checks:
            try:
                with boundary(UserFault, f"asking whether {task.id} can be played"):
                    check(task)
            except UserFault as fault:
                cause = fault.__cause__
                if isinstance(cause, UsageError):
                    raise cause from cause.__cause__  # `from fault` would make the chain a circle
                raise fault from cause
