"""The record of runs: durable journals, and a DuckDB database built from them for SQL queries."""

from __future__ import annotations

from simkit.store.journal import Journal
from simkit.store.loader import Loader, LoadReport, keep_loaded
from simkit.store.reader import QueryResult, Reader
from simkit.store.reading import ReadState, RunState
from simkit.store.replica import Replica
from simkit.store.store import Store
from simkit.store.tree_view import EpisodeTree, Line, RunRow, Transcript, TreeNode

__all__ = [
    "EpisodeTree",
    "Journal",
    "Line",
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
    "TreeNode",
    "keep_loaded",
]
