"""Journal first, DuckDB always: what happened in runs, durable while it happens and open to SQL at once."""

from __future__ import annotations

from simkit.store.journal import Journal
from simkit.store.loader import Loader, LoadReport, keep_loaded
from simkit.store.store import QueryResult, Store
from simkit.store.trees import EpisodeTree, Line, RunRow, Transcript, TreeNode

__all__ = [
    "EpisodeTree",
    "Journal",
    "Line",
    "LoadReport",
    "Loader",
    "QueryResult",
    "RunRow",
    "Store",
    "Transcript",
    "TreeNode",
    "keep_loaded",
]
