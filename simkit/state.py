"""The state of a branch: everything that has to be carried to go on from there, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from simkit.components import State, fork_state
from simkit.conversation import Conversation
from simkit.limits import Spent


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
        """The state for one more branch; `self` when every part is a value."""
        agent, user, world = fork_state(self.agent), fork_state(self.user), fork_state(self.world)
        if agent is self.agent and user is self.user and world is self.world:
            return self
        return BranchState(self.conversation, agent, user, world, self.spent)
