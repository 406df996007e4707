"""The tools of tau2-bench airline, with the release's order of checks, wording and quirks.

Arguments may be of any JSON type, and only new records are checked. Python's own exceptions are results that agents
read, so a type is never checked where the release does not check it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from simkit.tools.tau.airline1 import AIRPORTS, NEW_CERTIFICATES, NEW_RESERVATIONS, NOW
from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused
from simkit.tools.tau2.call import Toolset
from simkit.tools.tau2.common import calculate, found, transfer_to_human_agents
from simkit.tools.tau2.records import (
    Certificate,
    FlightInfo,
    Passenger,
    Payment,
    RecordT,
    Reservation,
    ReservationFlight,
)
from simkit.tools.tau2.text import Record


def list_all_airports(db: Draft) -> object:
    """The codes and cities of all airports."""
    return [Record({"iata": code, "city": city}) for code, city in AIRPORTS.items()]


def get_reservation_details(db: Draft, reservation_id: str) -> object:
    """The row of a reservation."""
    return Record(_reservation(db, reservation_id))


def get_user_details(db: Draft, user_id: str) -> object:
    """The row of a user."""
    return Record(_user(db, user_id))


def get_flight_status(db: Draft, flight_number: str, date: str) -> object:
    """The status of a flight on a day."""
    return _day(db, flight_number, date)["status"]


def search_direct_flight(db: Draft, origin: str, destination: str, date: str) -> object:
    """The flights between two airports that can be booked on a day."""
    return [Record(offer(flight, date, None)) for flight in bookable(db, origin, destination, date)]


def search_onestop_flight(db: Draft, origin: str, destination: str, date: str) -> object:
    """The pairs of flights with one stop that can be booked.

    A first flight that arrives on the next day (`+1`) needs a second one on the next day of May, which leaves later
    than `+1` when times are compared as texts.
    """
    offers: list[list[Record]] = []
    for first in bookable(db, origin, None, date):
        arrival = first["scheduled_arrival_time_est"]
        second_date = f"2024-05-{int(date[-2:]) + 1}" if "+1" in arrival else date
        for second in bookable(db, first["destination"], destination, second_date):
            if second["scheduled_departure_time_est"] >= arrival:
                offers.append([Record(offer(first, date, date)), Record(offer(second, second_date, second_date))])
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
    """Book flights, take the money and the seats."""
    wanted, people = _records(FlightInfo, flights), _records(Passenger, passengers)
    payments = _records(Payment, payment_methods)
    user = _user(db, user_id)
    id = next((id for id in NEW_RESERVATIONS if not db.has("reservations", id)), None)
    if id is None:
        raise Refused("Too many reservations")
    made: dict[str, Any] = {"origin": origin, "destination": destination, "flight_type": flight_type, "cabin": cabin}
    made |= {"passengers": people, "payment_history": payments, "created_at": NOW, "insurance": insurance}
    made |= {"total_baggages": total_baggages, "nonfree_baggages": nonfree_baggages}
    reservation = Reservation(reservation_id=id, user_id=user_id, flights=[], **made)
    price = 0
    for flight in wanted:
        booked = _priced(db, flight, cabin, len(people))
        reservation.flights.append(booked)
        price += booked.price * len(people)
    price += 30 * len(people) if insurance == "yes" else 0
    price += 50 * nonfree_baggages
    _check_payments(user, payments, price)
    _take_payments(db, user_id, payments)
    for flight in wanted:
        days = db.edit("flights", flight.flight_number)["dates"]
        days[flight.date]["available_seats"][cabin] -= len(people)
    row = reservation.model_dump()
    db.put("reservations", id, row)
    db.edit("users", user_id)["reservations"].append(id)
    return Record(row)


def cancel_reservation(db: Draft, reservation_id: str) -> object:
    """Cancel a reservation and record its payments as reversed, again at each call; flights get no seats back."""
    reservation = _reservation(db, reservation_id)
    refunds = [_payment(paid["payment_id"], -paid["amount"]) for paid in reservation["payment_history"]]
    changed = db.edit("reservations", reservation_id)
    changed["payment_history"].extend(refunds)
    changed["status"] = "cancelled"
    return Record(changed)


def update_reservation_baggages(
    db: Draft, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
) -> object:
    """Change the number of bags and take the money for more bags that are not free."""
    reservation = _reservation(db, reservation_id)
    price = 50 * max(0, nonfree_baggages - reservation["nonfree_baggages"])
    payments = _settle(db, reservation, payment_id, price)
    changed = db.edit("reservations", reservation_id)
    changed["payment_history"].extend(payments)
    changed["total_baggages"] = total_baggages
    changed["nonfree_baggages"] = nonfree_baggages
    return Record(changed)


def update_reservation_flights(
    db: Draft, reservation_id: str, cabin: str, flights: list[Row], payment_id: str
) -> object:
    """Change flights and cabin, and settle the difference. The flights' free seats stay as they are."""
    wanted = _records(FlightInfo, flights)
    reservation = _reservation(db, reservation_id)
    _user(db, reservation["user_id"])
    count = len(reservation["passengers"])
    price, updated = 0, list[Row]()
    for flight in wanted:
        kept = _same_flight(reservation, flight, cabin)
        updated.append(_priced(db, flight, cabin, count).model_dump() if kept is None else dict(kept))
        price += updated[-1]["price"] * count
    price -= sum(flight["price"] for flight in reservation["flights"]) * count
    payments = _settle(db, reservation, payment_id, price)
    changed = db.edit("reservations", reservation_id)
    changed["payment_history"].extend(payments)
    changed["flights"] = updated
    changed["cabin"] = cabin
    return Record(changed)


