"""Lines with a right checksum that DuckDB cannot take, and about which it says something unreadable."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.store import Store
from simkit.store.encoding import encode
from simkit.store.lines import journal_seed, seal

EVENTS = [run_started(), *josh_episode().events, run_finished()]


@pytest.mark.parametrize("letter", ["é", "日", "🙂"])
@pytest.mark.parametrize("shift", range(4))  # somewhere DuckDB's message ends within a letter of several bytes
def test_a_line_about_which_duckdb_cannot_speak_is_named_and_the_others_are_loaded(
    store: Store, letter: str, shift: int
) -> None:
    place = next(at for at, event in enumerate(EVENTS) if type(event).__name__ == "BranchAdded")
    event = orjson.loads(encode(EVENTS[place]))
    event["turn"] = "x" * shift + letter * 400
    hostile = seal(orjson.dumps(event) + b"\n", len(EVENTS), journal_seed(Path("r1", "w0.jsonl")))
    write_lines(store.path, [*numbered(EVENTS), hostile])
    store.load()
    assert [one.kind for one in store.damage()] == ["unreadable"]
    assert store.query("select status from runs").rows == [("done",)]
