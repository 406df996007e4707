"""Events as lines of JSON: what is written for each kind of value, and what is left out of a value that is too much."""

from __future__ import annotations

from collections import UserDict, UserList
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
import pytest

from simkit.core.events import Episode, RunStarted
from simkit.store import encoding
from simkit.store.encoding import FINISHED, encode, finished_episode

LONE = "a\ud800b"
"""A text that orjson refuses, so that the event it is in has to be cleaned."""


def written(value: object, *, cleaned: bool = False) -> Any:
    """A value as it is read from a line again."""
    config = {"v": value, "lone": LONE} if cleaned else {"v": value}
    return orjson.loads(encode(RunStarted("r", "n", "josh", 1, config, "0", 1.0)))["config"]["v"]


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    label: object


class Odd:
    def __str__(self) -> str:
        return "odd"


class Copied:
    """JSON text already, as a payload of a model is."""

    def json_text(self) -> bytes:
        return b'{"a": 1.50}'


class Model:
    """As a pydantic model."""

    def model_dump(self, mode: str) -> object:
        return {"mode": mode}


class Named:
    """Has attributes of the same names that are nothing to call."""

    json_text = model_dump = "text"

    def __str__(self) -> str:
        return "named"


def test_a_line_is_the_json_of_the_event_and_its_kind() -> None:
    line = encode(RunStarted("r", "n", "josh", 1, {"a": [1, 2.5, None, True]}, "0", 1.0))
    assert line.startswith(b'{"e":"RunStarted","run_id":"r",')
    assert line.endswith(b"}\n")
    assert orjson.loads(line)["config"] == {"a": [1, 2.5, None, True]}


@pytest.mark.parametrize("cleaned", [False, True])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (False, False),
        (0, 0),
        (-(2**63), -(2**63)),
        ("é\0\u2028", "é\0\u2028"),
        (1.5, 1.5),
        (float("nan"), None),
        (float("inf"), None),
        (-float("inf"), None),
        ([1, [2, (3,)]], [1, [2, [3]]]),
        ({"a": {"b": []}}, {"a": {"b": []}}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UserDict({"a": (1,)}), {"a": [1]}),
        (UserList([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ({10, 9, 8}, [10, 8, 9]),
        (frozenset({"b", 1, "a"}), [1, "a", "b"]),
        (b"ab", "b'ab'"),
        (bytearray(b"ab"), "bytearray(b'ab')"),
        (Odd(), "odd"),
        (Point(1, Point(2, "p")), {"x": 1, "label": {"x": 2, "label": "p"}}),
        (Model(), {"mode": "json"}),
        (Named(), "named"),
        (Point, str(Point)),
    ],
)
def test_a_value_is_written_the_same_alone_and_beside_one_that_has_to_be_cleaned(
    value: object, expected: object, cleaned: bool
) -> None:
    assert written(value, cleaned=cleaned) == expected
    assert type(written(value, cleaned=cleaned)) is type(expected)
    assert written([value, value], cleaned=cleaned) == [expected, expected]


def test_what_is_json_already_is_copied() -> None:
    line = encode(RunStarted("r", "n", "josh", 1, {"v": Copied()}, "0", 1.0))
    assert b'"v":{"a": 1.50}' in line
    assert written(Copied(), cleaned=True) == {"a": 1.5}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (LONE, "a\ufffdb"),
        ({LONE: 1}, {"a\ufffdb": 1}),
        ({1: LONE, None: 2}, {"1": "a\ufffdb", "None": 2}),
        (Point(1, LONE), {"x": 1, "label": "a\ufffdb"}),
        (MappingProxyType({"a": LONE}), {"a": "a\ufffdb"}),
        ({LONE, "b"}, ["a\ufffdb", "b"]),
        ((Odd(), LONE), ["odd", "a\ufffdb"]),
        (2**64, 2**64),
        (-(2**64), -(2**64)),
    ],
)
def test_what_json_does_not_know_is_replaced(value: object, expected: object) -> None:
    line = encode(RunStarted("r", "n", "josh", 1, {"v": value}, "0", 1.0))
    assert orjson.loads(line)["config"]["v"] == expected


def test_letters_are_written_as_they_are_whatever_is_beside_them() -> None:
    assert "é".encode() in encode(RunStarted("r", "n", "josh", 1, {"v": "é", "lone": LONE}, "0", 1.0))


def test_integers_are_written_up_to_a_length() -> None:
    longest = (1 << 4096) - 1
    assert str(longest).encode() in encode(RunStarted("r", "n", "josh", 1, {"v": [longest, -longest]}, "0", 1.0))
    assert written(1 << 4096) == "(left out: an integer of 4097 bits)"


def lists(levels: int, inside: object) -> object:
    for _ in range(levels):
        inside = [inside]
    return inside


def test_a_value_is_written_down_to_a_depth() -> None:
    """The event itself, its configuration and what is in it count as levels."""
    around = 98
    assert written(lists(around, LONE)) == lists(around, "a\ufffdb")
    assert written(lists(around + 1, LONE)) == lists(around, "(left out: more than 100 levels deep)")


def test_a_value_that_holds_itself_is_left_out_where_it_does() -> None:
    value: list[object] = [1]
    value.append(value)
    assert written([value, 2]) == [[1, "(left out: a value that holds itself)"], 2]


def test_an_event_is_written_up_to_a_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoding.VALUES == 1_000_000
    before = 8  # the event, four fields, its configuration, the name of the value, and the list that it is
    monkeypatch.setattr(encoding, "VALUES", before + 3)
    assert written([1, 2, 3, 4, [5]], cleaned=True) == [1, 2, 3, *["(left out: more than 11 values)"] * 2]


class Raising(Mapping[str, object]):
    """Its items cannot be read."""

    def __getitem__(self, key: str) -> object:
        raise LookupError(key)

    def __iter__(self) -> Any:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def test_what_cannot_be_read_costs_itself_and_nothing_around_it() -> None:
    note = "(left out: a Raising, which cannot be read)"
    assert written({"a": [1, Raising()], "b": Raising(), "c": 2}) == {"a": [1, note], "b": note, "c": 2}


def test_private_fields_of_a_value_are_written_nowhere() -> None:
    @dataclass(frozen=True)
    class Account:
        name: str
        _key: str

    account = Account("a", "secret")
    assert written(account) == written(account, cleaned=True) == {"name": "a"}


@pytest.mark.parametrize(
    "name", ["run/task/0", 'a "quoted" task', "back\\slash", "\u00fcmlaut \u2028", "", 'x","reward":1', "\x00"]
)
def test_the_episode_of_a_line_is_found_without_parsing_it(name: str) -> None:
    line = encode(Episode(episode_id=name, reward=None, outcome="user_ended", goals=()))
    assert line.startswith(FINISHED)
    assert finished_episode(line) == name
