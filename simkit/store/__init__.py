"""The record of runs: durable journals, and a DuckDB database built from them for SQL queries."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from simkit.store.reader import QueryResult, Reader
from simkit.store.reading import ReadState, RunState
from simkit.store.store import Store
from simkit.store.tree_view import EpisodeTree, RunRow, Transcript, TranscriptLine, TreeNode

if TYPE_CHECKING:
    from simkit.store.journal import Journal
    from simkit.store.loader import Loader, LoadReport, keep_loaded
    from simkit.store.replica import Replica

__all__ = [
    "EpisodeTree",
    "Journal",
    "LoadReport",
    "Loader",
    "QueryResult",
    "ReadState",
    "Reader",
    "Replica",
    "RunRow",
    "RunState",
    "Store",
    "Transcript",
    "TranscriptLine",
    "TreeNode",
    "keep_loaded",
]

_WRITERS = {
    "Journal": "journal",
    "Loader": "loader",
    "LoadReport": "loader",
    "keep_loaded": "loader",
    "Replica": "replica",
}
"""Modules of the names that readers of a store do not need."""


def __getattr__(name: str) -> object:
    """Import what writes on first use; commands that only read start faster without it."""
    if name not in _WRITERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WRITERS[name]}"), name)
    return value
