"""The variant `fixed` of tau-bench's tools: checked arguments, whole calls, and the repaired tools of airline."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simkit.core.messages import ToolSpec
from simkit.tools.tau import airline1, fixed1
from simkit.tools.tau.arguments import schema_problem
from simkit.tools.tau.call import Called, Toolset, run_call
from simkit.tools.tau.rows import Base, Draft, Row, Rows
from simkit.tools.tau.text import Refused

LEG: dict[str, Any] = {
    "type": "object",
    "properties": {"number": {"type": "string"}, "day": {"type": "integer"}},
    "required": ["number"],
}
PROPERTIES: dict[str, Any] = {
    "id": {"type": "string"},
    "kind": {"type": "string", "enum": ["one_way", "round_trip"]},
    "price": {"type": "number"},
    "open": {"type": "boolean"},
    "legs": {"type": "array", "items": LEG},
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": PROPERTIES, "required": ["id"]}


def write(db: Draft, id: str) -> object:
    """Write a row, and fail at some ids."""
    db.edit("rows", "a")["text"] = id
    if id == "refused":
        raise Refused("not this one")
    return db.get("rows", id)


WRITE = Toolset.of("rows", write).checked([ToolSpec.of("write", "", {"id": {"type": "string"}}, ("id",))])


def call(name: str, **arguments: object) -> Called:
    return run_call(WRITE, Rows(Base({"rows": {"a": {"text": ""}}})), name, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"id": ""},
        {"id": "x", "kind": "one_way", "price": 2, "open": False, "legs": []},
        {"id": "x", "price": 2.5, "legs": [{"number": "1", "day": 2.0}, {"number": "1", "seat": None}]},
    ],
)
def test_arguments_that_fit_their_schema(arguments: dict[str, Any]) -> None:
    assert schema_problem(arguments, SCHEMA, closed=True) == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"price": 1}, "`id` is missing"),
        ({"id": 1}, "`id` must be a string"),
        ({"id": None}, "`id` must be a string"),
        ({"id": "x", "Kind": 1}, "`Kind` is unknown; the parameters are: id, kind, price, open, legs"),
        ({"id": "x", "kind": "both"}, '`kind` must be one of: "one_way", "round_trip"'),
        ({"id": "x", "price": True}, "`price` must be a number"),
        ({"id": "x", "price": "1"}, "`price` must be a number"),
        ({"id": "x", "open": 1}, "`open` must be true or false"),
        ({"id": "x", "legs": {"number": "1"}}, "`legs` must be a list"),
        ({"id": "x", "legs": [{"number": "1"}, "2"]}, "`legs[1]` must be an object"),
        ({"id": "x", "legs": [{"day": 1}]}, "`legs[0].number` is missing"),
        ({"id": "x", "legs": [{"number": "1", "day": 1.5}]}, "`legs[0].day` must be a whole number"),
    ],
)
def test_arguments_that_do_not_fit_their_schema(arguments: dict[str, Any], problem: str) -> None:
    assert schema_problem(arguments, SCHEMA, closed=True) == problem


SETTINGS: dict[str, Any] = {
    "$defs": {
        "Name": {"type": "string", "enum": ["on", "off"]},
        "Settings": {
            "type": "object",
            "properties": {
                "name": {"$ref": "#/$defs/Name"},
                "port": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            },
            "additionalProperties": False,
        },
    },
    "type": "object",
    "properties": {"settings": {"$ref": "#/$defs/Settings"}, "all": {"items": {"$ref": "#/$defs/Settings"}}},
}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"name": "on", "port": 80}, ""),
        ({"port": None}, ""),
        ("on", "`settings` must be an object"),
        ({"name": "up"}, '`settings.name` must be one of: "on", "off"'),
        ({"port": "80"}, "`settings.port` must be a whole number"),
        ({"speed": 1}, "`settings.speed` is unknown; the parameters are: name, port"),
    ],
)
def test_alternatives_and_named_schemas(settings: object, problem: str) -> None:
    assert schema_problem({"settings": settings}, SETTINGS) == problem
    assert schema_problem({"all": [settings]}, SETTINGS) == problem.replace("settings", "all[0]", 1)


def test_a_call_that_fails_changes_nothing() -> None:
    for id, text in (
        ("refused", "Error: not this one"),
        ("absent", "Error: write failed and changed nothing (KeyError: 'absent')"),
    ):
        called = call("write", id=id)
        assert (called.text, called.error, called.writes) == (text, True, ())
        assert called.rows.get("rows", "a") == {"text": ""}


def test_a_call_that_succeeds_writes() -> None:
    called = call("write", id="a")
    assert (called.text, called.error) == ('{"text": "a"}', False)
    assert called.rows.get("rows", "a") == {"text": "a"}
    assert len(called.writes) == 1


def test_arguments_are_checked_before_a_call_and_an_unknown_tool_is_an_error() -> None:
    assert call("write").text == "Error: write was not called: `id` is missing"
    assert call("write", id="a", x=1).text.startswith("Error: write was not called: `x` is unknown")
    assert call("wirte", id="a").text == "Error: there is no tool wirte; the tools are: write"
    assert call("wirte", id="a").error


def flight(origin: str, destination: str, departure: str, arrival: str, days: dict[str, int]) -> Row:
    """A flight with a number of seats, each at the price of its day in May, on some days."""
    dates: dict[str, Any] = {
        f"2024-{day}": {
            "status": "available",
            "available_seats": {"economy": seats},
            "prices": {"economy": int(day[-2:])},
        }
        for day, seats in days.items()
    }
    return {
        "origin": origin,
        "destination": destination,
        "scheduled_departure_time_est": departure,
        "scheduled_arrival_time_est": arrival,
        "dates": dates,
    }


def airline() -> Rows:
    user = {"payment_methods": {"card": {"source": "credit_card"}}, "reservations": ["R"]}
    held = {"flight_number": "F1", "date": "2024-05-31", "price": 31, "origin": "AAA", "destination": "BBB"}
    flights = {
        "F1": flight("AAA", "BBB", "20:00:00", "02:00:00+1", {"05-31": 3, "05-09": 3}),
        "F2": flight("BBB", "CCC", "02:00:00", "05:00:00", {"06-01": 3, "05-31": 3, "05-10": 3, "05-09": 3}),
        "F3": flight("BBB", "CCC", "01:59:00", "05:00:00", {"06-01": 3, "05-31": 3}),
    }
    reservation: Row = {
        "user_id": "u",
        "cabin": "basic_economy",
        "flights": [held],
        "passengers": [{}],
        "payment_history": [],
    }
    return Rows(Base({"users": {"u": user}, "flights": flights, "reservations": {"R": reservation}}))


def one_stop(toolset: Toolset, date: str) -> list[list[tuple[str, int]]]:
    arguments = {"origin": "AAA", "destination": "CCC", "date": date}
    found = json.loads(run_call(toolset, airline(), "search_onestop_flight", arguments).text)
    return [[(leg["date"], leg["prices"]["economy"]) for leg in pair] for pair in found]


def test_the_second_flight_has_the_day_and_the_price_on_which_it_flies() -> None:
    assert one_stop(fixed1.AIRLINE, "2024-05-31") == [[("2024-05-31", 31), ("2024-06-01", 1)]]
    assert one_stop(fixed1.AIRLINE, "2024-05-09") == [[("2024-05-09", 9), ("2024-05-10", 10)]]
    assert one_stop(airline1.TOOLS, "2024-05-31") == []  # the release looks for 2024-05-32


def test_what_is_no_date_is_refused() -> None:
    arguments = {"origin": "AAA", "destination": "CCC", "date": "May 9"}
    assert run_call(fixed1.AIRLINE, airline(), "search_onestop_flight", arguments).text == (
        "Error: May 9 is no date; write it as YYYY-MM-DD, such as 2024-05-20"
    )


def book(toolset: Toolset, numbers: list[str], passengers: int) -> Called:
    booking: dict[str, Any] = dict.fromkeys(airline1.TOOLS.tools["book_reservation"].parameters, "")
    price = passengers * 31 * len(numbers)
    booking |= {"user_id": "u", "cabin": "economy", "passengers": [{}] * passengers, "nonfree_baggages": 0}
    booking["flights"] = [{"flight_number": number, "date": "2024-05-31"} for number in numbers]
    booking["payment_methods"] = [{"payment_id": "card", "amount": price}]
    return run_call(toolset, airline(), "book_reservation", booking)


def seats(rows: Rows, number: str) -> int:
    return (rows.get("flights", number) or {})["dates"]["2024-05-31"]["available_seats"]["economy"]


def test_a_booking_takes_seats() -> None:
    booked = book(fixed1.AIRLINE, ["F1", "F2"], 2)
    assert not booked.error, booked.text
    assert (seats(booked.rows, "F1"), seats(booked.rows, "F2"), seats(booked.rows, "F3")) == (1, 1, 3)
    assert seats(book(airline1.TOOLS, ["F1", "F2"], 2).rows, "F1") == 3


def test_a_flight_that_is_booked_twice_needs_seats_for_both() -> None:
    assert book(fixed1.AIRLINE, ["F1", "F1"], 1).error is False
    assert book(fixed1.AIRLINE, ["F1", "F1"], 2).text == "Error: not enough seats on flight F1"


@pytest.mark.parametrize(("toolset", "cabin"), [(fixed1.AIRLINE, "economy"), (airline1.TOOLS, "basic_economy")])
def test_changed_flights_change_the_cabin(toolset: Toolset, cabin: str) -> None:
    flights = [{"flight_number": "F1", "date": "2024-05-09"}]
    arguments = {"reservation_id": "R", "cabin": "economy", "flights": flights, "payment_id": "card"}
    called = run_call(toolset, airline(), "update_reservation_flights", arguments)
    assert json.loads(called.text)["cabin"] == (called.rows.get("reservations", "R") or {})["cabin"] == cabin
    assert json.loads(called.text)["payment_history"] == [{"payment_id": "card", "amount": -22}]
