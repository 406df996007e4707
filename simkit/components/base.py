"""What the contracts share: the state a component keeps in a branch, and how an unknown request is refused."""

from __future__ import annotations

from typing import Any, TypeAlias

from simkit.errors import Unhandled

State: TypeAlias = Any
"""A component's own state in a branch: an immutable value, or an object with `fork()`; None for none."""


def fork_state(state: State) -> State:
    """The state for one more branch: the same reference for a value, `state.fork()` for an object that has it."""
    fork = getattr(state, "fork", None)
    return fork() if callable(fork) else state


def unhandled(component: object, message: object) -> Unhandled:
    """The error of a component that is sent a request of another kind."""
    kind = type(message).__name__
    return Unhandled(f"{type(component).__name__} does not handle {kind}; see simkit.components for what it is asked")
