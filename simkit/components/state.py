"""State of a branch: everything needed to continue from it, as one value, with the states of its components."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from simkit.core.conversation import Conversation
from simkit.core.limits import Spent

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    StateT = TypeVar("StateT", default=Any)
    StateT_co = TypeVar("StateT_co", covariant=True, default=Any)

    class Stateful(Generic[StateT_co]):
        """Base of requests and replies that carry a state, whose type is known to type checkers only."""

else:
    from typing import TypeVar

    StateT = TypeVar("StateT")
    StateT_co = TypeVar("StateT_co", covariant=True)

    class Stateful:  # noqa: D101 (documented above)
        __slots__ = ()

        def __class_getitem__(cls, state: object) -> type:
            return cls  # Python 3.11 cannot call `Decision[int](...)` for a frozen dataclass with slots


State: TypeAlias = Any
"""A component's own state in a branch: an immutable value, or an object with `fork()`; None if it has no state.

A component may name the type of its state, `Agent[Belief]`, so that type checkers check its requests and replies.
"""

NO_STATE: Any = None
"""Default state of a reply. A component that names its type and returns none must allow None in that type."""


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
