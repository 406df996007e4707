"""The ontology of ToolWOZ for rule-based agents and users: phrases for its slots, and their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from simkit.core.ontology import Domain, Ontology, Slot, SlotKind
from simkit.tools.toolwoz.data import Archive
from simkit.tools.toolwoz.records import BOOK, SEARCH, id_field

_Kind: TypeAlias = tuple[SlotKind, tuple[str, ...]]

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = tuple(str(number) for number in range(1, 9))
_CLOSED: Mapping[str, tuple[str, ...]] = {"day": _DAYS, "people": _NUMBERS, "stay": _NUMBERS}
_OPEN = frozenset({"leaveAt", "arriveBy", "time"})

_NOUNS: Mapping[str, tuple[str, ...]] = {
    "restaurant": ("restaurant", "place to eat", "place to dine", "somewhere to eat"),
    "hotel": ("hotel", "place to stay", "somewhere to stay", "accommodation", "lodging"),
    "attraction": ("attraction", "place to go", "places to go", "place to visit", "things to do"),
    "train": ("train", "trains", "train ticket"),
}

_SLOTS: Mapping[str, Mapping[str, _Kind]] = {
    "restaurant": {
        "food": ("category", ("food", "type of food", "cuisine")),
        "pricerange": ("category", ("price range", "price")),
        "name": ("name", ("name", "called")),
        "area": ("category", ("area", "part of town")),
        "time": ("time", ("time", "at what time")),
        "day": ("day", ("day",)),
        "people": ("number", ("people", "number of people", "party")),
    },
    "hotel": {
        "name": ("name", ("name", "called")),
        "area": ("category", ("area", "part of town")),
        "parking": ("flag", ("free parking", "parking")),
        "pricerange": ("category", ("price range", "price")),
        "stars": ("number", ("stars", "star rating", "star")),
        "internet": ("flag", ("free wifi", "wifi", "internet", "free internet")),
        "type": ("category", ("type", "kind of place")),
        "stay": ("number", ("nights", "night", "number of nights", "days")),
        "day": ("day", ("day", "starting from", "arriving on")),
        "people": ("number", ("people", "number of people", "guests")),
    },
    "attraction": {
        "type": ("category", ("type", "type of attraction", "kind of attraction")),
        "name": ("name", ("name", "called")),
        "area": ("category", ("area", "part of town")),
    },
    "train": {
        "leaveAt": ("time", ("leave after", "leaving after", "depart after", "departure time")),
        "destination": ("category", ("destination", "going to", "to")),
        "day": ("day", ("day", "travel on")),
        "arriveBy": ("time", ("arrive by", "arriving by", "arrival time")),
        "departure": ("category", ("departure", "departing from", "leaving from", "from")),
        "people": ("number", ("tickets", "people", "number of people")),
        "trainID": ("id", ("train id", "train number")),
    },
}

_PLACE: Mapping[str, tuple[str, ...]] = {
    "address": ("address",),
    "area": ("area", "part of town"),
    "phone": ("phone number", "telephone number", "phone"),
    "postcode": ("postcode", "postal code"),
    "pricerange": ("price range",),
}
_FACTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "restaurant": {**_PLACE, "food": ("type of food", "food type", "cuisine")},
    "hotel": {
        **_PLACE,
        "internet": ("internet", "free wifi"),
        "parking": ("parking", "free parking"),
        "stars": ("star rating", "stars"),
        "type": ("hotel type", "type"),
    },
    "attraction": {
        **_PLACE,
        "entrance fee": ("entrance fee", "admission fee"),
        "openhours": ("opening hours",),
        "type": ("attraction type", "type"),
    },
    "train": {
        "arriveBy": ("arrival time",),
        "duration": ("travel time", "duration"),
        "leaveAt": ("departure time",),
        "price": ("price", "fare"),
        "trainID": ("train id", "train number"),
    },
}


def ontology_of(archive: Archive) -> Ontology:
    """The ontology over the values of the cache."""
    return Ontology(tuple(_domain(name, archive) for name in _NOUNS))


def _domain(name: str, archive: Archive) -> Domain:
    return Domain(
        name=name,
        nouns=_NOUNS[name],
        id_field=id_field(name),
        search=tuple(_slot(name, key, archive) for key in SEARCH[name]),
        book=tuple(_slot(name, key, archive) for key in BOOK[name]),
        facts=_FACTS[name],
    )


def _slot(domain: str, key: str, archive: Archive) -> Slot:
    kind, phrases = _SLOTS[domain][key]
    if key in _OPEN:
        return Slot(key, kind, phrases)
    if key in _CLOSED:
        return Slot(key, kind, phrases, _CLOSED[key])
    known = {*archive.tables[domain].values(key), *archive.asked[domain].get(key, ())}
    return Slot(key, kind, phrases, tuple(sorted(known)))
