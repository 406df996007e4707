"""Phrases wishes as the goal list of a simulated user: one wish per line, in varied wording."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from simkit.core.ontology import Wish

_OPENINGS = (
    "You are planning a trip to Alderhaven and are talking to a travel assistant.",
    "You are visiting Alderhaven soon and want a travel assistant to arrange things for you.",
    "You are on your way to Alderhaven and ask a travel assistant for help.",
)
_SEARCHES = {
    "restaurant": (
        "You are looking for a restaurant: {what}.",
        "Find somewhere to eat: {what}.",
        "You want to eat out. What you want: {what}.",
    ),
    "hotel": (
        "You are looking for a place to stay: {what}.",
        "You need a hotel for the visit: {what}.",
        "Find accommodation: {what}.",
    ),
    "attraction": (
        "You want to see something of the town: {what}.",
        "You are looking for an attraction: {what}.",
        "Find a place to visit: {what}.",
    ),
    "train": ("You are looking for a train: {what}.", "You need a train: {what}.", "Find a train ride: {what}."),
}
_SLOTS = {
    "food": ("it should serve {} food", "the food should be {}"),
    "pricerange": ("the price range should be {}", "it should be in the {} price range"),
    "area": ("it should be in the {} area", "the area should be {}"),
    "name": ("it is called {}", "its name is {}"),
    "type": ("the type should be {}", "it should be of the type {}"),
    "stars": ("it should have {} stars", "the star rating should be {}"),
    "departure": ("it should leave from {}", "the departure station is {}"),
    "destination": ("it should go to {}", "the destination is {}"),
    "day": ("it should run on {}", "the day is {}"),
    "leaveAt": ("it should leave at {} or later", "it should not leave before {}"),
    "arriveBy": ("it should arrive by {}", "it should arrive at {} or earlier"),
}
_FLAGS = {
    "internet": ("it should have free internet", "free internet is a must"),
    "parking": ("it should have free parking", "free parking is a must"),
}
_BOOKINGS = {
    "restaurant": (
        "Once you have found it, book a table for {people} on {day} at {time}.",
        "Then book a table: {people}, on {day}, at {time}.",
    ),
    "hotel": (
        "Once you have found it, book it for {people} and {stay} from {day}.",
        "Then book it: {people}, {stay}, starting on {day}.",
    ),
    "train": ("Once you have found it, book it for {people}.", "Then buy tickets for {people}."),
}
_REQUESTS = (
    "Make sure you get the {facts}.",
    "Ask for the {facts}.",
    "You also want to know the {facts}.",
)
_FACTS = {"phone": "phone number", "duration": "travel time"}
_REFERENCES = ("Make sure you get the booking reference.", "Ask for the reference of the booking.")


def instructions(wishes: tuple[Wish, ...], rng: Random) -> str:
    """The goal list of a task, one wish a line."""
    lines = [rng.choice(_OPENINGS)]
    for wish in wishes:
        lines.append(rng.choice(_SEARCHES[wish.domain]).format(what=_constraints(wish.inform, rng)))
        if wish.requests:
            facts = " and the ".join(_FACTS.get(fact, fact) for fact in wish.requests)
            lines.append(rng.choice(_REQUESTS).format(facts=facts))
        if wish.book:
            lines.append(rng.choice(_BOOKINGS[wish.domain]).format(**_details(wish.book)))
            lines.append(rng.choice(_REFERENCES))
    return "\n".join(lines)


def _constraints(inform: Mapping[str, str], rng: Random) -> str:
    said = [
        rng.choice(_FLAGS[slot]) if slot in _FLAGS else rng.choice(_SLOTS[slot]).format(value)
        for slot, value in inform.items()
    ]
    return "; ".join(said)


def _details(book: Mapping[str, str]) -> dict[str, str]:
    counted = {"people": ("person", "people"), "stay": ("night", "nights")}
    return {
        slot: f"{value} {counted[slot][value != '1']}" if slot in counted else value for slot, value in book.items()
    }
