"""Bookings of one branch: an immutable state on top of the town, and the places that a booking takes."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

from simkit.core.frozen import FrozenMap
from simkit.core.messages import JsonObject
from simkit.rule_based.normalise import normal
from simkit.tools.builtin import vocabulary
from simkit.tools.builtin.town import BEDS_A_ROOM, ID_FIELDS, SEATS_A_TABLE, Place, Town


@dataclass(frozen=True, slots=True)
class Booking:
    """One booking: the entity, the places it took, and whether it is still valid."""

    reference: str
    domain: str
    entity: str
    details: tuple[tuple[str, str], ...]
    places: tuple[Place, ...]
    amount: int
    status: Literal["booked", "cancelled"] = "booked"

    def shown(self) -> dict[str, str]:
        """The booking as an agent reads it."""
        return {"reference": self.reference, "domain": self.domain, "status": self.status, **dict(self.details)}


@dataclass(frozen=True, slots=True)
class TravelState:
    """The world of one branch: the rows it has changed. `free` overrides the town's free places."""

    free: FrozenMap[Place, int] = field(default_factory=FrozenMap[Place, int])
    bookings: FrozenMap[str, Booking] = field(default_factory=FrozenMap[str, Booking])


@dataclass(frozen=True, slots=True)
class BookingRefused:
    """Reason why a booking or cancellation was refused, worded for the agent."""

    reason: str


@dataclass(frozen=True, slots=True)
class BookingChange:
    """A booking made or cancelled, the branch's world after it, and the rows it changed."""

    booking: Booking
    state: TravelState
    writes: tuple[JsonObject, ...]


Change: TypeAlias = BookingChange | BookingRefused


def free_places(town: Town, state: TravelState, place: Place) -> int:
    """Number of tables, rooms or seats still free in a branch."""
    own: int | None = state.free.get(place)
    return town.free[place] if own is None else own


def book(town: Town, state: TravelState, domain: str, arguments: Mapping[str, str]) -> Change:
    """Book an entity; the arguments are the tool's, complete and in normal form."""
    id_field = ID_FIELDS[domain]
    entity = town.entity(domain, arguments[id_field])
    if entity is None:
        return BookingRefused(f"there is no {domain} with {id_field} {arguments[id_field]}")
    id_value = entity[id_field]
    if not 1 <= int(arguments["people"]) <= len(vocabulary.PEOPLE):
        return BookingRefused(f"bookings are for 1 to {len(vocabulary.PEOPLE)} people")
    wanted = _wanted(domain, id_value, arguments)
    if isinstance(wanted, BookingRefused):
        return wanted
    places, amount = wanted
    for place in places:
        if free_places(town, state, place) < amount:
            return BookingRefused(_full(place, amount))
    details = ((id_field, id_value), *((name, value) for name, value in arguments.items() if name != id_field))
    booking = Booking(_reference(town, state, places), domain, id_value, details, places, amount)
    return _take(town, state, booking, -amount)


def cancel(town: Town, state: TravelState, reference: str) -> Change:
    """Cancel a booking of this branch, which frees its places."""
    booking = find(state, reference)
    if booking is None:
        return BookingRefused(f"there is no booking with reference {reference}")
    if booking.status == "cancelled":
        return BookingRefused(f"the booking {booking.reference} is already cancelled")
    return _take(town, state, replace(booking, status="cancelled"), booking.amount)


def find(state: TravelState, reference: str) -> Booking | None:
    """A booking of this branch by its reference."""
    return state.bookings.get(normal(reference).upper())


def needed(domain: str, people: int) -> int:
    """Number of tables, rooms or seats that a group needs."""
    match domain:
        case "restaurant":
            return -(-people // SEATS_A_TABLE)
        case "hotel":
            return -(-people // BEDS_A_ROOM)
        case _:
            return people


def nights(day: str, stay: int) -> tuple[str, ...]:
    """The days of a stay; sunday is followed by monday."""
    start = vocabulary.DAYS.index(day)
    return tuple(vocabulary.DAYS[(start + night) % len(vocabulary.DAYS)] for night in range(stay))


def _wanted(domain: str, id_value: str, arguments: Mapping[str, str]) -> tuple[tuple[Place, ...], int] | BookingRefused:
    amount = needed(domain, int(arguments["people"]))
    match domain:
        case "restaurant":
            if arguments["time"] not in vocabulary.TABLE_TIMES:
                first, last = vocabulary.TABLE_TIMES[0], vocabulary.TABLE_TIMES[-1]
                return BookingRefused(f"tables are booked for every half hour from {first} to {last}")
            return ((domain, id_value, arguments["day"], arguments["time"]),), amount
        case "hotel":
            stay = int(arguments["stay"])
            if not 1 <= stay <= len(vocabulary.NIGHTS):
                return BookingRefused(f"rooms are booked for 1 to {len(vocabulary.NIGHTS)} nights")
            return tuple((domain, id_value, day) for day in nights(arguments["day"], stay)), amount
        case _:
            return ((domain, id_value),), amount


def _full(place: Place, amount: int) -> str:
    match place:
        case ("restaurant", name, day, time):
            return f"{name} has not enough tables left on {day} at {time} ({amount} needed)"
        case ("hotel", name, day):
            return f"{name} has not enough rooms left on {day} ({amount} needed)"
        case _:
            return f"train {place[-1]} has not enough seats left ({amount} needed)"


def _take(town: Town, state: TravelState, booking: Booking, change: int) -> BookingChange:
    free = {place: free_places(town, state, place) + change for place in booking.places}
    after = TravelState(state.free.put(free), state.bookings.put({booking.reference: booking}))
    rows: list[dict[str, Any]] = [
        {"table": "free", "key": "/".join(place), "free": left} for place, left in free.items()
    ]
    rows.append({"table": "bookings", "key": booking.reference, **booking.shown()})
    return BookingChange(booking, after, tuple(rows))


def _reference(town: Town, state: TravelState, places: tuple[Place, ...]) -> str:
    made = repr((town.seed, len(state.bookings), places)).encode()
    return b32encode(blake2b(made, digest_size=5).digest()).decode()
