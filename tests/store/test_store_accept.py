"""Why a line is no event that this version knows: asked of lines that the database did not take as they are."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from store_events import josh_episode, run_finished, run_started

from simkit.core.events import ItemScored, Measured, ModelCall, UnitsPlanned
from simkit.core.records import PlannedUnit
from simkit.store.encoding import encode, refusal

EVENTS = {
    event["e"]: event
    for event in (
        orjson.loads(encode(event))
        for event in (
            run_started(),
            *josh_episode().events,
            ModelCall("e", "b", "agent", 0, 0, "m", "h", {}, {}, None, 1, 1, 0.0, 1.0, 2.0),
            UnitsPlanned("r1", 0, (PlannedUnit("t", 0),), 1.0),
            Measured("r1", "train", 1, {"loss": 0.5}, 1.0),
            ItemScored("r1", "suite", "item", "metric", 1.0, 2.0),
            run_finished(),
        )
    )
}
ABSENT = object()
"""A field that is left out."""


def changed(kind: str, field: str, value: object) -> bytes:
    event = {name: each for name, each in EVENTS[kind].items() if name != field}
    if value is not ABSENT:
        event[field] = value
    if isinstance(value, int):  # as it may be of any length
        return orjson.dumps({**event, field: "HERE"}).replace(b'"HERE"', str(value).encode())
    return orjson.dumps(event)


def inside(kind: str, field: str, inner: str, value: object) -> bytes:
    """The event with another value in the first row of a field."""
    row = {name: each for name, each in EVENTS[kind][field][0].items() if name != inner}
    rows = [row if value is ABSENT else {**row, inner: value}, *EVENTS[kind][field][1:]]
    return changed(kind, field, rows)


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_passes(kind: str) -> None:
    assert refusal(orjson.dumps(EVENTS[kind])) is None


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("RunStarted", "seed", 2**64 - 1),
        ("RunStarted", "seed", 2**126),
        ("RunStarted", "seed", -(2**127)),
        ("RunStarted", "number", 2**63 - 1),
        ("RunStarted", "number", -(2**63)),
        ("RunStarted", "attempt", 2**31 - 1),
        ("RunStarted", "attempt", -(2**31)),
        ("RunStarted", "attempt", ABSENT),
        ("RunStarted", "attempt", None),
        ("RunStarted", "number", None),
        ("RunStarted", "at", None),
        ("RunStarted", "at", ABSENT),
        ("RunStarted", "at", 3),
        ("RunStarted", "config", [1]),
        ("RunStarted", "of a later version", 1),
        ("EpisodeStarted", "goals", []),
        ("BranchAdded", "parent_id", None),
        ("BranchAdded", "parent_id", ABSENT),
        ("BranchAdded", "messages", []),
        ("BranchEnded", "error", ABSENT),
        ("EpisodeFinished", "reward", None),
        ("EpisodeFinished", "reward", 1),
        ("EpisodeFinished", "full_reward", ABSENT),
        ("ModelCall", "request", None),
        ("ModelCall", "prompt_tokens", 2**40),
        ("ModelCall", "step", 2**40),
        ("ItemScored", "detail", ABSENT),
        ("ItemScored", "value", None),
        ("RunFinished", "stats", ABSENT),
    ],
)
def test_values_at_the_limits_and_fields_with_a_default_pass(kind: str, field: str, value: object) -> None:
    assert refusal(changed(kind, field, value)) is None


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("RunStarted", "seed", "7"),
        ("RunStarted", "seed", 2**127),
        ("RunStarted", "attempt", 1.5),
        ("RunStarted", "attempt", 2**31),
        ("RunStarted", "attempt", -(2**31) - 1),
        ("RunStarted", "number", 2**63),
        ("RunStarted", "number", "1"),
        ("RunStarted", "run_id", None),
        ("RunStarted", "run_id", 1),
        ("RunStarted", "run_id", ABSENT),
        ("RunStarted", "at", "noon"),
        ("TaskSeen", "goals", None),
        ("TaskSeen", "goals", {}),
        ("EpisodeStarted", "goals", ["a", 1]),
        ("EpisodeStarted", "goals", "goals"),
        ("BranchAdded", "parent_id", 1),
        ("BranchAdded", "messages", ABSENT),
        ("BranchAdded", "messages", [1]),
        ("BranchAdded", "messages", [None]),
        ("BranchAdded", "turn", 2**31),
        ("EpisodeFinished", "reward", "high"),
        ("ModelCall", "prompt_tokens", 2**63),
        ("ModelCall", "prompt_tokens", ABSENT),
        ("UnitsPlanned", "units", ["t"]),
    ],
)
def test_a_field_that_no_event_could_have_is_named(kind: str, field: str, value: object) -> None:
    reason = refusal(changed(kind, field, value))
    if value is ABSENT:
        assert reason == f"it is a {kind} without `{field}`"
    else:
        assert reason is not None
        assert reason.startswith(f"its `{field}` is ")


def test_a_wrong_field_behind_one_that_is_left_out_is_named() -> None:
    line = changed("RunStarted", "number", "1").replace(b'"attempt":0,', b"")
    assert b"attempt" not in line
    assert refusal(line) == "its `number` is '1'"


@pytest.mark.parametrize(
    ("kind", "field", "inner", "value", "passes"),
    [
        ("BranchAdded", "messages", "seq", 0, True),
        ("BranchAdded", "messages", "seq", 2**31 - 1, True),
        ("BranchAdded", "messages", "seq", "0", False),
        ("BranchAdded", "messages", "seq", 2**31, False),
        ("BranchAdded", "messages", "seq", ABSENT, False),
        ("BranchAdded", "messages", "heard", None, True),
        ("BranchAdded", "messages", "heard", ABSENT, True),
        ("BranchAdded", "messages", "heard", 1, False),
        ("BranchAdded", "messages", "author", None, False),
        ("BranchAdded", "messages", "flags", ABSENT, True),
        ("BranchAdded", "messages", "flags", [1], False),
        ("UnitsPlanned", "units", "kept", True, True),
        ("UnitsPlanned", "units", "kept", ABSENT, True),
        ("UnitsPlanned", "units", "kept", "yes", False),
    ],
)
def test_the_rows_of_a_field_are_looked_at_too(kind: str, field: str, inner: str, value: object, passes: bool) -> None:
    assert (refusal(inside(kind, field, inner, value)) is None) == passes


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1]\n", "it is no JSON object"),
        (b'"RunStarted"\n', "it is no JSON object"),
        (b"{}\n", "it is an event of the unknown kind None"),
        (b'{"e":1}\n', "it is an event of the unknown kind 1"),
        (b'{"e":["RunStarted"]}\n', "it is an event of the unknown kind ['RunStarted']"),
        (b'{"e":"RunBegun"}\n', "it is an event of the unknown kind 'RunBegun'"),
        (b'{"e":"%s"}\n' % (b"x" * 100), f"it is an event of the unknown kind '{'x' * 59}"),
        (b'{"e":"BranchEnded","branch_id":%d}\n' % 10**18, f"its `branch_id` is {10**18}"),
    ],
)
def test_what_is_no_event_at_all_is_said_in_few_words(line: bytes, reason: str) -> None:
    assert refusal(line) == reason


@pytest.mark.parametrize("line", [b"", b"\n", b"garbage\n", b"\xff\n", b'{"e":', b'{"a":NaN}'])
def test_what_is_no_json_is_said(line: bytes) -> None:
    found: Any = refusal(line)
    assert found.startswith("it is no JSON (")


def test_a_run_that_an_older_version_finished_has_no_statistics() -> None:
    assert refusal(b'{"e":"RunFinished","run_id":"r","status":"done","summary":{},"at":1.0}') is None
