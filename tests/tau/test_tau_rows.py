"""The rows of a branch: forks, drafts, digests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit.tools.tau.rows import Base, Draft, Row, Rows, Write, copied, row_digest

IDS = ("a", "b", "c", "n1", "n2")


def base() -> Base:
    return Base({"orders": {id: {"status": "pending", "items": [{"price": 1}]} for id in IDS[:3]}, "users": {}})


def written(rows: Rows, id: str, status: object) -> Rows:
    draft = Draft(rows)
    draft.edit("orders", id)["status"] = status
    return draft.done()[0]


def test_a_draft_changes_neither_the_base_nor_the_rows_that_it_came_from() -> None:
    shared = base()
    before, start = shared.whole_digest(), Rows(shared)
    draft = Draft(start)
    draft.edit("orders", "a")["items"][0]["price"] = 7
    assert draft.get("orders", "a")["items"] == [{"price": 7}]
    rows, writes = draft.done()
    assert writes == (Write("orders", "a", {"status": "pending", "items": [{"price": 7}]}),)
    assert start.get("orders", "a") == {"status": "pending", "items": [{"price": 1}]}
    assert rows.get("orders", "a") == {"status": "pending", "items": [{"price": 7}]}
    assert shared.whole_digest() == before


def test_reading_and_editing_without_a_change_gives_the_same_rows() -> None:
    start = Rows(base())
    draft = Draft(start)
    draft.get("orders", "a")
    draft.edit("orders", "b")["status"] = "pending"
    rows, writes = draft.done()
    assert rows is start
    assert writes == ()


def test_a_row_that_is_written_back_makes_no_difference() -> None:
    start = Rows(base())
    changed = written(start, "a", "cancelled")
    back = written(changed, "a", "pending")
    assert changed.digest() != start.digest() == back.digest()
    assert back == start != changed
    assert hash(back) == hash(start)
    assert list(back) == []
    assert list(changed) == [Write("orders", "a", changed.get("orders", "a"))]


def test_a_new_order_of_keys_is_kept_and_is_no_write() -> None:
    start = Rows(base())
    draft = Draft(start)
    draft.edit("orders", "b")["status"] = draft.edit("orders", "b").pop("status")
    rows, writes = draft.done()
    assert writes == ()
    assert rows == start
    assert list(rows.get("orders", "b") or ()) == ["items", "status"]


def test_edit_copies_a_row_once() -> None:
    draft = Draft(Rows(base()))
    assert draft.edit("orders", "a") is draft.edit("orders", "a")
    draft.put("orders", "n1", row := {"status": "new"})
    assert draft.edit("orders", "n1") is row


def test_a_draft_starts_anew_after_done() -> None:
    draft = Draft(Rows(base()))
    row = draft.edit("orders", "a")
    row["status"] = "x"
    first, _ = draft.done()
    assert draft.edit("orders", "a") is not row
    draft.edit("orders", "a")["status"] = "y"
    second, writes = draft.done()
    assert (first.get("orders", "a") or {})["status"] == "x"
    assert (second.get("orders", "a") or {})["status"] == "y"
    assert len(writes) == 1


def test_new_rows_follow_the_base_in_order_of_creation() -> None:
    draft = Draft(Rows(base()))
    draft.put("orders", "n2", {})
    draft.put("orders", "n1", {})
    draft.put("orders", "n2", {"again": 1})
    draft.remove("orders", "b")
    assert [id for id, _ in draft.items("orders")] == ["a", "c", "n2", "n1"]
    draft.put("orders", "b", {"status": "back"})
    rows, writes = draft.done()
    assert [id for id, _ in rows.items("orders")] == ["a", "c", "n2", "n1", "b"]
    assert [write.id for write in writes] == ["n2", "n1", "b"]


def test_a_removed_row_is_gone_and_is_a_write() -> None:
    draft = Draft(Rows(base()))
    draft.remove("orders", "a")
    with pytest.raises(KeyError, match="'a'"):
        draft.get("orders", "a")
    rows, writes = draft.done()
    assert writes == (Write("orders", "a", None),) == tuple(rows)
    assert rows.get("orders", "a") is None
    assert not Draft(rows).has("orders", "a")


def test_a_missing_row_is_a_key_error_and_a_list_as_id_a_type_error() -> None:
    draft = Draft(Rows(base()))
    for read in (draft.get, draft.edit):
        with pytest.raises(KeyError) as missing:
            read("orders", "first")
        assert str(missing.value) == "'first'"
    wrong: Any = []
    for ask in (draft.get, draft.has, draft.edit):
        with pytest.raises(TypeError, match="unhashable type: 'list'"):
            ask("orders", wrong)


@pytest.mark.parametrize(
    ("left", "right", "equal_exactly", "equal_by_value"),
    [
        (25, 25.0, False, True),
        (1, True, False, True),
        (0, False, False, True),
        (25, 25.5, False, False),
        ("25", 25, False, False),
        (None, 0, False, False),
        ([1, 2], [2, 1], False, False),
        ({"a": 1, "b": 2.0}, {"b": 2, "a": 1}, False, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True, True),
        (2**70, float(2**70), False, True),
        (float("inf"), 1, False, False),
    ],
)
def test_digests_tell_kinds_of_numbers_apart_only_exactly(
    left: object, right: object, equal_exactly: bool, equal_by_value: bool
) -> None:
    first, second = {"value": [left]}, {"value": [right]}
    assert (row_digest(first) == row_digest(second)) is equal_exactly
    assert (row_digest(first, exact=False) == row_digest(second, exact=False)) is equal_by_value
    start = Rows(base())
    states = written(start, "a", left), written(start, "a", right)
    assert (states[0].digest() == states[1].digest()) is equal_exactly is (states[0] == states[1])
    assert (states[0].digest(exact=False) == states[1].digest(exact=False)) is equal_by_value


def test_rows_of_another_base_are_other_rows() -> None:
    assert Rows(base()) != Rows(base())
    assert Rows(base()) != "rows"


ACTIONS = st.tuples(st.sampled_from(("edit", "put", "remove", "done")), st.sampled_from(IDS), st.integers(0, 2))


def act(draft: Draft, tables: dict[str, Row], action: tuple[str, str, int]) -> None:
    """The same action on a draft and on plain dicts."""
    kind, id, value = action
    if kind == "put":
        draft.put("orders", id, {"status": value})
        tables[id] = {"status": value}
    elif kind == "done":
        draft.done()
    elif id in tables:
        if kind == "edit":
            draft.edit("orders", id)["status"] = value
            tables[id]["status"] = value
        else:
            draft.remove("orders", id)
            del tables[id]


@given(st.lists(ACTIONS, max_size=12), st.lists(ACTIONS, max_size=12), st.lists(ACTIONS, max_size=12))
def test_branches_equal_plain_dicts_and_never_see_each_other(
    trunk: list[tuple[str, str, int]], left: list[tuple[str, str, int]], right: list[tuple[str, str, int]]
) -> None:
    shared = base()
    whole = shared.whole_digest()
    plain: dict[str, Row] = copied(dict(shared.tables["orders"]))
    draft = Draft(Rows(shared))
    for action in trunk:
        act(draft, plain, action)
    fork, _ = draft.done()
    branches: list[tuple[Rows, dict[str, Row]]] = []
    for actions in (left, right):
        draft, copy = Draft(fork), copied(plain)
        for action in actions:
            act(draft, copy, action)
            assert list(draft.items("orders")) == list(copy.items())
        branches.append((draft.done()[0], copy))
    for rows, copy in (*branches, (fork, plain)):
        assert list(rows.items("orders")) == list(copy.items())
        assert all(rows.get("orders", id) == copy.get(id) for id in IDS)
    (one, mine), (other, theirs) = branches
    same = json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    assert (one.digest() == other.digest()) is same is (one == other)
    assert shared.whole_digest() == whole


@given(st.lists(ACTIONS, max_size=12))
def test_writes_tell_what_differs(actions: list[tuple[str, str, int]]) -> None:
    shared = base()
    draft, plain = Draft(Rows(shared)), copied(dict(shared.tables["orders"]))
    for action in actions:
        if action[0] != "done":
            act(draft, plain, action)
    rows, writes = draft.done()
    start = shared.tables["orders"]
    expected = {id: plain.get(id) for id in IDS if plain.get(id) != start.get(id)}
    assert {write.id: write.row for write in writes} == expected == {write.id: write.row for write in rows}
    assert len(rows) == len(expected)
