"""Answers about one run when its store's database is held by somebody else: the journals are the truth, so a database
of its own is made from the run's journals in a scratch folder, asked, and thrown away.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from simkit.store.store import Parameters, QueryResult, Store


def query_aside(store: Store, run_id: str, sql: str, parameters: Parameters | None = None) -> QueryResult:
    """Run SQL on what one run has journaled, without touching the store's database; a note says that it is one run.

    Raises:
        UsageError: the SQL is wrong.
        StoreUnreadable: a line of the journals cannot be read.
        StoreError: the scratch folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="simkit-") as scratch:
        journals = Path(scratch, "journals")
        journals.mkdir()
        (journals / run_id).symlink_to((store.path / "journals" / run_id).resolve(), target_is_directory=True)
        aside = Store(scratch)
        aside.load()
        found = aside.query(sql, parameters, fresh=False)
        note = f"{store.database} is held by another process: these rows are of the run {run_id} alone"
        return replace(found, notes=(*found.notes, note))
