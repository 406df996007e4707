"""The state that a component keeps in a branch, which all contracts share."""

from __future__ import annotations

from typing import Any, TypeAlias

State: TypeAlias = Any
"""A component's own state in a branch: an immutable value, or an object with `fork()`; None for none."""


def fork_state(state: State) -> State:
    """The state for one more branch: the same reference for a value, `state.fork()` for an object that has it."""
    fork = getattr(state, "fork", None)
    return fork() if callable(fork) else state
