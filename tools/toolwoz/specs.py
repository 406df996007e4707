"""Tool specifications of ToolWOZ: names, parameters and types of the release, with new descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from simkit.core.messages import ToolSpec
from simkit.tools.toolwoz.records import BOOK, SEARCH, Variant

_AREAS = ("centre", "north", "east", "south", "west")
_PRICES = ("cheap", "moderate", "expensive")
_YES_NO = ("yes", "no")

_Parameter: TypeAlias = tuple[str, tuple[str, ...]]

_DESCRIBED: Mapping[str, Mapping[str, _Parameter]] = {
    "search_restaurant": {
        "food": ("Cuisine, for example chinese or modern european.", ()),
        "pricerange": ("How expensive it is.", _PRICES),
        "name": ("The restaurant's name, if it is already known.", ()),
        "area": ("Part of town it lies in.", _AREAS),
    },
    "book_restaurant": {
        "time": ("When the table is for, as HH:MM.", ()),
        "day": ("Day of the week, in full.", ()),
        "people": ("How many people will come.", ()),
        "name": ("The restaurant's name, exactly as the search returned it.", ()),
    },
    "search_hotel": {
        "name": ("The hotel's name, if it is already known.", ()),
        "area": ("Part of town it lies in.", _AREAS),
        "parking": ("Whether it has free parking.", _YES_NO),
        "pricerange": ("How expensive it is.", _PRICES),
        "stars": ("Its number of stars.", ("0", "1", "2", "3", "4")),
        "internet": ("Whether it has free internet.", _YES_NO),
        "type": ("A hotel or a guesthouse.", ("hotel", "guesthouse")),
    },
    "book_hotel": {
        "stay": ("Number of nights.", ()),
        "day": ("Day of arrival, the day of the week in full.", ()),
        "people": ("How many people will stay.", ()),
        "name": ("The hotel's name, exactly as the search returned it.", ()),
    },
    "search_attraction": {
        "type": ("What kind of place, for example museum or college.", ()),
        "name": ("The attraction's name, if it is already known.", ()),
        "area": ("Part of town it lies in.", _AREAS),
    },
    "book_attraction": {},
    "search_train": {
        "leaveAt": ("Earliest departure, as HH:MM.", ()),
        "destination": ("Where the train goes to.", ()),
        "day": ("Day of travel, the day of the week in full.", ()),
        "arriveBy": ("Latest arrival, as HH:MM.", ()),
        "departure": ("Where the train leaves from.", ()),
    },
    "book_train": {
        "people": ("How many tickets.", ()),
        "trainID": ("The train's ID, exactly as the search returned it.", ()),
    },
}

_PURPOSE = {
    "search": "Look for one {} that fits what the customer wants; leave out what they do not care about.",
    "book": "Book one {} for the customer and get the reference.",
}
_NO_BOOKING = "Attractions take no bookings; this never succeeds."

PUBLISHED: Mapping[str, tuple[str, ...]] = {
    **{f"search_{domain}": parameters for domain, parameters in SEARCH.items()},
    **{f"book_{domain}": parameters for domain, parameters in BOOK.items()},
    "search_taxi": ("leaveAt", "destination", "departure", "arriveBy"),
    "book_taxi": (),
    "search_hospital": ("department",),
    "book_hospital": (),
}
"""Tools of the release with their allowed parameters; it shows agents all of them except taxi and hospital."""


def specs(variant: Variant) -> tuple[ToolSpec, ...]:
    """The tools of a variant: eight in `paper`, as the release lists them; `fixed` leaves out `book_attraction`."""
    return tuple(_spec(name) for name in _DESCRIBED if variant == "paper" or name != "book_attraction")


def _spec(name: str) -> ToolSpec:
    action, domain = name.split("_")
    purpose = _NO_BOOKING if name == "book_attraction" else _PURPOSE[action].format(domain)
    return ToolSpec.of(name, purpose, {key: _schema(*parameter) for key, parameter in _DESCRIBED[name].items()})


def _schema(description: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "description": description}
    return {**schema, "enum": list(allowed)} if allowed else schema
