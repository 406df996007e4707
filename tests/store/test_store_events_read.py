"""Events read from journals: decoding of lines, and the events of chosen kinds with the gaps before them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.core.events import BranchAdded, Episode, Event, ModelCall, RunFinished, RunStarted, UnitsPlanned
from simkit.core.records import PlannedUnit
from simkit.errors import StoreUnreadable, WrongValue
from simkit.store.encoding import JournalEvents, decode, encode, kind_of

EVENTS: list[Event] = [
    run_started(),
    UnitsPlanned("r1", 0, (PlannedUnit("t", 0), PlannedUnit("u", 1, True)), 1.0),
    *josh_episode().events,
    ModelCall("e", "b", "agent", 0, 0, "m", "h", {}, {}, None, 1, 1, 0.0, 1.0, 2.0),
    run_finished(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_decoded_line_is_the_event_that_was_encoded(event: Event) -> None:
    line = encode(event)
    assert type(decode(line)) is type(event)
    assert encode(decode(line)) == line


def changed(event: Event, **fields: object) -> bytes:
    return orjson.dumps({**orjson.loads(encode(event)), **fields})


def without(event: Event, field: str) -> bytes:
    return orjson.dumps({name: value for name, value in orjson.loads(encode(event)).items() if name != field})


def test_fields_of_later_versions_are_ignored_and_those_of_earlier_ones_have_defaults() -> None:
    assert decode(changed(run_started(attempt=3), later=[1])) == run_started(attempt=3)
    assert decode(without(run_started(attempt=3), "attempt")) == replace(run_started(), attempt=None)
    assert decode(changed(run_started(), attempt=None)) == replace(run_started(), attempt=None)
    units = [{"task_id": "t", "trial": 0, "later": 1}, {"task_id": "u", "trial": 1, "kept": None}]
    read = decode(changed(EVENTS[1], units=units))
    assert isinstance(read, UnitsPlanned)
    assert read.units == (PlannedUnit("t", 0), PlannedUnit("u", 1))


def test_lists_are_read_as_tuples_and_a_field_that_may_be_empty_stays_so() -> None:
    first = next(event for event in EVENTS if isinstance(event, BranchAdded))
    read = decode(encode(first))
    assert isinstance(read, BranchAdded)
    assert (read.parent_id, type(read.messages), read.messages[0].heard) == (None, tuple, first.messages[0].heard)
    doubtful = replace(first, messages=(replace(first.messages[0], flags=("unsure",)),))
    again = decode(encode(doubtful))
    assert isinstance(again, BranchAdded)
    assert again.messages[0].flags == ("unsure",)


@pytest.mark.parametrize("seed", [2**64 + 1, 2**126 + 1, -(2**126) - 1, 7])
def test_a_seed_is_read_exactly(seed: int) -> None:
    read = decode(changed(run_started(), seed="HERE").replace(b'"HERE"', b"%d" % seed))
    assert isinstance(read, RunStarted)
    assert read.seed == seed


def test_an_empty_value_where_there_is_a_default_is_the_default() -> None:
    finished = next(event for event in EVENTS if isinstance(event, Episode))
    read = decode(changed(finished, calls=None))
    assert isinstance(read, Episode)
    assert read.calls == 0


def test_a_line_that_is_no_event_is_refused() -> None:
    with pytest.raises(WrongValue, match="its `seed` is 'x'"):
        decode(changed(run_started(), seed="x"))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"e":"RunStarted","run_id":"r"}', "RunStarted"),
        (b'{"e":"","run_id":"r"}', ""),
        (b'{"e":"\xff","run_id":"r"}', "\ufffd"),
        (b'{"run_id":"r","e":"RunStarted"}', ""),
        (b"junk", ""),
    ],
)
def test_the_kind_of_a_line_is_read_from_its_start(line: bytes, kind: str) -> None:
    assert kind_of(line) == kind


def test_events_of_chosen_kinds_are_read_in_order(tmp_path: Path) -> None:
    journal = JournalEvents(write_lines(tmp_path, numbered(EVENTS)), (RunStarted, RunFinished))
    assert list(journal) == [(run_started(), 0), (run_finished(), 0)]
    assert journal.bad == ()


def test_missing_and_unreadable_lines_are_gaps_before_the_events_after_them(tmp_path: Path) -> None:
    starts = [run_started(attempt=number) for number in range(5)]
    lines = numbered(starts)
    del lines[1]
    lines[2] = lines[2].replace(b'"attempt":3', b'"attempt":9')
    journal = JournalEvents(write_lines(tmp_path, lines), (RunStarted,))
    assert [(event, gaps > 0) for event, gaps in journal] == [
        (starts[0], False),
        (starts[2], True),
        (starts[4], True),
    ]
    assert journal.bad


def test_an_event_that_this_version_does_not_know_is_damage_only_if_its_kind_is_wanted(tmp_path: Path) -> None:
    wrong = changed(run_started(), seed="x")
    lines = [encode(run_started()), wrong + b"\n", encode(run_finished())]
    path = write_lines(tmp_path, lines)
    journal = JournalEvents(path, (RunStarted, RunFinished))
    assert list(journal) == [(run_started(), 0), (run_finished(), 1)]
    (bad,) = journal.bad
    assert (bad.byte, bad.line, bad.kind, bad.lines) == (len(lines[0]), 2, "unreadable", 1)
    assert bad.reason == "its `seed` is 'x'"
    finished = JournalEvents(path, (RunFinished,))
    assert list(finished) == [(run_finished(), 0)]
    assert finished.bad == ()


def test_a_line_without_a_kind_is_damage_whatever_is_wanted(tmp_path: Path) -> None:
    lines = [encode(run_started()), b"junk\n", encode(run_finished())]
    journal = JournalEvents(write_lines(tmp_path, lines), (RunFinished,))
    assert list(journal) == [(run_finished(), 1)]
    assert [(bad.byte, bad.line) for bad in journal.bad] == [(len(lines[0]), 2)]


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.jsonl"
    with pytest.raises(StoreUnreadable, match=r"gone\.jsonl cannot be read: No such file or directory"):
        list(JournalEvents(path, (RunStarted,)))
