"""Samples the wishes and goals of a task from a seed, so that all can be fulfilled and none can be guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from simkit.core.ontology import Wish
from simkit.core.tasks import Goal
from simkit.errors import UsageError
from simkit.rule_based.bitset_table import BitsetTable
from simkit.tools.builtin import vocabulary
from simkit.tools.builtin.bookings import needed, nights
from simkit.tools.builtin.town import DOMAINS, ID_FIELDS, Town, clock

BY_NAME = 0.12
"""Share of searches that ask for a place by its name."""

_SEARCHED = {
    "restaurant": ("food", "pricerange", "area"),
    "hotel": ("type", "pricerange", "area", "stars", "internet", "parking"),
    "attraction": ("type", "area"),
}
_ASKED = {
    "restaurant": ("phone", "address", "postcode"),
    "hotel": ("phone", "address", "postcode"),
    "attraction": ("phone", "address", "postcode", "entrance fee"),
    "train": ("duration", "price"),
}
_CHANCE_OF_BOOKING = 0.75
_DOMAIN_COUNTS = (0.25, 0.45, 0.22, 0.08)
_ATTEMPTS = 60
FEWEST_GOALS, MOST_GOALS = 2, 6


@dataclass(frozen=True, slots=True)
class PlannedWish:
    """A sampled wish in one domain. `entity` is the id value to be booked, None if the task only searches."""

    wish: Wish
    entity: str | None

    def goals(self, id_field: str) -> tuple[Goal, ...]:
        """The sparse goals: the search, then the booking."""
        domain, booked = self.wish.domain, self.entity
        goals = [_goal(f"search_{domain}", dict(self.wish.inform), id_field, booked)]
        if booked is not None:
            goals.append(_goal(f"book_{domain}", {id_field: booked, **self.wish.book}, id_field, booked))
        return tuple(goals)


@dataclass(frozen=True, slots=True)
class Party:
    """Details shared by all wishes of one visitor."""

    people: str
    day: str


@dataclass(frozen=True, slots=True)
class TaskShape:
    """Bounds of tasks: the maximum number of goals, the domains that they come from, and whether facts of places exist.

    Raises:
        UsageError: a bound allows no task.
    """

    most_goals: int = MOST_GOALS
    domains: tuple[str, ...] = DOMAINS
    facts: bool = True

    def __post_init__(self) -> None:
        if not FEWEST_GOALS <= self.most_goals <= MOST_GOALS:
            raise UsageError(
                f"most_goals is {self.most_goals}; tasks of the built-in world have {FEWEST_GOALS} to {MOST_GOALS} "
                "goals"
            )
        if self.domains == ("attraction",):
            raise UsageError(
                f"attractions alone give one goal, and tasks have at least {FEWEST_GOALS}; give `domains` another one, "
                "e.g. domains=attraction+hotel"
            )

    @classmethod
    def of(cls, most_goals: int, domains: str, facts: bool = True) -> TaskShape:
        """The shape with domains as text, joined by `+`; an empty text means all. Their order makes no difference.

        Raises:
            UsageError: a bound allows no task, or a domain does not exist.
        """
        chosen = [each.strip() for each in domains.split("+")] if domains.strip() else [*DOMAINS]
        if unknown := [each for each in chosen if each not in DOMAINS]:
            raise UsageError(
                f"the built-in world has no domain `{unknown[0]}`; join some of {', '.join(DOMAINS)} by +, "
                "e.g. domains=restaurant+hotel"
            )
        return cls(most_goals, tuple(each for each in DOMAINS if each in chosen), facts)


ANY_SHAPE = TaskShape()


def draw_wishes(town: Town, rng: Random, shape: TaskShape = ANY_SHAPE) -> tuple[PlannedWish, ...]:
    """The wishes of one visitor: one to four domains, and two to `most_goals` goals."""
    while True:
        party = Party(rng.choice(vocabulary.PEOPLE), rng.choice(vocabulary.DAYS))
        count = rng.choices((1, 2, 3, 4), _DOMAIN_COUNTS)[0]
        domains = rng.sample(shape.domains, min(count, len(shape.domains)))
        drawn = [_planned_wish(town, domain, party, rng) for domain in domains]
        planned = tuple(each for each in drawn if each is not None)
        goals = sum(1 + (each.entity is not None) for each in planned)
        if len(planned) == len(domains) and FEWEST_GOALS <= goals <= shape.most_goals:
            return planned if shape.facts else tuple(map(_without_requests, planned))


def _without_requests(planned: PlannedWish) -> PlannedWish:
    return replace(planned, wish=replace(planned.wish, requests=()))


def _goal(tool: str, parameters: Mapping[str, str], id_field: str, entity: str | None) -> Goal:
    return Goal(tool, {"tool": tool, "parameters": parameters, "id_field": id_field, "entity": entity})


def _planned_wish(town: Town, domain: str, party: Party, rng: Random) -> PlannedWish | None:
    """A wish that can be fulfilled, or None if none was found (the town may be full for this party)."""
    table = town.tables[domain]
    booked = domain != "attraction" and rng.random() < _CHANCE_OF_BOOKING
    asked = tuple(rng.sample(_ASKED[domain], rng.choice((0, 1, 1, 2) if booked else (1, 2))))
    for _ in range(_ATTEMPTS):
        entity = rng.choice(table.rows)
        book = _details(town, domain, entity, party, rng) if booked else {}
        if book is None or (domain == "train" and entity["day"] != party.day):
            continue
        inform = _constraints(table, domain, entity, rng)
        if inform is not None:
            wish = Wish(domain=domain, inform=inform, book=book, requests=asked)
            return PlannedWish(wish, entity[ID_FIELDS[domain]] if booked else None)
    return None


def _constraints(table: BitsetTable, domain: str, entity: Mapping[str, str], rng: Random) -> dict[str, str] | None:
    for _ in range(_ATTEMPTS):
        drawn = _journey(entity, rng) if domain == "train" else _description(domain, entity, rng)
        if misleads(table, drawn):
            return drawn
    return None


def misleads(table: BitsetTable, constraints: Mapping[str, str]) -> bool:
    """Whether omitting any one constraint can return an entity that violates it, so that every constraint is needed."""
    goal = table.lenient(constraints)
    for left_out in constraints:
        rest = {slot: value for slot, value in constraints.items() if slot != left_out}
        if not table.lenient(rest) & ~goal:
            return False
    return True


def _description(domain: str, entity: Mapping[str, str], rng: Random) -> dict[str, str]:
    if rng.random() < BY_NAME:
        return {"name": entity["name"]}
    slots = [slot for slot in _SEARCHED[domain] if entity[slot] != "no"]
    count = min(len(slots), rng.choice((2, 2, 3, 3, 4)))
    chosen = rng.sample(slots, count)
    return {slot: entity[slot] for slot in slots if slot in chosen}


def _journey(train: Mapping[str, str], rng: Random) -> dict[str, str]:
    route = {slot: train[slot] for slot in ("departure", "destination", "day")}
    hours, minutes = map(int, train["leaveAt"].split(":"))
    if rng.random() < 0.5:
        return {**route, "leaveAt": clock(_quarter(hours * 60 + minutes - rng.randrange(0, 40)))}
    hours, minutes = map(int, train["arriveBy"].split(":"))
    return {**route, "arriveBy": clock(min(_quarter(hours * 60 + minutes + 15 + rng.randrange(0, 40)), 23 * 60 + 45))}


def _quarter(minutes: int) -> int:
    return minutes // 15 * 15


def _details(town: Town, domain: str, entity: Mapping[str, str], party: Party, rng: Random) -> dict[str, str] | None:
    """The booking's parameters, or None if the entity has too few free places at the start."""
    amount = needed(domain, int(party.people))
    match domain:
        case "restaurant":
            open_times = [
                time
                for time in vocabulary.TABLE_TIMES
                if town.free["restaurant", entity["name"], party.day, time] >= amount
            ]
            if not open_times:
                return None
            return {"day": party.day, "time": rng.choice(open_times), "people": party.people}
        case "hotel":
            stay = rng.choice(vocabulary.NIGHTS)
            days = nights(party.day, int(stay))
            if min(town.free["hotel", entity["name"], day] for day in days) < amount:
                return None
            return {"day": party.day, "stay": stay, "people": party.people}
        case _:
            return {"people": party.people} if town.free["train", entity["trainID"]] >= amount else None
