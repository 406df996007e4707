"""Decontamination: no task that a model is tested on may be in what it learns from. Checked, not assumed.

Ids are not enough: data sets hold the same task twice under two names (of ToolWOZ's 450 test dialogues, 23 have the
instructions of a training dialogue to the letter). So the tasks behind the examples are looked up, in the store or in
the world, and their instructions and goals compared as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import orjson

from simkit.casting import WORLD
from simkit.errors import UsageError
from simkit.loading import load
from simkit.store import Reader, Store
from simkit.tasks import Task, World
from simkit.training.examples import Example, ExampleSet, Origin

By: TypeAlias = Literal["id", "instructions", "goals"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Content:
    """What makes a task the same as another: digests of its instructions and of its goals; empty for none of them."""

    instructions: str = ""
    goals: str = ""

    @classmethod
    def of(cls, instructions: str | None, goals: Iterable[Mapping[str, Any]]) -> Content:
        """The content of a task; `goals` have a key and perhaps a detail, and count only where some has one."""
        words = " ".join((instructions or "").casefold().split())
        wanted = sorted(orjson.dumps([goal["key"], goal.get("detail")], option=orjson.OPT_SORT_KEYS) for goal in goals)
        telling = any(goal.get("detail") for goal in goals)
        return cls(_digest(words.encode()), _digest(b"\n".join(wanted)) if telling else "")

    @classmethod
    def of_task(cls, task: Task) -> Content:
        """The content of a task of a world."""
        return cls.of(task.instructions, [{"key": goal.key, "detail": dict(goal.detail)} for goal in task.goals])


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest() if data else ""


@dataclass(frozen=True, slots=True)
class Overlap:
    """A held-out task in training data: which task of the data it is, how that shows, and in how many examples."""

    held_out: str
    task_id: str
    by: By
    examples: int

    def __str__(self) -> str:
        same = self.held_out if self.by == "id" else f"{self.task_id} (the {self.by} of {self.held_out})"
        return f"{same} in {self.examples} examples"


@dataclass(frozen=True)
class HeldOut:
    """Tasks that no training data may hold.

    Attributes:
        name: what they are called in messages, e.g. `toolwoz:test`.
        world: the name of their world.
        ids: their ids.
        contents: what they are, by id.
        home: their world, in which the tasks of examples that no store knows are looked up.
    """

    name: str
    world: str
    ids: frozenset[str]
    contents: Mapping[str, Content]
    home: World | None = field(default=None, compare=False)

    @classmethod
    def of(cls, tasks: Sequence[Task], name: str = "the held-out tasks", home: World | None = None) -> HeldOut:
        """These tasks.

        Raises:
            UsageError: there are none.
        """
        if not tasks:
            raise UsageError(f"{name} are no tasks at all; nothing could be found in the data, which proves nothing")
        contents = {task.id: Content.of_task(task) for task in tasks}
        return cls(name, tasks[0].world, frozenset(contents), contents, home)

    @classmethod
    def read(cls, spec: str) -> HeldOut:
        """The tasks of `WORLD:SPLIT`, e.g. `toolwoz:test` or `builtin,seed=3:test`.

        Raises:
            UsageError: no such world or split, or no split is named.
            DataMissing, DataCorrupt: the world's data cannot be read.
        """
        world_name, found, split = spec.rpartition(":")
        if not found or not world_name or not split:
            raise UsageError(f"`{spec}` names no held-out tasks; write WORLD:SPLIT, e.g. toolwoz:test")
        world = load(WORLD, world_name)
        return cls.of(list(world.tasks(world.check_split(split))), spec, world)


@dataclass(frozen=True, slots=True)
class Contamination:
    """What of some held-out tasks is in training data; `unknown` examples name no task, or one nobody knows."""

    held_out: str
    overlaps: tuple[Overlap, ...]
    unknown: int
    examples: int

    @property
    def clean(self) -> bool:
        """Whether every example was checked and none is of a held-out task."""
        return not self.overlaps and not self.unknown

    def __str__(self) -> str:
        if self.clean:
            return f"none of the {self.examples} examples is of {self.held_out} (ids, instructions and goals compared)"
        said: list[str] = []
        if self.overlaps:
            several = sum(overlap.examples for overlap in self.overlaps)
            named = "; ".join(map(str, self.overlaps[:_SHOWN])) + ("; ..." if len(self.overlaps) > _SHOWN else "")
            said.append(f"{several} of {self.examples} examples are of {self.held_out}: {named}")
        if self.unknown:
            said.append(
                f"{self.unknown} of {self.examples} examples do not say what task they are from, so nobody can tell"
            )
        return ". ".join(said)


def contamination(examples: ExampleSet, held_out: HeldOut, store: Store | Reader | None = None) -> Contamination:
    """What of the held-out tasks is in a set. Tasks are looked up in the store first, else in the held-out world.

    Raises:
        StoreIncomplete: lines of the runs that the examples are from could not be read.
        StoreError, DataMissing, DataCorrupt: the tasks cannot be read.
    """
    counts = Counter(_place(example) for example in examples)
    known = _contents(examples, held_out, store)
    overlaps: list[Overlap] = []
    unknown = 0
    twins = _Twins.of(held_out)
    for (world, task_id), several in counts.items():
        same = twins.of_id(world, task_id) or twins.of_content(known.get((world, task_id)))
        if same is not None:
            overlaps.append(Overlap(same[0], task_id, same[1], several))
        elif (world, task_id) not in known:
            unknown += several
    return Contamination(held_out.name, tuple(overlaps), unknown, len(examples))


def assert_clean_of(
    examples: ExampleSet, held_out: HeldOut | Sequence[Task], store: Store | Reader | None = None
) -> None:
    """Make sure that no example is of a held-out task, by id or by content.

    Raises:
        UsageError: some are, or do not say what task they are from; the message names them and says what to do.
    """
    held = held_out if isinstance(held_out, HeldOut) else HeldOut.of(held_out)
    found = contamination(examples, held, store)
    if not found.clean:
        raise UsageError(f"this is no data to train on: {found}. {_advice(found, held)}")


def _advice(found: Contamination, held: HeldOut) -> str:
    if found.overlaps:
        return "Take them out (--drop-held-out, or simkit.training.held_out.without), or harvest from another split"
    return f"Export with --origin, from runs on the world `{held.world}` or of this store"


def without(examples: ExampleSet, held_out: HeldOut, store: Store | Reader | None = None) -> ExampleSet:
    """The set without the examples of held-out tasks, which count as removed for `held_out`.

    Examples of unknown tasks stay; `assert_clean_of` finds them.

    Raises:
        StoreError, DataMissing, DataCorrupt: the tasks cannot be read.
    """
    gone = {overlap.task_id for overlap in contamination(examples, held_out, store).overlaps}
    return examples.keeping([example for example in examples if example.task_id not in gone], "held_out")


def _place(example: Example) -> tuple[str, str]:
    return example.origin.world, example.task_id


@dataclass(frozen=True, slots=True)
class _Twins:
    """Held-out tasks by what they are."""

    held: HeldOut
    instructions: Mapping[str, str]
    goals: Mapping[str, str]

    @classmethod
    def of(cls, held: HeldOut) -> _Twins:
        contents = held.contents.items()
        return cls(
            held,
            {content.instructions: name for name, content in contents if content.instructions},
            {content.goals: name for name, content in contents if content.goals},
        )

    def of_id(self, world: str, task_id: str) -> tuple[str, By] | None:
        return (task_id, "id") if world in ("", self.held.world) and task_id in self.held.ids else None

    def of_content(self, content: Content | None) -> tuple[str, By] | None:
        if content is None:
            return None
        if content.instructions in self.instructions:
            return self.instructions[content.instructions], "instructions"
        return (self.goals[content.goals], "goals") if content.goals in self.goals else None


def _contents(examples: ExampleSet, held: HeldOut, store: Store | Reader | None) -> dict[tuple[str, str], Content]:
    """What the tasks of the examples are, as far as a store or the held-out world knows them."""
    origins = {_place(example): example.origin for example in examples if example.task_id}
    found = _from_store(origins.values(), store) if store is not None else {}
    missing = {task_id for world, task_id in origins.keys() - found.keys() if world == held.world}
    if missing and held.home is not None:
        for split in held.home.splits:
            tasks = {task.id: task for task in held.home.tasks(split) if task.id in missing}
            found |= {(held.world, name): Content.of_task(task) for name, task in tasks.items()}
            missing -= tasks.keys()
            if not missing:
                break
    return found


def _from_store(origins: Iterable[Origin], store: Store | Reader) -> dict[tuple[str, str], Content]:
    runs = sorted({origin.run_id for origin in origins if origin.run_id})
    with store.reading(runs) as reader:
        reader.require_complete(runs, "a check for held-out tasks")
        rows = reader.rows(_TASKS, [runs])
    return {
        (row["world"], row["task_id"]): Content.of(row["instructions"], orjson.loads(row["goals"] or "[]"))
        for row in rows
    }


_TASKS = "SELECT world, task_id, instructions, goals FROM tasks WHERE list_contains(?::VARCHAR[], run_id)"
