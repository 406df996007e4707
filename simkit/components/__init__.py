"""Contracts of components, one file each: requests and replies of agents, users, tool servers and rewards.

A component stores no conversation. The request contains the branch's state and the reply the new state, so one
component serves any number of branches at once. A component with limits declares `concurrency` (concurrent requests) or
`sessions` (concurrently open conversations), and the runtime observes them; docs/components.md has the rules. States
are immutable values, or objects with a `fork()`; a component whose state is neither sets `forkable = False`, and
searches that branch refuse it before any work is done.

To write one, subclass and implement the abstract methods. `simkit.testing.conformance` checks the contract.
"""

from __future__ import annotations

from importlib import import_module

_MODULES = ("agent", "cast", "checks", "reward", "state", "tools", "user", "world")


def __getattr__(name: str) -> object:
    """A contract under its former place, `from simkit.components import Agent`; each has a module of its own now."""
    for module in _MODULES if not name.startswith("_") else ():
        place = f"{__name__}.{module}"
        found = getattr(import_module(place), name, None)
        if getattr(found, "__module__", None) == place:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
