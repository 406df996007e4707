"""The built-in world: its splits, its tasks, its tool server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from random import Random
from typing import ClassVar, final, overload

import orjson

from simkit.components.world import World
from simkit.core.ids import derive_seed
from simkit.core.ontology import Ontology
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.tools.builtin.goal_sampler import ANY_SHAPE, MOST_GOALS, TaskShape, draw_wishes
from simkit.tools.builtin.ontology import ontology_of
from simkit.tools.builtin.phrasing import instructions
from simkit.tools.builtin.server import TravelServer
from simkit.tools.builtin.town import DOMAINS, ID_FIELDS, Town, TownSize

_SHARES = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
"""Tenths of all possible goals that belong to each split, which keeps splits disjoint without comparing tasks."""


@dataclass(frozen=True, slots=True)
class TravelTasks(Sequence[Task]):
    """The tasks of one split, each made on access: a pure function of town, split and index."""

    town: Town = field(repr=False)
    split: str
    indices: range
    shape: TaskShape = ANY_SHAPE

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> TravelTasks: ...
    def __getitem__(self, index: int | slice) -> Task | TravelTasks:
        if isinstance(index, slice):
            return TravelTasks(self.town, self.split, self.indices[index], self.shape)
        return draw_task(self.town, self.split, self.indices[index], self.shape)

    def __len__(self) -> int:
        return len(self.indices)


@final
class BuiltinWorld(World):
    """An invented town with restaurants, hotels, attractions and trains, generated from a seed.

    It has the tools, kinds of goals and difficulty of ToolWOZ; unlike there, bookings take places, which run out.
    Construction is cheap; the town is made at first use (about a tenth of a second).

    Args:
        seed: seed of the town; another seed gives another town with other tasks.
        train, val, test: number of tasks in each split. Task i does not depend on these numbers.
        restaurants, hotels, attractions: number of each.
        departures: trains per day on each of the forty lines.
        most_goals: maximum goals of a task, 2 to 6; fewer goals give shorter conversations.
        compact: whether rules and tools are described in few words, for models with small contexts. Tools, tasks and
            results are the same.
        domains: kinds of places that tasks and tools are about, joined by `+`: some of restaurant, hotel, attraction
            and train. The town stays the same.
        facts: whether places have an address, a phone number and the like, for which customers ask. Without them
            results and conversations are shorter; goals are the same.
        upkeep: whether there are tools to look bookings up and to cancel them, which no task needs.

    Raises:
        UsageError: a number is out of range, or a domain does not exist.
    """

    name: ClassVar[str] = "builtin"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    role: ClassVar[str] = "You work for a travel agency and help customers"

    def __init__(
        self,
        seed: int = 0,
        train: int = 2000,
        val: int = 500,
        test: int = 500,
        restaurants: int = TownSize.restaurants,
        hotels: int = TownSize.hotels,
        attractions: int = TownSize.attractions,
        departures: int = TownSize.departures,
        most_goals: int = MOST_GOALS,
        compact: bool = False,
        domains: str = "+".join(DOMAINS),
        facts: bool = True,
        upkeep: bool = True,
    ) -> None:
        self.seed = seed
        self.size = TownSize(restaurants=restaurants, hotels=hotels, attractions=attractions, departures=departures)
        self._counts = {"train": train, "val": val, "test": test}
        for split, count in self._counts.items():
            if count < 0:
                raise UsageError(f"the built-in world cannot have {count} tasks in `{split}`; give 0 or more")
        self._shape = TaskShape.of(most_goals, domains, facts)
        self._compact = compact
        self._upkeep = upkeep

    @cached_property
    def town(self) -> Town:
        """The town, which all branches share."""
        return _town(self.seed, self.size)

    @property
    def ontology(self) -> Ontology:
        """The domains, with the names of this town's entities."""
        return _ontology(self.seed, self.size, self._shape)

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, each made on access."""
        return TravelTasks(self.town, split, range(self._counts[self.check_split(split)]), self._shape)

    def tools(self) -> TravelServer:
        """The tool server of this town."""
        shape = self._shape
        return TravelServer(
            self.town, compact=self._compact, domains=shape.domains, facts=shape.facts, upkeep=self._upkeep
        )


@lru_cache(maxsize=4)
def _town(seed: int, size: TownSize) -> Town:
    """The town of a seed, shared by the runs of a process."""
    return Town.build(seed, size)


@lru_cache(maxsize=4)
def _ontology(seed: int, size: TownSize, shape: TaskShape) -> Ontology:
    return ontology_of(_town(seed, size), shape.domains, facts=shape.facts)


def draw_task(town: Town, split: str, index: int, shape: TaskShape = ANY_SHAPE) -> Task:
    """Task `index` of a split: drawn until its goals belong to the split's share of all possible goals."""
    rng = Random(derive_seed("builtin", town.seed, "task", split, index))
    while True:
        planned = draw_wishes(town, rng, shape)
        goals = tuple(goal for each in planned for goal in each.goals(ID_FIELDS[each.wish.domain]))
        if _share(goals) in _SHARES[split]:
            break
    wishes = tuple(each.wish for each in planned)
    return Task(
        id=f"{split}-{index:05d}",
        world=BuiltinWorld.name,
        split=split,
        instructions=instructions(wishes, rng),
        goals=goals,
        agenda=wishes,
    )


def _share(goals: tuple[Goal, ...]) -> int:
    content = sorted(orjson.dumps(goal.detail, option=orjson.OPT_SORT_KEYS) for goal in goals)
    return blake2b(b"\n".join(content), digest_size=8).digest()[0] % 10
