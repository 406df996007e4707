"""Tasks, their sparse goals, the worlds they come from, and the vocabulary of rule-based components."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from simkit.conversation import Utterance
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.components import ToolServer


@dataclass(frozen=True, slots=True)
class Goal:
    """One sparse goal. A task's goals are a multiset: equal keys are copies, each credited once.

    `key` names the goal within its task (e.g. `book_hotel`); `detail` is JSON that only the reward reads (e.g. the
    parameters a call must have); `weight` is its share of the episode's reward.
    """

    key: str
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a user wants of one domain, in the parameters of its tools.

    Attributes:
        domain: name of a `Domain` of the world's ontology.
        inform: constraints of the search; empty values are left out.
        book: parameters of the booking other than the entity itself; empty when nothing is to be booked.
        requests: fields of the entity the user asks for.
    """

    domain: str
    inform: Mapping[str, str] = field(default_factory=dict[str, str])
    book: Mapping[str, str] = field(default_factory=dict[str, str])
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One conversation to be had: what the user wants, and what counts.

    Attributes:
        id: unique within its world and split, stable across machines.
        instructions: the goal in the words a simulated user is given, one wish a line.
        goals: what a reward looks for (rewards may add goals of their own).
        agenda: the same goal in the structured form that rule-based users follow, in the order they bring it up.
        data: JSON the world, the user and the reward read; never changed.
        reference: the human dialogue this task was made from, where there is one.
    """

    id: str
    world: str
    split: str
    instructions: str
    goals: tuple[Goal, ...] = ()
    agenda: tuple[Wish, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reference: tuple[Utterance, ...] = ()


SlotKind: TypeAlias = Literal["category", "name", "time", "day", "number", "id", "flag"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of a domain's tools, and how people speak of it.

    `name` is the parameter's name in the tool; `phrases` are what people call it ("price range"); `values` are the
    values known to the world (empty for open ones such as times).
    """

    name: str
    kind: SlotKind
    phrases: tuple[str, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of thing that is searched for and perhaps booked: tools `search_<name>` and `book_<name>`."""

    name: str
    nouns: tuple[str, ...]
    id_field: str
    search: tuple[Slot, ...]
    book: tuple[Slot, ...] = ()
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Fields of an entity a user may ask for, with their phrases: {"phone": ("phone number",)}."""


@dataclass(frozen=True, slots=True)
class Ontology:
    """What a rule-based agent and an agenda user know of a world: its domains. Models never see it."""

    domains: tuple[Domain, ...]

    def domain(self, name: str) -> Domain | None:
        """The domain of that name."""
        return next((domain for domain in self.domains if domain.name == name), None)


DataProgress: TypeAlias = Callable[[str, float], None]
"""Told (stage, fraction of that stage from 0 to 1) while a world's data is fetched."""


def unwatched(stage: str, fraction: float) -> None:
    """Progress that nobody looks at."""


class World(ABC):
    """Tasks, and the tool server that they are done with.

    A world is built by name with its options (`variant`, ...); building must be cheap, data is read at first use.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    default_agent: ClassVar[str] = "scripted"
    default_user: ClassVar[str] = "agenda"
    default_reward: ClassVar[str] = "goal_calls"
    tasks_vary: ClassVar[bool] = True
    """Whether a task's id may mean another task when the world is built with other options; False where it never does,
    so that a task is known by world and id."""

    @abstractmethod
    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, in their fixed order.

        Raises:
            UsageError: no such split.
            DataMissing, DataCorrupt: the data cannot be read.
        """

    @abstractmethod
    def tools(self) -> ToolServer:
        """The tool server; its base data is shared by every branch and never changes."""

    @property
    @abstractmethod
    def ontology(self) -> Ontology:
        """The domains, for rule-based agents and users; empty where there are none."""

    @classmethod
    def prepare(cls, source: str | Path | None = None, progress: DataProgress = unwatched) -> Path:
        """Fetch the data this world reads, once for all runs, and return where it is kept; `simkit data` calls this.

        A world that needs data overrides it. `source` is data the caller has already; None fetches it.

        Raises:
            UsageError: the world needs no data (this default), or cannot take data from that source.
            DataMissing, DataCorrupt: the data cannot be had, or is not what it should be.
        """
        raise UsageError(
            f"the world `{cls.name}` needs no data, it is ready to use: simkit run rollout --world {cls.name}"
        )

    def check_split(self, split: str) -> str:
        """`split` itself if the world has it.

        Raises:
            UsageError: it has not; the message lists those it has.
        """
        if split not in self.splits:
            raise UsageError(f"the world `{self.name}` has no split `{split}`; it has: {', '.join(self.splits)}")
        return split


def choose_tasks(tasks: Sequence[Task], choice: str | int) -> Sequence[Task]:
    """`all`, a number (the first so many) or a slice `10-20` (tasks 10 to 19, counted from 0; `10-` to the end).

    Raises:
        UsageError: the choice is none of these, or chooses nothing.
    """
    text = str(choice).strip()
    numbers = re.fullmatch(r"(\d+)|(\d+)-(\d*)", text)
    if text != "all" and numbers is None:
        raise UsageError(f"`{text}` chooses no tasks; write a number (50), a slice (10-20, or 10- to the end) or `all`")
    if numbers is None:
        return tasks[:]
    first, start, end = numbers.groups()
    chosen = tasks[: int(first)] if first else tasks[int(start) : int(end) if end else None]
    if not chosen:
        raise UsageError(f"`{text}` chooses nothing: the split has {len(tasks)} tasks, counted from 0")
    return chosen
