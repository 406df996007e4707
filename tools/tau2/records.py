"""The records that tools make and check in tau2-bench. Everything else in the tables takes values of any type.

The classes have the names and fields of the release's, because both are in the messages that agents read. Texts of
numbers become numbers, keys without a field are dropped.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar

from pydantic import BaseModel

RecordT = TypeVar("RecordT", bound=BaseModel)
Cabin: TypeAlias = Literal["business", "economy", "basic_economy"]


class UserAddress(BaseModel):
    """Retail: an address."""

    address1: str
    address2: str
    city: str
    country: str
    state: str
    zip: str


class FlightInfo(BaseModel):
    """Airline: a flight that is asked for."""

    flight_number: str
    date: str


class Passenger(BaseModel):
    """Airline: a passenger."""

    first_name: str
    last_name: str
    dob: str


class Payment(BaseModel):
    """Airline: a payment in whole dollars."""

    payment_id: str
    amount: int


class ReservationFlight(BaseModel):
    """Airline: a flight of a reservation."""

    flight_number: str
    origin: str
    destination: str
    date: str
    price: int


class Reservation(BaseModel):
    """Airline: a reservation."""

    reservation_id: str
    user_id: str
    origin: str
    destination: str
    flight_type: Literal["round_trip", "one_way"]
    cabin: Cabin
    flights: list[ReservationFlight]
    passengers: list[Passenger]
    payment_history: list[Payment]
    created_at: str
    total_baggages: int
    nonfree_baggages: int
    insurance: Literal["yes", "no"]
    status: Literal["cancelled"] | None = None


class Certificate(BaseModel):
    """Airline: a certificate, one of a user's payment methods."""

    source: Literal["certificate"]
    id: str
    amount: float


class Task(BaseModel):
    """Mock: a task of a user."""

    task_id: str
    title: str
    description: str | None = None
    status: Literal["pending", "completed"]


class Notification(BaseModel, extra="forbid"):
    """Mock: a notification in the user's inbox."""

    notification_id: str
    message: str
    status: Literal["unread", "read"] = "unread"
    task_id: str | None = None
