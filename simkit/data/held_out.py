"""Decontamination: no task that a model is tested on may be in its training data. This is checked, not assumed.

Ids are not enough: data sets contain the same task under two names (of ToolWOZ's 450 test dialogues, 23 have exactly
the instructions of a training dialogue), and worlds with different options give different tasks the same names. So
the contents of tasks are compared, their instructions and goals; an id counts only if the content is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from simkit.components.world import WORLD, World
from simkit.core.tasks import Task
from simkit.data.conversations import contents_of
from simkit.data.examples import Example, ExampleSet
from simkit.data.origins import UNKNOWN, ExampleOrigin, TaskContent
from simkit.errors import UsageError
from simkit.plugins.loading import load
from simkit.store import Reader, Store

By: TypeAlias = Literal["id", "instructions", "goals"]
Match: TypeAlias = tuple[str, By]
"""The id of a held-out task, and what another task shares with it."""

CLEAN: Match = ("", "id")
"""The task is known, and is not held out."""

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
        contents: their contents by id.
        home: their world, in which tasks are looked up that no store contains.
    """

    name: str
    world: str
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
        return cls(name, tasks[0].world, contents, home)

    @classmethod
    def read(cls, spec: str) -> HeldOut:
        """Read the tasks of `WORLD:SPLIT`, e.g. `toolwoz:test` or `builtin,seed=3:test`.

        Raises:
            UsageError: the world or split does not exist, or no split is named.
            DataMissing, DataCorrupt: the world's data cannot be read.
        """
        world_name, _, split = spec.rpartition(":")
        if not world_name or not split:
            raise UsageError(f"`{spec}` does not name held-out tasks; write WORLD:SPLIT, e.g. toolwoz:test")
        world = load(WORLD, world_name)
        return cls.of(list(world.tasks(world.check_split(split))), spec, world)

    def match(self, task: ExampleOrigin, content: TaskContent | None) -> Match | None:
        """The held-out task that a task is: `CLEAN` if it is none, None if that is unknown.

        The content of the task decides; its id does only if the content is unknown or empty.
        """
        named = task.world in ("", self.world) and task.task_id in self.contents
        own = self.contents[task.task_id] if named else None
        if named and (not content or not own or own.shares(content)):
            return task.task_id, "id"
        if not content:
            return None if content is None else CLEAN
        keys = (TaskContent(content.instructions), TaskContent("", content.goals))
        return next((self._named[key] for key in keys if key in self._named), CLEAN)

    @cached_property
    def _named(self) -> dict[TaskContent, Match]:
        """The tasks by their instructions and by their goals."""
        found: dict[TaskContent, Match] = {}
        for name, content in self.contents.items():
            found[TaskContent(content.instructions)] = (name, "instructions")
            found[TaskContent("", content.goals)] = (name, "goals")
        found.pop(UNKNOWN, None)
        return found


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
        several = sum(overlap.examples for overlap in self.overlaps)
        named = "; ".join(map(str, self.overlaps[:_SHOWN])) + ("; ..." if len(self.overlaps) > _SHOWN else "")
        found = f"{several} of {self.examples} examples are of {self.held_out}: {named}"
        lost = f"the tasks of {self.unknown} of {self.examples} examples are unknown, so they cannot be checked"
        return ". ".join([*([found] if self.overlaps else ()), *([lost] if self.unknown else ())])


def contamination(examples: ExampleSet, held_out: HeldOut, store: Store | Reader | None = None) -> Contamination:
    """Find held-out tasks in a set. Tasks are looked up in the store first, then in the held-out world.

    Raises:
        StoreIncomplete: lines of the runs of the examples could not be read.
        StoreError, DataMissing, DataCorrupt: the tasks cannot be read.
    """
    overlaps: Counter[tuple[str, str, By]] = Counter()
    unknown = 0
    matches = _matches(examples, held_out, store)
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
    if found.clean:
        return
    advice = (
        "Remove them (--drop-held-out, or simkit.data.held_out.without_held_out), or harvest from another split"
        if found.overlaps
        else f"Export from runs on the world `{held.world}` or of this store, without --no-origin; files of older "
        "versions do not contain the contents of their tasks"
    )
    raise UsageError(f"these examples must not be trained on: {found}. {advice}")


def without_held_out(examples: ExampleSet, held_out: HeldOut, store: Store | Reader | None = None) -> ExampleSet:
    """The set without examples of held-out tasks, which are counted as removed for `held_out`.

    Examples of unknown tasks stay; `assert_clean_of` finds them.

    Raises:
        StoreError, DataMissing, DataCorrupt: the tasks cannot be read.
    """
    matches = _matches(examples, held_out, store)
    kept = [example for example in examples if matches[_source(example)] in (None, CLEAN)]
    return examples.keeping(kept, "held_out")


def _source(example: Example) -> ExampleOrigin:
    """The task of an example, as far as the example identifies it."""
    origin = example.origin
    return ExampleOrigin(run_id=origin.run_id, world=origin.world, task_id=origin.task_id, content=origin.content)


def _matches(examples: ExampleSet, held: HeldOut, store: Store | Reader | None) -> dict[ExampleOrigin, Match | None]:
    """The held-out task that each source is; see `HeldOut.match`.

    Its content is that of the example, else of the run in the store, else of the held-out world. Worlds with different
    options give different tasks the same names, so a task of a run that is not in the store is looked up only in a
    world whose tasks do not vary.
    """
    sources = dict.fromkeys(map(_source, examples))
    found = {source: source.content for source in sources if source.content}
    missing = [source for source in sources if source.task_id and source not in found]
    runs = sorted({source.run_id for source in missing if source.run_id})
    if store is not None and runs:
        with store.reading(runs) as reader:
            reader.require_complete(runs, "a check for held-out tasks")
            stored = contents_of(reader, runs)
        found |= {s: stored[s.run_id, s.task_id] for s in missing if (s.run_id, s.task_id) in stored}
    if (home := held.home) is not None:
        asked = [s for s in missing if s not in found and s.world == held.world and not (s.run_id and home.tasks_vary)]
        at_home = _at_home(home, {source.task_id for source in asked})
        found |= {source: at_home[source.task_id] for source in asked if source.task_id in at_home}
    return {source: held.match(source, found.get(source)) for source in sources}


def _at_home(home: World, names: set[str]) -> dict[str, TaskContent]:
    """Contents of a world's tasks by id; splits are read until all are found."""
    found: dict[str, TaskContent] = {}
    for split in home.splits:
        if names <= found.keys():
            break
        found |= {task.id: TaskContent.of_task(task) for task in home.tasks(split) if task.id in names}
    return found
