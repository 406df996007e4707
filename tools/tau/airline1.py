"""The tools of tau-bench airline, with the release's order of checks, wording and quirks.

Arguments may be of any JSON type. Python's own exceptions are results that agents read, so a type is never checked
where the release does not check it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from simkit.tools.tau.call import Toolset
from simkit.tools.tau.common1 import calculate, found, get_user_details, think, transfer_to_human_agents
from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused

NOW: Final = "2024-05-15T15:00:00"
"""The time at which every reservation is made."""
NEW_RESERVATIONS: Final = ("HATHAT", "HATHAU", "HATHAV")
"""The ids of new reservations; the last one is given again and again."""
NEW_CERTIFICATES: Final = ("certificate_3221322", "certificate_3221323", "certificate_3221324")
AIRPORTS: Final[Mapping[str, str]] = {
    "SFO": "San Francisco",
    "JFK": "New York",
    "LAX": "Los Angeles",
    "ORD": "Chicago",
    "DFW": "Dallas",
    "DEN": "Denver",
    "SEA": "Seattle",
    "ATL": "Atlanta",
    "MIA": "Miami",
    "BOS": "Boston",
    "PHX": "Phoenix",
    "IAH": "Houston",
    "LAS": "Las Vegas",
    "MCO": "Orlando",
    "EWR": "Newark",
    "CLT": "Charlotte",
    "MSP": "Minneapolis",
    "DTW": "Detroit",
    "PHL": "Philadelphia",
    "LGA": "LaGuardia",
}


def list_all_airports(db: Draft) -> object:
    """The cities of all airports by code."""
    return dict(AIRPORTS)


def get_reservation_details(db: Draft, reservation_id: str) -> object:
    """The row of a reservation. The refusal names a user, as the release's does."""
    return found(db, "reservations", reservation_id, "user not found")


def search_direct_flight(db: Draft, origin: str, destination: str, date: str) -> object:
    """The flights between two airports that can be booked on a day."""
    flights = [flight for flight in _departures(db, origin) if flight["destination"] == destination]
    return [offer(flight, date) for flight in flights if bookable(flight, date)]


def search_onestop_flight(db: Draft, origin: str, destination: str, date: str) -> object:
    """The pairs of flights with one stop that can be booked on a day.

    A first flight that arrives on the next day (`+1`) needs a second one on that day, whose seats and prices are
    nevertheless those of the first day.
    """
    offers: list[list[Row]] = []
    for first, second in connections(db, origin, destination):
        overnight = "+1" in first["scheduled_arrival_time_est"]
        second_date = f"2024-05-{int(date[-2:]) + 1}" if overnight else date
        if first["scheduled_arrival_time_est"] > second["scheduled_departure_time_est"]:
            continue
        if date not in first["dates"] or second_date not in second["dates"]:
            continue
        if bookable(first, date) and bookable(second, second_date):
            offers.append([offer(first, date) | {"date": date}, offer(second, date) | {"date": second_date}])
    return offers


def book_reservation(
    db: Draft,
    user_id: str,
    origin: str,
    destination: str,
    flight_type: str,
    cabin: str,
    flights: list[Row],
    passengers: list[Row],
    payment_methods: list[Row],
    total_baggages: int,
    nonfree_baggages: int,
    insurance: str,
) -> object:
    """Book flights and take the money; the flights keep their free seats."""
    user = found(db, "users", user_id, "user not found")
    booked = deepcopy(flights)
    price = 0
    for flight in booked:
        _price_flight(db, flight, cabin, passengers)
        price += flight["price"] * len(passengers)
    if insurance == "yes":
        price += 30 * len(passengers)
    price += 50 * nonfree_baggages
    _check_payments(user, payment_methods, price)
    _take_payments(db, user_id, payment_methods)
    reservation: Row = {
        "reservation_id": next((id for id in NEW_RESERVATIONS if not db.has("reservations", id)), NEW_RESERVATIONS[-1]),
        "user_id": user_id,
        "origin": origin,
        "destination": destination,
        "flight_type": flight_type,
        "cabin": cabin,
        "flights": booked,
        "passengers": passengers,
        "payment_history": payment_methods,
        "created_at": NOW,
        "total_baggages": total_baggages,
        "nonfree_baggages": nonfree_baggages,
        "insurance": insurance,
    }
    db.put("reservations", reservation["reservation_id"], reservation)
    db.edit("users", user_id)["reservations"].append(reservation["reservation_id"])
    return reservation


