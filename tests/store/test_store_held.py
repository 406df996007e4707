from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from simkit.errors import StoreBusy, StoreUnreadable
from simkit.store.database import opening_error

HELD = (
    "IO Error: Could not set lock on file: Conflicting lock is held in another process",
    "Connection Error: Can't open a connection to same database file with a different configuration",
    'Resource In Use Error: Unique file handle conflict: Cannot attach "simkit" - it is already attached',
)


@pytest.mark.parametrize("words", HELD)
def test_a_file_that_somebody_holds_is_busy_and_not_broken(words: str) -> None:
    assert isinstance(opening_error(Path("simkit.duckdb"), duckdb.Error(words)), StoreBusy)


def test_a_file_that_is_no_database_is_unreadable() -> None:
    found = opening_error(Path("simkit.duckdb"), duckdb.Error("IO Error: not a valid DuckDB database file!"))
    assert isinstance(found, StoreUnreadable)
