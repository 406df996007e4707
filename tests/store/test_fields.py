"""Journals that were recorded before a field existed can be read: only the fields of the first release are required."""

from __future__ import annotations

import json
from pathlib import Path

from simkit.core.events import KINDS
from simkit.core.records import CallRecord, MessageRow, PlannedUnit, RewardRow
from simkit.store.columns import columns_of

REQUIRED = Path(__file__).parent / "required_fields.json"


def test_a_field_that_is_newer_than_recorded_journals_has_a_default() -> None:
    """If this fails, give the new field a default; never add it to the file."""
    rows = {kind.__name__: kind for kind in (CallRecord, MessageRow, PlannedUnit, RewardRow)}
    known = json.loads(REQUIRED.read_text())
    for name, kind in {**KINDS, **rows}.items():
        needed = {field for field, column in columns_of(kind).items() if column.needed}
        assert needed <= set(known.get(name, needed)), name
