"""The state of a component in a branch, shared by all contracts."""

from __future__ import annotations

from typing import Any, TypeAlias

State: TypeAlias = Any
"""A component's own state in a branch: an immutable value, or an object with `fork()`; None if it has no state."""


def fork_state(state: State) -> State:
    """The state for one more branch: `state.fork()` if the object has that method, otherwise the same reference."""
    fork = getattr(state, "fork", None)
    return fork() if callable(fork) else state
