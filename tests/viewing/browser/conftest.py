from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from viewed_stores import HOSTILE_NAME, hostile_run, played_runs

from simkit.store import Store
from support.browser import missing, opened_browser, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with trees, rollouts to compare, faults, a search for training, and a run of hostile text."""
    folder = tmp_path_factory.mktemp("viewed") / "store"
    played_runs(folder)
    hostile_run(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one module. While it runs, playwright holds an event loop in this thread."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def address(store: Path) -> Iterator[str]:
    """Address of a viewer over the store."""
    with served(store) as found:
        yield found


@pytest.fixture(scope="session")
def runs(store: Path) -> dict[str, str]:
    """Ids of the store's runs by name; `hostile` is the run with a hostile name."""
    return {"hostile" if run.name == HOSTILE_NAME else run.name: run.run_id for run in Store(store).runs()}
