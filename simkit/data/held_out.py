"""Decontamination: no task that a model is tested on may be in its training data. This is checked, not assumed.

Ids are not enough: data sets contain the same task under two names (of ToolWOZ's 450 test dialogues, 23 have exactly
the instructions of a training dialogue), and worlds with different options give different tasks the same names. So
the contents of tasks are compared, their instructions and goals; an id counts only if the content is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from simkit.components.world import WORLD, World
from simkit.core.tasks import Task
from simkit.data.conversations import contents_of
from simkit.data.examples import Example, ExampleSet
from simkit.data.origins import TaskContent
from simkit.errors import UsageError
from simkit.plugins.loading import load
from simkit.store import Reader, Store

By: TypeAlias = Literal["id", "instructions", "goals"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Overlap:
    """A held-out task in training data: the task in the data, what they share, and the number of examples."""

    held_out: str
    task_id: str
    by: By
    examples: int

    def __str__(self) -> str:
        same = self.held_out if self.by == "id" else f"{self.task_id} (the {self.by} of {self.held_out})"
        return f"{same} in {self.examples} examples"


@dataclass(frozen=True)
class HeldOut:
    """Tasks that no training data may contain.

    Attributes:
        name: their name in messages, e.g. `toolwoz:test`.
        world: the name of their world.
        ids: their ids.
        contents: their contents by id.
        home: their world, in which tasks are looked up that no store contains.
    """

    name: str
    world: str
    ids: frozenset[str]
    contents: Mapping[str, TaskContent]
    home: World | None = field(default=None, compare=False)

    @classmethod
    def of(cls, tasks: Sequence[Task], name: str = "the held-out tasks", home: World | None = None) -> HeldOut:
        """Make a set of held-out tasks.

        Raises:
            UsageError: `tasks` is empty.
        """
        if not tasks:
            raise UsageError(f"{name}: there are no tasks, so a check would prove nothing; name a split that has tasks")
        contents = {task.id: TaskContent.of_task(task) for task in tasks}
        return cls(name, tasks[0].world, frozenset(contents), contents, home)

    @classmethod
    def read(cls, spec: str) -> HeldOut:
        """Read the tasks of `WORLD:SPLIT`, e.g. `toolwoz:test` or `builtin,seed=3:test`.

        Raises:
            UsageError: the world or split does not exist, or no split is named.
            DataMissing, DataCorrupt: the world's data cannot be read.
        """
        world_name, found, split = spec.rpartition(":")
        if not found or not world_name or not split:
            raise UsageError(f"`{spec}` does not name held-out tasks; write WORLD:SPLIT, e.g. toolwoz:test")
        world = load(WORLD, world_name)
        return cls.of(list(world.tasks(world.check_split(split))), spec, world)


@dataclass(frozen=True, slots=True)
class Contamination:
    """Held-out tasks found in training data; `unknown` counts the examples whose task cannot be identified."""

    held_out: str
    overlaps: tuple[Overlap, ...]
    unknown: int
    examples: int

    @property
    def clean(self) -> bool:
        """Whether every example was checked and no held-out task was found."""
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
                f"the tasks of {self.unknown} of {self.examples} examples are unknown, so they cannot be checked"
            )
        return ". ".join(said)


def contamination(examples: ExampleSet, held_out: HeldOut, store: Store | Reader | None = None) -> Contamination:
    """Find held-out tasks in a set. Tasks are looked up in the store first, then in the held-out world.

    Raises:
        StoreIncomplete: lines of the runs of the examples could not be read.
        StoreError, DataMissing, DataCorrupt: the tasks cannot be read.
    """
    matches = _matches(examples, held_out, store)
    overlaps: Counter[tuple[str, str, By]] = Counter()
    unknown = 0
    for source, several in Counter(map(_source, examples)).items():
        same = matches[source]
        if same is None:
            unknown += several
        elif same != CLEAN:
            overlaps[(same[0], source.task_id, same[1])] += several
    found = tuple(Overlap(held, task, by, several) for (held, task, by), several in overlaps.items())
    return Contamination(held_out.name, found, unknown, len(examples))


def assert_clean_of(
    examples: ExampleSet, held_out: HeldOut | Sequence[Task], store: Store | Reader | None = None
) -> None:
    """Check that no example is of a held-out task, by id or by content.

    Raises:
        UsageError: some are, or their task is unknown; the message names them and says what to do.
    """
    held = held_out if isinstance(held_out, HeldOut) else HeldOut.of(held_out)
    found = contamination(examples, held, store)
    if not found.clean:
        raise UsageError(f"these examples must not be trained on: {found}. {_advice(found, held)}")


def _advice(found: Contamination, held: HeldOut) -> str:
    if found.overlaps:
        return "Remove them (--drop-held-out, or simkit.data.held_out.without_held_out), or harvest from another split"
    return (
        f"Export from runs on the world `{held.world}` or of this store, without --no-origin; files of older versions "
        "do not contain the contents of their tasks"
    )


def without_held_out(examples: ExampleSet, held_out: HeldOut, store: Store | Reader | None = None) -> ExampleSet:
    """The set without examples of held-out tasks, which are counted as removed for `held_out`.

    Examples of unknown tasks stay; `assert_clean_of` finds them.

    Raises:
        StoreError, DataMissing, DataCorrupt: the tasks cannot be read.
    """
    matches = _matches(examples, held_out, store)
    kept = [example for example in examples if matches[_source(example)] in (None, CLEAN)]
    return examples.keeping(kept, "held_out")


@dataclass(frozen=True, slots=True)
class _Source:
    """The task of an example, as far as the example identifies it."""

    run_id: str
    world: str
    task_id: str
    content: TaskContent


def _source(example: Example) -> _Source:
    origin = example.origin
    return _Source(origin.run_id, origin.world, origin.task_id, origin.content)


Match: TypeAlias = tuple[str, By]
CLEAN: Match = ("", "id")
"""The task is known, and is not held out."""


def _matches(examples: ExampleSet, held: HeldOut, store: Store | Reader | None) -> dict[_Source, Match | None]:
    """The held-out task that each source is; None if it is unknown.

    The content of the task decides; the id does only if the content is unknown or empty.
    """
    sources = dict.fromkeys(map(_source, examples))
    known = _contents(sources, held, store)
    index = _HeldOutIndex.of(held)
    found: dict[_Source, Match | None] = {}
    for source in sources:
        content = known.get(source)
        named = index.of_id(source.world, source.task_id)
        if content:
            found[source] = _by_content(index, named, content)
        else:
            found[source] = named or (None if content is None else CLEAN)
    return found


@dataclass(frozen=True, slots=True)
class _HeldOutIndex:
    """Held-out tasks by content and by id."""

    held: HeldOut
    instructions: Mapping[str, str]
    goals: Mapping[str, str]

    @classmethod
    def of(cls, held: HeldOut) -> _HeldOutIndex:
        contents = held.contents.items()
        return cls(
            held,
            {content.instructions: name for name, content in contents if content.instructions},
            {content.goals: name for name, content in contents if content.goals},
        )

    def of_id(self, world: str, task_id: str) -> tuple[str, By] | None:
        return (task_id, "id") if world in ("", self.held.world) and task_id in self.held.ids else None

    def of_content(self, content: TaskContent | None) -> tuple[str, By] | None:
        if content is None:
            return None
        if content.instructions in self.instructions:
            return self.instructions[content.instructions], "instructions"
        return (self.goals[content.goals], "goals") if content.goals in self.goals else None


def _by_content(index: _HeldOutIndex, named: Match | None, content: TaskContent) -> Match:
    """The held-out task with this content; the one with the example's id if several have it."""
    if named is not None:
        own = index.held.contents[named[0]]
        if not own or own.shares(content):
            return named
    return index.of_content(content) or CLEAN


