"""Calls of tools in the manner of tau-bench: names of arguments, errors, what is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simkit.tools.tau import airline1, retail1
from simkit.tools.tau.call import Called, Toolset, run_call
from simkit.tools.tau.rows import Base, Draft, Rows
from simkit.tools.tau.text import Refused

USER: dict[str, Any] = {"payment_methods": {}, "reservations": []}


def note(db: Draft, id: str, text: str, tone: str) -> object:
    """Write a note, unless the tone is wrong."""
    db.edit("notes", id)["text"] = text
    if tone == "broken":
        raise Refused("broken tone")
    return {"text": text, "tone": tone}


NOTES = Toolset.of("notes", note)


def rows() -> Rows:
    return Rows(Base({"notes": {"a": {"text": "old"}}}))


def call(**arguments: object) -> Called:
    return run_call(NOTES, rows(), "note", arguments)


def test_a_result_is_json_and_the_rows_are_those_after_the_call() -> None:
    called = call(id="a", text="é", tone="dry")
    assert called.text == '{"text": "\\u00e9", "tone": "dry"}'
    assert called.rows.get("notes", "a") == {"text": "é"}
    assert [(write.id, write.row) for write in called.writes] == [("a", {"text": "é"})]
    assert not called.error
    assert not called.ended


def test_what_was_changed_before_an_error_stays_changed() -> None:
    called = call(id="a", text="new", tone="broken")
    assert called.text == "Error: broken tone"
    assert called.error
    assert called.rows.get("notes", "a") == {"text": "new"}
    assert len(called.writes) == 1


def test_python_s_own_errors_are_the_agent_s_text() -> None:
    assert call(id="b", text="new", tone="dry").text == "Error: 'b'"
    assert call(id=["a"], text="new", tone="dry").text == "Error: unhashable type: 'list'"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "Note.invoke() missing 3 required positional arguments: 'id', 'text', and 'tone'"),
        ({"text": 1}, "Note.invoke() missing 2 required positional arguments: 'id' and 'tone'"),
        ({"tone": 1, "id": 2}, "Note.invoke() missing 1 required positional argument: 'text'"),
        ({"id": 1, "y": 2, "x": 3}, "Note.invoke() got an unexpected keyword argument 'y'"),
        ({"db": 1, "id": 1, "text": 2, "tone": 3}, "Note.invoke() got an unexpected keyword argument 'db'"),
        (
            {"x": 1, "data": 2},
            "tau_bench.envs.notes.tools.note.Note.invoke() got multiple values for keyword argument 'data'",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_told_as_python_tells_it(arguments: dict[str, Any], error: str) -> None:
    called = call(**arguments)
    assert called.text == f"Error: {error}"
    assert called.error
    assert called.writes == ()


def test_an_unknown_tool_is_no_error_and_changes_nothing() -> None:
    before = rows()
    called = run_call(NOTES, before, "Note", {"id": "a"})
    assert called == Called("Unknown action Note", before)


@pytest.mark.parametrize("toolset", [retail1.TOOLS, airline1.TOOLS])
def test_a_transfer_ends_the_episode(toolset: Toolset) -> None:
    called = run_call(toolset, rows(), "transfer_to_human_agents", {"summary": None})
    assert (called.text, called.ended, called.error) == ("Transfer successful", True, False)


def test_the_fourth_certificate_is_refused() -> None:
    state = Rows(Base({"users": {"u": USER}}))
    texts: list[str] = []
    for _ in range(4):
        called = run_call(airline1.TOOLS, state, "send_certificate", {"user_id": "u", "amount": 5})
        state = called.rows
        texts.append(called.text)
    assert texts[2] == "Certificate certificate_3221324 added to user u with amount 5."
    assert texts[3].startswith("Error: ")
    assert json.dumps(state.get("users", "u")).count("amount") == 3
    assert USER == {"payment_methods": {}, "reservations": []}


def test_the_third_booking_is_overwritten_by_the_fourth() -> None:
    state = Rows(Base({"users": {"u": USER}, "flights": {}, "reservations": {}}))
    booking: dict[str, Any] = dict.fromkeys(airline1.TOOLS.tools["book_reservation"].parameters, "no")
    booking |= {"user_id": "u", "flights": [], "passengers": [], "payment_methods": [], "nonfree_baggages": 0}
    for number in range(4):
        state = run_call(airline1.TOOLS, state, "book_reservation", booking | {"total_baggages": number}).rows
    assert (state.get("users", "u") or {})["reservations"] == ["HATHAT", "HATHAU", "HATHAV", "HATHAV"]
    assert [row["total_baggages"] for _, row in state.items("reservations")] == [0, 1, 3]
