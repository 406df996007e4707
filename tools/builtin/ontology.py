"""The town's ontology for rule-based components and its tool specifications for models."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from simkit.core.ontology import Domain, Ontology, Slot
from simkit.tools.builtin import vocabulary
from simkit.tools.builtin.arguments import Parameter, Tool
from simkit.tools.builtin.town import DOMAINS, Town

_CONTACT: Final = {
    "phone": ("phone number", "phone", "telephone number"),
    "address": ("address",),
    "postcode": ("postcode", "post code", "postal code"),
}
_FEE: Final = {"entrance fee": ("entrance fee", "admission")}
PLACE_FACTS: Final = frozenset((*_CONTACT, *_FEE, "duration", "price"))
"""Fields of entities that no search takes, about which customers ask."""
_AREA: Final = Slot("area", "category", ("area", "part of town", "neighbourhood"), vocabulary.AREAS)
_PRICE: Final = Slot("pricerange", "category", ("price range", "price", "budget"), vocabulary.PRICES)
_DAY: Final = Slot("day", "day", ("day", "which day", "what day"), vocabulary.DAYS)
_PEOPLE: Final = Slot(
    "people", "number", ("people", "persons", "guests", "party size", "how many people"), vocabulary.PEOPLE
)
_TRAVELLERS: Final = Slot(
    "people", "number", ("people", "tickets", "passengers", "seats", "how many people"), vocabulary.PEOPLE
)
_NIGHTS: Final = Slot("stay", "number", ("nights", "how many nights", "length of stay", "stay"), vocabulary.NIGHTS)
_TABLE_TIME: Final = Slot("time", "time", ("time", "what time"), vocabulary.TABLE_TIMES)
_STATIONS: Final = (vocabulary.TOWN, *vocabulary.STATIONS)

_REFERENCE: Final = Parameter("reference", "id", "reference of a booking made in this conversation")
_DESCRIPTIONS: Final = {
    "departure": "station the train leaves from",
    "destination": "station the train goes to",
    "leaveAt": "earliest departure, HH:MM",
    "arriveBy": "latest arrival, HH:MM",
    "trainID": "id of the train, as a search shows it",
    "people": "number of people, 1 to 8",
    "stay": "number of nights, 1 to 5",
    "day": "day of the week",
    "time": "time of the booking, HH:MM, on the hour or half hour",
}
_TIME: Final = r"^([01]\d|2[0-3]):[0-5]\d$"
"""Pattern of times."""


def ontology_of(town: Town, domains: Sequence[str] = DOMAINS, *, facts: bool = True) -> Ontology:
    """Domains of a town; names are those of its entities. Without `facts` there is nothing else to ask for."""
    known = (_restaurant(town), _hotel(town), _attraction(town), _train())
    chosen = tuple(domain for domain in known if domain.name in domains)
    return Ontology(chosen if facts else tuple(replace(domain, facts={}) for domain in chosen))


def _restaurant(town: Town) -> Domain:
    food = Slot("food", "category", ("food", "cuisine", "kind of food"), vocabulary.FOODS)
    return Domain(
        name="restaurant",
        nouns=("restaurant", "place to eat", "somewhere to eat"),
        id_field="name",
        search=(food, _PRICE, _AREA, _name(town, "restaurant")),
        book=(_DAY, _TABLE_TIME, _PEOPLE),
        facts=_CONTACT,
    )


def _hotel(town: Town) -> Domain:
    search = (
        Slot("type", "category", ("type", "kind of lodging", "type of lodging"), vocabulary.LODGINGS),
        _PRICE,
        _AREA,
        Slot("stars", "number", ("stars", "star rating"), vocabulary.STARS),
        Slot("internet", "flag", ("internet", "free internet", "wifi"), vocabulary.FLAGS),
        Slot("parking", "flag", ("parking", "free parking"), vocabulary.FLAGS),
        _name(town, "hotel"),
    )
    return Domain(
        name="hotel",
        nouns=("hotel", "place to stay", "somewhere to stay", "accommodation"),
        id_field="name",
        search=search,
        book=(_DAY, _NIGHTS, _PEOPLE),
        facts=_CONTACT,
    )


def _attraction(town: Town) -> Domain:
    kind = Slot("type", "category", ("type", "kind of attraction", "type of attraction"), vocabulary.SIGHTS)
    return Domain(
        name="attraction",
        nouns=("attraction", "place to visit", "sight", "something to see"),
        id_field="name",
        search=(kind, _AREA, _name(town, "attraction")),
        facts={**_CONTACT, **_FEE},
    )


def _train() -> Domain:
    search = (
        Slot("departure", "category", ("departure station", "departure", "from"), _STATIONS),
        Slot("destination", "category", ("destination", "to"), _STATIONS),
        _DAY,
        Slot("leaveAt", "time", ("departure time", "leave after", "leave at")),
        Slot("arriveBy", "time", ("arrival time", "arrive by", "arrive before")),
    )
    facts = {
        "duration": ("travel time", "duration"),
        "price": ("price", "fare"),
        "arriveBy": ("arrival time",),
        "leaveAt": ("departure time",),
    }
    return Domain(
        name="train",
        nouns=("train", "train ride"),
        id_field="trainID",
        search=search,
        book=(_TRAVELLERS,),
        facts=facts,
    )


def _name(town: Town, domain: str) -> Slot:
    return Slot("name", "name", ("name",), tuple(row["name"] for row in town.tables[domain].rows))


def tools_of(ontology: Ontology, *, compact: bool = False, upkeep: bool = True) -> tuple[Tool, ...]:
    """The tools: a search for each domain, a booking for domains that have one, and with `upkeep` two for bookings.

    Compact ones have the same parameters. Values and patterns in their schemas replace descriptions, so constrained
    replies hold no other values.
    """
    form = _typed if compact else _parameter
    tools: list[Tool] = []
    for domain in ontology.domains:
        text = f"Find a {domain.name}. Returns a list with the best match, empty if there is none."
        tools.append(Tool.of(f"search_{domain.name}", text, tuple(map(form, domain.search)), required=False))
        if domain.book:
            tools.append(_booking_tool(domain, form))
    if upkeep:
        find = "Look a booking up by its reference."
        cancel = "Cancel a booking by its reference; its places are free again."
        tools.append(Tool.of("find_booking", find, (_REFERENCE,), required=True))
        tools.append(Tool.of("cancel_booking", cancel, (_REFERENCE,), required=True))
    return tuple(map(_compact, tools)) if compact else tuple(tools)


def _compact(tool: Tool) -> Tool:
    """The tool with one sentence of description, and without descriptions of names and ids."""
    parameters = (
        replace(each, description="") if each.kind in ("name", "id") else each for each in tool.parameters.values()
    )
    text = re.split("[.;]", tool.description)[0].replace(" a attraction", " an attraction")
    return Tool.of(tool.name, f"{text}.", tuple(parameters), required=tool.required)


def _booking_tool(domain: Domain, form: Callable[[Slot], Parameter]) -> Tool:
    kind = "id" if domain.id_field == "trainID" else "name"
    described = _DESCRIPTIONS.get(domain.id_field, f"name of the {domain.name}, as a search shows it")
    parameters = (Parameter(domain.id_field, kind, described), *map(form, domain.book))
    text = f"Book a {domain.name}. Answers with a reference, or says why it cannot be booked."
    return Tool.of(f"book_{domain.name}", text, parameters, required=True)


def _parameter(slot: Slot) -> Parameter:
    values = f"one of: {', '.join(slot.values)}" if slot.kind in ("category", "flag") else slot.phrases[0]
    return Parameter(slot.name, slot.kind, _DESCRIPTIONS.get(slot.name, values))


def _typed(slot: Slot) -> Parameter:
    """A parameter with its values or its pattern instead of a description."""
    if slot.kind == "time":
        return Parameter(slot.name, slot.kind, "HH:MM", pattern=_TIME)
    return Parameter(slot.name, slot.kind, "", slot.values if slot.kind != "name" else ())
