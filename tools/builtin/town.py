"""The town: its restaurants, hotels, attractions and trains, and the free places of each at the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product
from random import Random
from typing import TypeAlias

from simkit.core.frozen import FrozenMap
from simkit.core.ids import derive_seed
from simkit.errors import UsageError
from simkit.rule_based.bitset_table import BitsetTable, Row
from simkit.rule_based.normalise import normal
from simkit.tools.builtin import vocabulary

Place: TypeAlias = tuple[str, ...]
"""Key of a supply: ("restaurant", name, day, time) of tables, ("hotel", name, day) of rooms, ("train", id) of seats."""

DOMAINS = ("restaurant", "hotel", "attraction", "train")

ID_FIELDS: Mapping[str, str] = {"restaurant": "name", "hotel": "name", "attraction": "name", "train": "trainID"}
"""The field that names an entity, by domain."""

SEATS_A_TABLE = 4
BEDS_A_ROOM = 2
FEWEST = 12


@dataclass(frozen=True, kw_only=True)
class TownSize:
    """Number of entities per domain. `departures` counts trains per day on each of the forty lines."""

    restaurants: int = 96
    hotels: int = 64
    attractions: int = 72
    departures: int = 10

    def __post_init__(self) -> None:
        most = {
            "restaurants": len(vocabulary.COLOURS) * len(vocabulary.TABLE_THINGS),
            "hotels": len(vocabulary.COLOURS) * len(vocabulary.LODGING_THINGS),
            "attractions": len(vocabulary.COLOURS) * len(vocabulary.SIGHT_THINGS),
            "departures": 16,
        }
        for entry in fields(self):
            value, least = getattr(self, entry.name), 2 if entry.name == "departures" else FEWEST
            if not least <= value <= most[entry.name]:
                raise UsageError(f"the built-in world has {least} to {most[entry.name]} {entry.name}, not {value}")


@dataclass(frozen=True, slots=True)
class Town:
    """Data shared by all branches; built once and never changed."""

    seed: int
    tables: FrozenMap[str, BitsetTable]
    free: FrozenMap[Place, int]

    @classmethod
    def build(cls, seed: int, size: TownSize) -> Town:
        """The town of a seed: a pure function of its arguments."""
        tables = FrozenMap(
            {
                "restaurant": BitsetTable(_restaurants(_rng(seed, "restaurant"), size.restaurants)),
                "hotel": BitsetTable(_hotels(_rng(seed, "hotel"), size.hotels)),
                "attraction": BitsetTable(_attractions(_rng(seed, "attraction"), size.attractions)),
                "train": BitsetTable(_trains(_rng(seed, "train"), size.departures)),
            }
        )
        return cls(seed, tables, FrozenMap(dict(_free_places(_rng(seed, "free"), tables))))

    def entity(self, domain: str, id_value: str) -> Row | None:
        """The entity with an id value, or None if the town has no such entity."""
        table = self.tables[domain]
        rows = table.holding({ID_FIELDS[domain]: normal(id_value)})
        return table.first(rows) if rows else None


def _rng(seed: int, what: str) -> Random:
    return Random(derive_seed("builtin", seed, what))


def _names(rng: Random, things: tuple[str, ...], count: int) -> list[str]:
    names = [f"{colour} {thing}" for colour, thing in product(vocabulary.COLOURS, things)]
    return rng.sample(names, count)


def _contact(rng: Random) -> dict[str, str]:
    return {
        "address": f"{rng.randint(1, 180)} {rng.choice(vocabulary.STREETS)}",
        "postcode": f"AH{rng.randint(1, 9)} {rng.randint(1, 9)}{rng.choice('BDGKLNT')}{rng.choice('BDGKLNT')}",
        "phone": f"0555{rng.randint(0, 999999):06d}",
    }


def _restaurants(rng: Random, count: int) -> Iterator[dict[str, str]]:
    for name in _names(rng, vocabulary.TABLE_THINGS, count):
        kind = {
            "name": f"the {name}",
            "food": rng.choice(vocabulary.FOODS),
            "pricerange": rng.choice(vocabulary.PRICES),
            "area": rng.choice(vocabulary.AREAS),
        }
        yield {**kind, **_contact(rng)}


def _hotels(rng: Random, count: int) -> Iterator[dict[str, str]]:
    for name in _names(rng, vocabulary.LODGING_THINGS, count):
        lodging = rng.choice(vocabulary.LODGINGS)
        kind = {
            "name": f"{name} {lodging}",
            "type": lodging,
            "area": rng.choice(vocabulary.AREAS),
            "pricerange": rng.choice(vocabulary.PRICES),
            "stars": rng.choice(vocabulary.STARS),
            "internet": rng.choice(vocabulary.FLAGS),
            "parking": rng.choice(vocabulary.FLAGS),
        }
        yield {**kind, **_contact(rng)}


def _attractions(rng: Random, count: int) -> Iterator[dict[str, str]]:
    for name in _names(rng, vocabulary.SIGHT_THINGS, count):
        sight = rng.choice(vocabulary.SIGHTS)
        fee = rng.choice(("free", *(f"{pounds} pounds" for pounds in range(2, 15))))
        kind = {
            "name": f"{name} {sight}",
            "type": sight,
            "area": rng.choice(vocabulary.AREAS),
            "entrance fee": fee,
        }
        yield {**kind, **_contact(rng)}


def _trains(rng: Random, departures: int) -> Iterator[dict[str, str]]:
    around = vocabulary.STATIONS[1:] + vocabulary.STATIONS[:1]
    pairs = [
        *((vocabulary.TOWN, station) for station in vocabulary.STATIONS),
        *zip(vocabulary.STATIONS, around, strict=True),
    ]
    lines = [*pairs, *((there, here) for here, there in pairs)]
    ids = rng.sample(range(1000, 10000), len(lines) * len(vocabulary.DAYS) * departures)
    gap = 16 * 60 // departures
    for departure, destination in lines:
        minutes, first, fare = rng.randint(25, 110), rng.randint(300, 360), rng.randint(600, 3200)
        for day, run in product(vocabulary.DAYS, range(departures)):
            leave = first + run * gap
            price = fare + (250 if day in ("saturday", "sunday") else 0)
            yield {
                "trainID": f"TR{ids.pop()}",
                "departure": departure,
                "destination": destination,
                "day": day,
                "leaveAt": clock(leave),
                "arriveBy": clock(leave + minutes),
                "duration": f"{minutes} minutes",
                "price": f"{price // 100}.{price % 100:02d} pounds",
            }


def _free_places(rng: Random, tables: FrozenMap[str, BitsetTable]) -> Iterator[tuple[Place, int]]:
    for row in tables["restaurant"].rows:
        for day, time in product(vocabulary.DAYS, vocabulary.TABLE_TIMES):
            yield ("restaurant", row["name"], day, time), max(0, rng.randint(-1, 5))
    for row in tables["hotel"].rows:
        for day in vocabulary.DAYS:
            yield ("hotel", row["name"], day), max(0, rng.randint(-1, 7))
    for row in tables["train"].rows:
        yield ("train", row["trainID"]), max(0, rng.randint(-3, 20))


def clock(minutes: int) -> str:
    """Minutes after midnight as HH:MM."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