def update_reservation_passengers(db: Draft, reservation_id: str, passengers: list[Row]) -> object:
    """Replace the passengers by as many others."""
    people = _records(Passenger, passengers)
    reservation = _reservation(db, reservation_id)
    if len(people) != len(reservation["passengers"]):
        raise Refused("Number of passengers does not match")
    changed = db.edit("reservations", reservation_id)
    changed["passengers"] = _rows(people)
    return Record(changed)


def send_certificate(db: Draft, user_id: str, amount: float) -> object:
    """Give a user a certificate, at most three times."""
    user = _user(db, user_id)
    id = next((id for id in NEW_CERTIFICATES if id not in user["payment_methods"]), None)
    if id is None:
        raise Refused("Too many certificates")
    certificate = Certificate(id=id, amount=amount, source="certificate")
    db.edit("users", user_id)["payment_methods"][id] = certificate.model_dump()
    return f"Certificate {id} added to user {user_id} with amount {amount}."


def bookable(db: Draft, origin: str | None, destination: str | None, date: str) -> Iterator[Row]:
    """The flights that can be booked on a day, in the order of the table; None stands for any airport."""
    for _, flight in db.items("flights"):
        if (
            (origin is None or flight["origin"] == origin)
            and (destination is None or flight["destination"] == destination)
            and date in flight["dates"]
            and flight["dates"][date]["status"] == "available"
        ):
            yield flight


def offer(flight: Row, date: str, shown: str | None) -> Row:
    """A flight as it is offered on a day; `shown` is the date in it."""
    names = ("scheduled_departure_time_est", "scheduled_arrival_time_est")
    found = {name: flight[name] for name in ("flight_number", "origin", "destination")} | {"status": "available"}
    found |= {name: flight[name] for name in names} | {"date": shown}
    return found | {name: flight["dates"][date][name] for name in ("available_seats", "prices")}


def _records(kind: type[RecordT], values: Any) -> list[RecordT]:
    """Records in place of objects if all values are objects; anything else is given back as it is."""
    if all(isinstance(value, dict) for value in values):
        return [kind(**value) for value in values]
    return cast("list[RecordT]", values)


def _rows(people: Any) -> Any:
    """Passengers as rows; values that are no passengers are given back as they are."""
    values = cast("list[object]", people)
    if isinstance(people, list) and all(isinstance(each, Passenger) for each in values):
        return [each.model_dump() for each in values if isinstance(each, Passenger)]
    return values


