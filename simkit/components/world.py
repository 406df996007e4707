"""The contract of worlds: tasks and their tool server."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, cast

from simkit.components.results import RecordedRun
from simkit.components.state import State
from simkit.components.tools import ToolServer
from simkit.core.limits import Limits
from simkit.core.messages import JsonObject
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord, Side
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.plugins.loading import ComponentKind, load

EndPart: TypeAlias = Literal["state", "said", "checks", "actions", "judged"]
"""Parts of a good end: the state, due texts, checks of the state, calls that were made, and a judge's verdict."""

DataProgress: TypeAlias = Callable[[str, float], None]
"""Progress callback `(stage, fraction of that stage from 0 to 1)` while a world's data is fetched."""


_ABSENT = object()


def unwatched(stage: str, fraction: float) -> None:
    """Progress callback that does nothing."""


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that the world state at the end has to meet (`World.holds`).

    `name` tells it apart from the others of its task; `detail` is JSON that only the world reads.
    """

    name: str
    detail: JsonObject = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """A call that must have been made (`World.matches`); `compare` names the arguments that count, None for all."""

    name: str
    arguments: JsonObject = field(default_factory=dict[str, Any])
    compare: tuple[str, ...] | None = None
    by: Side = "agent"


@dataclass(frozen=True, slots=True)
class Expected:
    """A good end of an episode, for rewards that judge the end.

    Attributes:
        digest: digest of the world state that the right calls lead to (`World.digest`).
        said: texts that the agent must have said.
        basis: the parts that decide: `state` (the digest is equal), `said` (all texts were said), `checks` (all hold),
            `actions` (all calls were made), `judged` (a judge agrees with all statements).
        writes: the keys of the task's goals whose calls change the state.
        checks: conditions of the state.
        actions: calls that must have been made.
        judged: statements about the conversation for a judge.
        calls_count_once: each of `actions` needs a call of its own; otherwise one call may be several of them.
    """

    digest: str
    said: tuple[str, ...] = ()
    basis: tuple[EndPart, ...] = ("state", "said")
    writes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    actions: tuple[ExpectedCall, ...] = ()
    judged: tuple[str, ...] = ()
    calls_count_once: bool = False


class World(ABC):
    """Tasks and their tool server.

    A world is built by name with its options (`variant`, ...). Building must be cheap; data is read at first use.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    """Names of the splits, those for training before those for tests."""
    default_agent: ClassVar[str] = "scripted"
    default_user: ClassVar[str] = "agenda"
    default_reward: ClassVar[str] = "goal_calls"
    role: ClassVar[str] = "You help customers"
    """Beginning of the scripted agent's system prompt, which continues with "find and book what they need"."""
    limits: ClassVar[Limits] = Limits()
    """Limits of an episode where the caller chooses none, such as the number of decisions in a turn."""
    solo: bool = False
    """Whether the agent works alone: the user `none` is then played unless another is named (`ToolsStart.solo`)."""
    domains: ClassVar[Mapping[str, type[World]]] = MappingProxyType({})
    """The worlds of a family by the second part of their names: `tau:retail` is `domains["retail"]` of `tau`. A family
    itself has no tasks."""
    tasks_vary: ClassVar[bool] = True
    """Whether a task id may denote different tasks when the world is built with different options. False if it never
    does, so that world and id identify a task."""

    if not TYPE_CHECKING:  # the signature of a constructor is that of `__init__`

        def __new__(cls, *args: object, **options: object) -> Self:
            """Check the class's declarations.

            Raises:
                UsageError: `name` or `splits` is missing or invalid, or the class is a family of worlds.
            """
            if cls.domains:
                names = ", ".join(f"{cls.name}:{domain}" for domain in cls.domains)
                raise UsageError(f"`{cls.name}` is a family of worlds; choose one of them: {names}")
            name, splits = getattr(cls, "name", None), getattr(cls, "splits", None)
            if not isinstance(name, str) or not name:
                raise UsageError(f'the world class `{cls.__name__}` has no name; add a line such as: name = "courts"')
            if not _are_splits(splits):
                raise UsageError(
                    f"the world `{name}` has no valid `splits`; add a tuple of names to the class `{cls.__name__}`,"
                    ' such as: splits = ("train", "test")'
                )
            return super().__new__(cls)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

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
        """The domains, for rule-based agents and users; empty if there are none."""

    def expected(self, task: Task) -> Expected | None:
        """What a good end of an episode of this task is; None (the default) if the world does not say.

        Raises:
            DataMissing, DataCorrupt: the data cannot be read.
        """
        return None

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompts that come with the world's data, for agents and users that use them word for word; none by default.

        The names are `agent`, `react` and `act` for agents, and `user`, `user_tools` (with tools),
        `user_react`, `user_verify`, `user_reflection` and `cue` for users.

        Raises:
            DataMissing, DataCorrupt: the data cannot be read.
        """
        return {}

    def digest(self, state: State) -> str:
        """Digest of the content of a world state, for `Expected.digest`; empty (the default) if the world has none."""
        return ""

    def holds(self, check: Check, state: State) -> bool:
        """Whether a world state meets a condition of `Expected.checks`.

        Raises:
            UsageError: the world names conditions and does not override this method (this default).
        """
        raise UsageError(
            f"the world `{self.name}` names the check `{check.name:.80}` and cannot evaluate it; override `holds` in "
            f"the class `{type(self).__name__}`"
        )

    def matches(self, expected: ExpectedCall, call: CallRecord) -> bool:
        """Whether a call is an expected one: by the same side, of the same tool, with equal arguments (the default)."""
        given = call.parameters
        if given is None or (call.name, call.by) != (expected.name, expected.by):
            return False
        if expected.compare is None:
            return given == expected.arguments
        return all(given.get(name, _ABSENT) == expected.arguments.get(name, _ABSENT) for name in expected.compare)

    def results(self, run: RecordedRun) -> JsonObject | list[JsonObject]:
        """A recorded run in the result format of the benchmark that the world comes from (`simkit export results`).

        Raises:
            UsageError: the world comes from no benchmark with a format of its own (this default).
        """
        raise UsageError(
            f"the world `{self.name}` has no result format of its own; `simkit export sft --source episodes` writes "
            "conversations, and `simkit sql` any table"
        )

    @classmethod
    def prepare(cls, source: str | Path | None = None, progress: DataProgress = unwatched) -> Path:
        """Fetch the data of this world, once for all runs, and return its location; `simkit data` calls this.

        A world that needs data overrides this method. `source` is a local copy of the data; None fetches it.

        Raises:
            UsageError: the world needs no data (this default), or cannot take data from that source.
            DataMissing, DataCorrupt: the data cannot be fetched, or is invalid.
        """
        raise UsageError(
            f"the world `{cls.name}` needs no data, it is ready to use: simkit run rollout --world {cls.name}"
        )

    def check_split(self, split: str) -> str:
        """Return `split` if the world has it.

        Raises:
            UsageError: the world does not have it; the message lists its splits.
        """
        if split not in self.splits:
            raise UsageError(f"the world `{self.name}` has no split `{split}`; it has: {', '.join(self.splits)}")
        return split

    def default_split(self, preferred: str) -> str:
        """The split that is played when none is named.

        It is `preferred` if the world has it. Otherwise it is the world's last split in place of `test`, and the first
        one in place of any other.
        """
        if preferred in self.splits:
            return preferred
        return self.splits[-1 if preferred == "test" else 0]

    def check_task(self, task: Task) -> None:
        """Check before a run that a task names this world and one of its splits.

        Raises:
            UsageError: it does not; its results and examples would be recorded under a wrong name.
        """
        if task.world != self.name:
            raise UsageError(
                f"the task `{task.id}` belongs to the world `{task.world}`, and the world that plays it is called"
                f" `{self.name}`; set `Task.world` to that name"
            )
        self.check_split(task.split)


def _are_splits(value: object) -> bool:
    names = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    return bool(names) and all(isinstance(name, str) for name in names)


WORLD = ComponentKind("world", "simkit.worlds", World, folder_group="simkit.folders")


def load_world(world: str = "builtin", folder: Path | None = None, /, **options: Any) -> World:
    """Load a world by name with its options; options with the value None are omitted.

        load_world("builtin").tasks("test")[10:20]

    Args:
        world: a name, a folder (`./shop`), `path/to/file.py:Class` or `package.module:Class`; options may follow:
            `NAME,key=value`.
        folder: base of relative file names; None for the current folder.

    Raises:
        ComponentNotFound: no world of that name.
        UsageError: the world does not accept these options.
    """
    return load(WORLD, world, None, folder, **options)


def choose_tasks(tasks: Sequence[Task], choice: str | int) -> Sequence[Task]:
    """Select tasks: `all`, a number (that many from the start) or a slice (`10-20` for tasks 10 to 19, or `10-`).

    Tasks are counted from 0.

    Raises:
        UsageError: the choice is invalid or selects no tasks.
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
