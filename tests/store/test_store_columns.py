"""Columns that follow from the fields of events: their types, defaults and checks, and what is stored of a field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import orjson
import pytest
from store_events import Script, josh_episode, run_finished, run_started, write_lines

from simkit.core.events import Event
from simkit.core.records import BigInt, HugeInt
from simkit.store import Loader
from simkit.store.columns import (
    _common,  # pyright: ignore[reportPrivateUsage]
    columns_of,
)
from simkit.store.encoding import encode


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    note: str | None = None
    count: int = 2


@dataclass(frozen=True, slots=True)
class Thing:
    text: str
    small: int
    big: BigInt | None
    huge: HugeInt
    data: Mapping[str, Any]
    kind: Literal["a", "b"] = "a"
    share: float = 0.5
    sure: bool = False
    words: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    loose: tuple[Any, ...] | None = None
    _own: int = 0


PART = {"name": "VARCHAR", "note": "VARCHAR", "count": "INTEGER"}


def test_a_column_has_the_type_and_the_default_of_its_field() -> None:
    found = {one.name: (one.sql, one.needed, one.default, one.many, one.row) for one in columns_of(Thing).values()}
    assert found == {
        "text": ("VARCHAR", True, "", False, None),
        "small": ("INTEGER", True, "", False, None),
        "big": ("BIGINT", True, "", False, None),
        "huge": ("HUGEINT", True, "", False, None),
        "data": ("JSON", True, "", False, None),
        "kind": ("VARCHAR", False, "'a'", False, None),
        "share": ("DOUBLE", False, "0.5", False, None),
        "sure": ("BOOLEAN", False, "false", False, None),
        "words": ("VARCHAR[]", False, "[]", True, None),
        "parts": (PART, False, "[]", True, Part),
        "loose": ("JSON", False, "", False, None),
    }
    assert columns_of(Part)["count"].default == "2"


ROW, OTHER = {"a": "INTEGER", "b": "VARCHAR"}, {"b": "VARCHAR", "c": "DOUBLE"}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("VARCHAR", "VARCHAR", "VARCHAR"),
        ("VARCHAR", "DOUBLE", "JSON"),
        ("VARCHAR[]", ROW, "JSON"),
        (ROW, "VARCHAR[]", "JSON"),
        (ROW, ROW, ROW),
        (ROW, OTHER, {"a": "INTEGER", "b": "VARCHAR", "c": "DOUBLE"}),
    ],
)
def test_a_field_that_two_events_have_is_read_as_what_holds_both(
    one: str | dict[str, str], other: str | dict[str, str], both: str | dict[str, str]
) -> None:
    assert _common(one, other) == both


VALUES: list[tuple[str, list[object], list[object]]] = [
    ("text", ["", "a"], [1, None, ["a"]]),
    ("small", [0, -(1 << 31), (1 << 31) - 1], [1 << 31, -(1 << 31) - 1, 1.0, "1", None]),
    ("big", [None, -(1 << 63), (1 << 63) - 1], [1 << 63, -(1 << 63) - 1, 1.0, "1"]),
    ("huge", [0, 2.0**80, -(2.0**127)], [2.0**127, -(2.0**128), "1", None]),
    ("data", [{}, [], 1, None], []),
    ("share", [1, 0.5, None], ["1", []]),
    ("sure", [True, False], [0, "true", None]),
    ("words", [[], ["a", "b"]], ["a", [1], ["a", None], None, {}]),
    ("parts", [[], [{"name": "a"}, {"name": "b", "note": None, "count": 1}]], [[{}], [{"name": 1}], ["a"], [1]]),
    ("parts", [[{"name": "a", "count": None, "later": 1}]], [[{"name": "a", "count": "1"}], {"name": "a"}]),
]


@pytest.mark.parametrize(("field", "good", "bad"), VALUES)
def test_a_value_is_checked_as_its_field_is_declared(field: str, good: list[object], bad: list[object]) -> None:
    check = columns_of(Thing)[field].check
    assert [value for value in good if not check(value)] == []
    assert [value for value in bad if check(value)] == []


def load(folder: Path, events: list[Event], *left_out: str) -> None:
    """Load a journal whose lines, and the rows in them, lack some fields, as those of an older version do."""
    lines = [_without(orjson.loads(encode(event)), left_out) for event in events]
    write_lines(folder, [orjson.dumps(line) + b"\n" for line in lines])
    assert Loader(folder).load().unreadable == ()


def _without(line: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    rows = {name: line[name] for name in ("messages", "tool_calls") if name in line}
    kept = {name: [{each: row[each] for each in row if each not in names} for row in rows[name]] for name in rows}
    return {name: kept.get(name, value) for name, value in line.items() if name not in names}


def asked(folder: Path, question: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(folder / "simkit.duckdb", read_only=True) as connection:
        return connection.execute(question).fetchall()


GOALS = ("book", 'say "so"', "a, b]", "\\", "ü\n", "")


def test_fields_of_one_name_are_stored_as_each_event_has_them(tmp_path: Path) -> None:
    script = Script(goals=GOALS)
    script.open()
    script.finish()
    load(tmp_path, [run_started(), *script.events, run_finished()])
    assert asked(tmp_path, "SELECT goals FROM episodes") == [([*GOALS],)]
    ((goals,),) = asked(tmp_path, "SELECT goals FROM tasks")
    assert json.loads(goals) == [{"key": goal} for goal in GOALS]


def test_what_a_line_of_an_older_version_lacks_has_its_default(tmp_path: Path) -> None:
    newer = ("achieved", "turns", "branches", "faults", "calls", "full_reward", "flags", "by", "parts")
    load(tmp_path, [run_started(), *josh_episode().events, run_finished()], *newer)
    columns = "achieved, turns, branches, faults, calls, full_reward, CAST(parts AS VARCHAR)"
    assert asked(tmp_path, f"SELECT {columns} FROM episodes") == [([], 0, 0, 0, 0, 1.0, "[]")]
    assert asked(tmp_path, "SELECT DISTINCT flags FROM messages") == [([],)]
    assert asked(tmp_path, "SELECT DISTINCT side FROM tool_calls") == [("agent",)]


def test_what_a_line_has_is_stored(tmp_path: Path) -> None:
    load(tmp_path, [run_started(), *josh_episode().events, run_finished()])
    ((turns, branches, full, reward),) = asked(tmp_path, "SELECT turns, branches, full_reward, reward FROM episodes")
    finished = josh_episode().events[-1]
    assert (turns, branches, full, reward) == (
        *(getattr(finished, name) for name in ("turns", "branches", "full_reward", "reward")),
    )