def _user(db: Draft, user_id: str) -> Row:
    return found(db, "users", user_id, f"User {user_id} not found")


def _reservation(db: Draft, reservation_id: str) -> Row:
    return found(db, "reservations", reservation_id, f"Reservation {reservation_id} not found")


def _day(db: Draft, number: str, date: str) -> Row:
    flight = found(db, "flights", number, f"Flight {number} not found")
    if date not in flight["dates"]:
        raise Refused(f"Flight {number} not found on date {date}")
    return flight["dates"][date]


def _priced(db: Draft, flight: FlightInfo, cabin: str, passengers: int) -> ReservationFlight:
    """A flight of a booking with its price, after the checks that it can be booked."""
    number = flight.flight_number
    day = _day(db, number, flight.date)
    if day["status"] != "available":
        raise Refused(f"Flight {number} not available on date {flight.date}")
    if day["available_seats"][cabin] < passengers:
        raise Refused(f"Not enough seats on flight {number}")
    scheduled = db.get("flights", number)
    airports = {name: scheduled[name] for name in ("origin", "destination")}
    return ReservationFlight(flight_number=number, date=flight.date, price=day["prices"][cabin], **airports)


def _same_flight(reservation: Row, flight: FlightInfo, cabin: str) -> Row | None:
    """The flight as the reservation has it, if it stays the same in number, date and cabin."""
    for held in reservation["flights"]:
        same = held["flight_number"] == flight.flight_number and held["date"] == flight.date
        if same and cabin == reservation["cabin"]:
            return held
    return None


def _check_payments(user: Row, payments: list[Payment], price: int) -> None:
    for payment in payments:
        if payment.payment_id not in user["payment_methods"]:
            raise Refused(f"Payment method {payment.payment_id} not found")
        method = user["payment_methods"][payment.payment_id]
        if method["source"] in ("gift_card", "certificate") and method["amount"] < payment.amount:
            raise Refused(f"Not enough balance in payment method {payment.payment_id}")
    paid = sum(payment.amount for payment in payments)
    if paid != price:
        raise Refused(f"Payment amount does not add up, total price is {price}, but paid {paid}")


def _take_payments(db: Draft, user_id: str, payments: list[Payment]) -> None:
    """Take money from gift cards and use certificates up, whole."""
    for payment in payments:
        methods = db.edit("users", user_id)["payment_methods"]
        if methods[payment.payment_id]["source"] == "gift_card":
            methods[payment.payment_id]["amount"] -= payment.amount
        elif methods[payment.payment_id]["source"] == "certificate":
            del methods[payment.payment_id]


def _settle(db: Draft, reservation: Row, id: str, price: int) -> list[Row]:
    """Take the price of a change, which may be negative, and give the payment for the reservation's history."""
    methods = _user(db, reservation["user_id"])["payment_methods"]
    if id not in methods:
        raise Refused("Payment method not found")
    if methods[id]["source"] == "certificate":
        raise Refused("Certificate cannot be used to update reservation")
    if methods[id]["source"] == "gift_card":
        if methods[id]["amount"] < price:
            raise Refused("Gift card balance is not enough")
        db.edit("users", reservation["user_id"])["payment_methods"][id]["amount"] -= price
    return [Payment(payment_id=id, amount=price).model_dump()] if price != 0 else []


def _payment(id: str, amount: int) -> Row:
    return {"payment_id": id, "amount": amount}


TOOLS: Final = Toolset.of(
    "AirlineTools",
    read=[
        get_flight_status,
        get_reservation_details,
        get_user_details,
        list_all_airports,
        search_direct_flight,
        search_onestop_flight,
    ],
    write=[
        book_reservation,
        cancel_reservation,
        send_certificate,
        update_reservation_baggages,
        update_reservation_flights,
        update_reservation_passengers,
    ],
    generic=[calculate, transfer_to_human_agents],
)
