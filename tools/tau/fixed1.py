"""Tools of tau-bench in the variant `fixed`: the release's, with its defects repaired.

Bookings take seats, changed flights change the cabin, and a second flight has the seats and prices of its own day.
Arguments are checked where the tools are called (`Toolset.checked`).
"""

from __future__ import annotations

import datetime
from functools import wraps
from typing import Any, Final, cast

from simkit.tools.tau import airline1, retail1
from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused

RETAIL: Final = retail1.TOOLS


@wraps(airline1.book_reservation)
def book_reservation(db: Draft, **arguments: Any) -> object:
    """Book flights, take the money and the seats."""
    reservation = cast("Row", airline1.book_reservation(db, **arguments))
    for flight in reservation["flights"]:
        seats = db.edit("flights", flight["flight_number"])["dates"][flight["date"]]["available_seats"]
        seats[reservation["cabin"]] -= len(reservation["passengers"])
        if seats[reservation["cabin"]] < 0:
            raise Refused(f"not enough seats on flight {flight['flight_number']}")
    return reservation


@wraps(airline1.update_reservation_flights)
def update_reservation_flights(db: Draft, **arguments: Any) -> object:
    """Change flights and cabin, and settle the difference."""
    reservation = cast("Row", airline1.update_reservation_flights(db, **arguments))
    reservation["cabin"] = arguments["cabin"]
    return reservation


def search_onestop_flight(db: Draft, origin: str, destination: str, date: str) -> object:
    """The pairs of flights with one stop that can be booked, each flight on its own day."""
    next_date = (as_day(date) + datetime.timedelta(days=1)).isoformat()
    offers: list[list[Row]] = []
    for first, second in airline1.connections(db, origin, destination):
        arrival, _, overnight = first["scheduled_arrival_time_est"].partition("+")
        second_date = next_date if overnight else date
        if arrival > second["scheduled_departure_time_est"]:
            continue
        if airline1.bookable(first, date) and airline1.bookable(second, second_date):
            legs = ((first, date), (second, second_date))
            offers.append([airline1.offer(flight, day) | {"date": day} for flight, day in legs])
    return offers


def as_day(date: str) -> datetime.date:
    """A date from its text.

    Raises:
        Refused: it is none.
    """
    try:
        return datetime.date.fromisoformat(date)
    except ValueError:
        raise Refused(f"{date:.100} is no date; write it as YYYY-MM-DD, such as 2024-05-20") from None


AIRLINE: Final = airline1.TOOLS.replaced(book_reservation, update_reservation_flights, search_onestop_flight)