def _contents(sources: Iterable[_Source], held: HeldOut, store: Store | Reader | None) -> dict[_Source, TaskContent]:
    """Contents of the tasks of examples: from the example, else the run in the store, else the held-out world.

    Worlds with different options give different tasks the same names, so a task of a run that is not in the store is
    looked up only in a world whose tasks do not vary.
    """
    found = {source: source.content for source in sources if source.content}
    missing = [source for source in sources if source.task_id and source not in found]
    runs = sorted({source.run_id for source in missing if source.run_id})
    if store is not None and runs:
        with store.reading(runs) as reader:
            reader.require_complete(runs, "a check for held-out tasks")
            stored = contents_of(reader, runs)
        found |= {s: stored[s.run_id, s.task_id] for s in missing if (s.run_id, s.task_id) in stored}
    home = held.home
    if home is None:
        return found
    asked = [s for s in missing if s not in found and s.world == held.world and not (s.run_id and home.tasks_vary)]
    at_home = _at_home(home, {source.task_id for source in asked})
    return found | {source: at_home[source.task_id] for source in asked if source.task_id in at_home}


def _at_home(home: World, names: set[str]) -> dict[str, TaskContent]:
    """Contents of a world's tasks by id; splits are read until all are found."""
    found: dict[str, TaskContent] = {}
    for split in home.splits:
        if names <= found.keys():
            break
        found |= {task.id: TaskContent.of_task(task) for task in home.tasks(split) if task.id in names}
    return found