def cancel_reservation(db: Draft, reservation_id: str) -> object:
    """Cancel a reservation and record its payments as reversed, again at each call; no gift card gets anything back."""
    reservation = _reservation(db, reservation_id)
    refunds = [_payment(paid["payment_id"], -paid["amount"]) for paid in reservation["payment_history"]]
    changed = db.edit("reservations", reservation_id)
    changed["payment_history"].extend(refunds)
    changed["status"] = "cancelled"
    return changed


def update_reservation_baggages(
    db: Draft, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
) -> object:
    """Change the number of bags and take the money for more bags that are not free."""
    reservation = _reservation(db, reservation_id)
    price = 50 * max(0, nonfree_baggages - reservation["nonfree_baggages"])
    method = _payment_method(db, reservation, payment_id, price)
    changed = db.edit("reservations", reservation_id)
    changed["total_baggages"] = total_baggages
    changed["nonfree_baggages"] = nonfree_baggages
    _take_difference(db, changed, method, payment_id, price)
    return changed


def update_reservation_flights(
    db: Draft, reservation_id: str, cabin: str, flights: list[Row], payment_id: str
) -> object:
    """Change flights and settle the difference. The reservation keeps its cabin, and the flights their free seats."""
    reservation = _reservation(db, reservation_id)
    passengers = reservation["passengers"]
    updated = deepcopy(flights)
    price = 0
    for flight in updated:
        kept = _same_flight(reservation, flight, cabin)
        if kept is None:
            _price_flight(db, flight, cabin, passengers)
        else:
            flight.update(price=kept["price"], origin=kept["origin"], destination=kept["destination"])
        price += flight["price"] * len(passengers)
    price -= sum(flight["price"] for flight in reservation["flights"]) * len(passengers)
    method = _payment_method(db, reservation, payment_id, price)
    changed = db.edit("reservations", reservation_id)
    changed["flights"] = updated
    _take_difference(db, changed, method, payment_id, price)
    return changed


def update_reservation_passengers(db: Draft, reservation_id: str, passengers: list[Row]) -> object:
    """Replace the passengers by as many others."""
    reservation = _reservation(db, reservation_id)
    if len(passengers) != len(reservation["passengers"]):
        raise Refused("number of passengers does not match")
    changed = db.edit("reservations", reservation_id)
    changed["passengers"] = passengers
    return changed


def send_certificate(db: Draft, user_id: str, amount: float) -> object:
    """Give a user a certificate, at most three times.

    The release's run dies at the fourth one; here it is refused.
    """
    user = found(db, "users", user_id, "user not found")
    id = next((id for id in NEW_CERTIFICATES if id not in user["payment_methods"]), None)
    if id is None:
        raise Refused(f"user {user_id} has no room for another certificate")
    methods = db.edit("users", user_id)["payment_methods"]
    methods[id] = {"source": "certificate", "amount": amount, "id": id}
    return f"Certificate {id} added to user {user_id} with amount {amount}."


def _departures(db: Draft, origin: str) -> Iterator[Row]:
    """The flights from an airport, in the order of the table."""
    return (flight for _, flight in db.items("flights") if flight["origin"] == origin)


def connections(db: Draft, origin: str, destination: str) -> Iterator[tuple[Row, Row]]:
    """The pairs of flights between two airports with one stop, at any time of the day."""
    for first in _departures(db, origin):
        for second in _departures(db, first["destination"]):
            if second["destination"] == destination:
                yield first, second


