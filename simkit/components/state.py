"""State of a branch: everything needed to continue from it, as one value, with the states of its components."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from simkit.core.conversation import Conversation
from simkit.core.limits import Spent

State: TypeAlias = Any
"""A component's own state in a branch: an immutable value, or an object with `fork()`; None if it has no state."""


def fork_state(state: State) -> State:
    """The state for one more branch: `state.fork()` if the object has that method, otherwise the same reference."""
    fork = getattr(state, "fork", None)
    return fork() if callable(fork) else state


@dataclass(frozen=True, slots=True)
class BranchState:
    """Conversation, states of agent, user and world, and resources spent.

    A fork shares immutable values by reference; an opaque state forks itself with its own `fork()`.
    """

    conversation: Conversation
    agent: State = None
    user: State = None
    world: State = None
    spent: Spent = field(default_factory=Spent)

    def fork(self) -> BranchState:
        """The state for one more branch; `self` if no part has its own `fork`."""
        agent, user, world = self.agent, self.user, self.world
        if not (hasattr(agent, "fork") or hasattr(user, "fork") or hasattr(world, "fork")):
            return self
        return BranchState(self.conversation, fork_state(agent), fork_state(user), fork_state(world), self.spent)
