"""The state of a branch: everything that has to be carried to go on from there, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from simkit.components.base import State, fork_state
from simkit.core.conversation import Conversation
from simkit.core.limits import Spent


@dataclass(frozen=True, slots=True)
class BranchState:
    """Conversation, the states of agent, user and world, and what has been spent.

    A fork is one reference for everything that is a value; an opaque state is asked to `fork()` itself.
    """

    conversation: Conversation
    agent: State = None
    user: State = None
    world: State = None
    spent: Spent = field(default_factory=Spent)

    def fork(self) -> BranchState:
        """The state for one more branch; `self` when no part has a `fork` of its own."""
        agent, user, world = self.agent, self.user, self.world
        if not (hasattr(agent, "fork") or hasattr(user, "fork") or hasattr(world, "fork")):
            return self
        return BranchState(self.conversation, fork_state(agent), fork_state(user), fork_state(world), self.spent)