def bookable(flight: Row, date: str) -> bool:
    """Whether a flight can be booked on a day."""
    return date in flight["dates"] and flight["dates"][date]["status"] == "available"


def offer(flight: Row, date: str) -> Row:
    """A flight as it is on one day."""
    return {key: value for key, value in flight.items() if key != "dates"} | flight["dates"][date]


def _reservation(db: Draft, reservation_id: str) -> Row:
    return found(db, "reservations", reservation_id, "reservation not found")


def _price_flight(db: Draft, flight: Row, cabin: str, passengers: list[Row]) -> None:
    """Write the price and the airports into a flight of a booking, after the checks that it can be booked."""
    number = flight["flight_number"]
    scheduled = found(db, "flights", number, f"flight {number} not found")
    if flight["date"] not in scheduled["dates"]:
        raise Refused(f"flight {number} not found on date {flight['date']}")
    day = scheduled["dates"][flight["date"]]
    if day["status"] != "available":
        raise Refused(f"flight {number} not available on date {flight['date']}")
    if day["available_seats"][cabin] < len(passengers):
        raise Refused(f"not enough seats on flight {number}")
    flight["price"] = day["prices"][cabin]
    flight["origin"] = scheduled["origin"]
    flight["destination"] = scheduled["destination"]


def _same_flight(reservation: Row, flight: Row, cabin: str) -> Row | None:
    """The flight as the reservation has it, if it stays the same in number, date and cabin."""
    for held in reservation["flights"]:
        if (
            held["flight_number"] == flight["flight_number"]
            and held["date"] == flight["date"]
            and cabin == reservation["cabin"]
        ):
            return held
    return None


def _check_payments(user: Row, payments: list[Row], price: float) -> None:
    for payment in payments:
        id, amount = payment["payment_id"], payment["amount"]
        if id not in user["payment_methods"]:
            raise Refused(f"payment method {id} not found")
        method = user["payment_methods"][id]
        if method["source"] in ("gift_card", "certificate") and method["amount"] < amount:
            raise Refused(f"not enough balance in payment method {id}")
    paid = sum(payment["amount"] for payment in payments)
    if paid != price:
        raise Refused(f"payment amount does not add up, total price is {price}, but paid {paid}")


def _take_payments(db: Draft, user_id: str, payments: list[Row]) -> None:
    """Take money from gift cards and use certificates up, whole."""
    for payment in payments:
        id, amount = payment["payment_id"], payment["amount"]
        methods = db.edit("users", user_id)["payment_methods"]
        if methods[id]["source"] == "gift_card":
            methods[id]["amount"] -= amount
        elif methods[id]["source"] == "certificate":
            del methods[id]


def _payment_method(db: Draft, reservation: Row, id: str, price: float) -> Row:
    """The method by which a change of a reservation can be paid."""
    methods = db.get("users", reservation["user_id"])["payment_methods"]
    if id not in methods:
        raise Refused("payment method not found")
    method = methods[id]
    if method["source"] == "certificate":
        raise Refused("certificate cannot be used to update reservation")
    if method["source"] == "gift_card" and method["amount"] < price:
        raise Refused("gift card balance is not enough")
    return method


def _take_difference(db: Draft, reservation: Row, method: Row, id: str, price: float) -> None:
    """Settle the price of a change, which may be negative."""
    if method["source"] == "gift_card":
        db.edit("users", reservation["user_id"])["payment_methods"][id]["amount"] -= price
    if price != 0:
        reservation["payment_history"].append(_payment(id, price))


def _payment(id: str, amount: Any) -> Row:
    return {"payment_id": id, "amount": amount}


TOOLS: Final = Toolset.of(
    "airline",
    book_reservation,
    calculate,
    cancel_reservation,
    get_reservation_details,
    get_user_details,
    list_all_airports,
    search_direct_flight,
    search_onestop_flight,
    send_certificate,
    think,
    transfer_to_human_agents,
    update_reservation_baggages,
    update_reservation_flights,
    update_reservation_passengers,
)
