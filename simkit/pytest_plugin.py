"""Fixtures for pytest, found by it wherever simkit is installed.

    def test_my_agent(simkit_play, simkit_check):
        simkit_check(MyAgent())                              # every promise of the contract
        played = simkit_play(MyAgent(), tasks=3)             # a fault of a component fails the test
        assert played.summary.reward.value > 0.5

Nothing of simkit is imported before a fixture is used, so that other tests do not become slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from simkit.core.tasks import Task
    from simkit.store import Store
    from simkit.testing.playing import Played


@pytest.fixture
def simkit_store(tmp_path: Path) -> Store:
    """An empty store in the temporary folder of the test."""
    from simkit.store import Store

    return Store(tmp_path / "simkit-store")


@pytest.fixture
def simkit_play(simkit_store: Store) -> Callable[..., Played]:
    """The function `simkit.testing.play` for tests that are not coroutines; its store is `simkit_store`."""

    def play(agent: Any = None, **options: Any) -> Played:
        import anyio

        from simkit import testing

        return anyio.run(partial(testing.play, agent, **{"store": simkit_store, **options}))

    return play


@pytest.fixture
def simkit_check() -> Callable[..., None]:
    """The function `simkit.testing.check` for tests that are not coroutines."""

    def check(component: Any, tasks: Sequence[Task] = (), **options: Any) -> None:
        import anyio

        from simkit import testing

        anyio.run(partial(testing.check, component, tasks, **options))

    return check
