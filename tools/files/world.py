"""A world from a folder: `tasks.yaml`, `tools.py`, `data/` and `policy.md`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

from simkit.components.findings import Finding
from simkit.components.state import State
from simkit.components.tools import CallTool, StartTools, ToolServer
from simkit.components.world import Check, Expected
from simkit.core.conversation import Utterance
from simkit.core.messages import JsonObject, ToolCall, sorted_json
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError, reason
from simkit.plugins.component_paths import python_file
from simkit.rule_based.matching import clean, covers
from simkit.tools.drafts import DraftedState, RowChange
from simkit.tools.files.check import Written, static_findings
from simkit.tools.files.data import read_data
from simkit.tools.files.solutions import Solved, at_once
from simkit.tools.files.tasks_file import GoalEntry, TaskEntry, TasksFile, read_tasks
from simkit.tools.files.tools_file import ToolsFile, read_tools
from simkit.tools.functions import FunctionTools


class FileWorld(Written):
    """A world from a folder with `tasks.yaml`, `tools.py`, and perhaps `data/` and `policy.md`.

    Args:
        home: the folder.

    Raises:
        UsageError: `tasks.yaml` cannot be read, or is wrong.
    """

    name: ClassVar[str] = "files"
    splits: ClassVar[tuple[str, ...]] = ("test",)
    default_agent: ClassVar[str] = "solution"
    default_user: ClassVar[str] = "script"
    default_reward: ClassVar[str] = "task_goals"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file: TasksFile = read_tasks(home, self.shown())
        said = all(task.agenda for task in self.file.world.tasks)
        entry = self.file.world
        vars(self).update(  # each folder is a world of its own, and these are the class's for all others
            name=entry.name or home.resolve().name,
            splits=self.file.splits,
            limits=self.file.limits,
            default_agent=self._component(entry.agent),
            default_user=self._component(entry.user or ("script" if said else "goal")),
        )
        self._solved: dict[tuple[str, str], Solved] = {}

    def shown(self, *parts: str) -> str:
        """The path of a file of this world for messages: relative, if it is below the current folder."""
        path = os.path.abspath(self.home.joinpath(*parts))
        here = os.path.join(os.getcwd(), "")
        return path.removeprefix(here) if path.startswith(here) else path

    def _component(self, name: str) -> str:
        """A component as `tasks.yaml` names it; its file is relative to the folder."""
        return str(self.home / name) if python_file(name) else name

    # --- tasks --------------------------------------------------------------------------------------------------------

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, in the order of the file.

        Raises:
            UsageError: no such split.
        """
        return self._by_split[self.check_split(split)]

    @cached_property
    def _by_split(self) -> Mapping[str, tuple[Task, ...]]:
        entries = self.file.world.tasks
        return {split: tuple(self._task(one) for one in entries if one.split == split) for split in self.splits}

    def _task(self, entry: TaskEntry) -> Task:
        solution = [{"tool": call.call, "arguments": call.arguments} for call in entry.calls]
        return Task(
            id=entry.id,
            world=self.name,
            split=entry.split,
            instructions=entry.instructions.strip(),
            goals=tuple(_goals(entry)),
            reference=tuple(Utterance("user", line) for line in entry.agenda),
            data={"solution": solution, "implied": list(entry.implied)},
        )

    @property
    def ontology(self) -> Ontology:
        """Empty: tools may have any names."""
        return Ontology(())

    # --- tools --------------------------------------------------------------------------------------------------------

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The public functions of `tools.py`, in their order; empty if it makes a tool server instead.

        Raises:
            UsageError: there is no such file, it fails to import, or has no public function.
        """
        return self._tools.functions

    @property
    def played_ahead(self) -> bool:
        """Whether solutions can be played without a run: the tools are functions."""
        return self._tools.maker is None

    @cached_property
    def _tools(self) -> ToolsFile:
        name = self.file.world.tools
        return read_tools(self.home, name, self.shown(name))

    @cached_property
    def start_state(self) -> DraftedState | None:
        """The state at the start of every task; None for a world without data, or whose tool server keeps its own.

        Raises:
            UsageError, DataMissing, DataCorrupt: the data cannot be read.
        """
        if not self.played_ahead:
            return None
        named = self.file.world.data
        place = named or "data"
        return read_data(self.home / place, self.shown(place), required=named is not None)

    @property
    def policy(self) -> str:
        """The rules for agents; empty if there is no `policy.md`.

        Raises:
            UsageError: the file cannot be read, or is named by `tasks.yaml` and missing.
        """
        return self._read_policy

    @cached_property
    def _read_policy(self) -> str:
        named = self.file.world.policy
        file = self.home / (named or "policy.md")
        if named is None and not file.exists():
            return ""
        try:
            return file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.shown(file.name)} cannot be read: {reason(error)}") from error

    @cached_property
    def _server(self) -> FunctionTools:
        return FunctionTools(*self.functions, state=self.start_state, policy=self.policy)

    def tools(self) -> ToolServer[Any]:
        """The functions as a tool server, or a new one of the function that makes it.

        Raises:
            UsageError, DataMissing, DataCorrupt: tools, data or rules cannot be read.
        """
        return self._server if self.played_ahead else self._tools.server(self.policy)

    # --- checks -------------------------------------------------------------------------------------------------------

    def findings(self) -> list[Finding]:
        """What is wrong with the files, tools and tasks, as far as can be seen without playing conversations."""
        try:
            self.tools()
        except UsageError as error:
            return [Finding("file", "", line) for line in str(error).splitlines()]
        return static_findings(self)

    def place(self, task: Task, part: str) -> str:
        """File and line of a part of a task."""
        entries = self.file.world.tasks
        number = next(n for n, entry in enumerate(entries) if (entry.split, entry.id) == (task.split, task.id))
        return self.file.at("tasks", number, part)

    def described(self) -> Sequence[str]:
        """The counts of tools and tasks, and of what needs a model to be checked."""
        tasks = self.file.world.tasks
        counts = ", ".join(f"{len(self.tasks(split))} in {split}" for split in self.splits)
        rubrics = sum(goal.rubric is not None for task in tasks for goal in task.goals)
        silent = sum(not task.agenda for task in tasks)
        tools = _counted(len(self.functions), "tool") if self.played_ahead else f"the tools of `{self.tools().name}`"
        lines = [f"{self.name}: {tools}, {_counted(len(tasks), 'task')} ({counts})"]
        lines += [f"note: {silent} tasks have no agenda, so the scripted pair did not play them"] if silent else []
        lines += [f"note: {rubrics} rubrics are left to a judge (--judge-model)"] if rubrics else []
        return lines

    def check_task(self, task: Task) -> None:
        """Check before a run that a task is one of this world, and that its goals can be about tables.

        Raises:
            UsageError: it is not, or they cannot.
        """
        super().check_task(task)
        for goal in task.goals:
            if ("state" in goal.detail or "writes" in goal.detail) and self.start_state is None:
                raise UsageError(self._without_tables(goal.key))

    def _without_tables(self, goal: str) -> str:
        whose = "no data" if self.played_ahead else "a tool server that keeps its own state"
        return f"the world `{self.name}` has {whose}, and the goal `{goal}` is about tables; use goals with `call`"

    # --- ends ---------------------------------------------------------------------------------------------------------

    def solved(self, task: Task) -> Solved:
        """The task's solution, played.

        Raises:
            UsageError: a tool of it waits for something, so that it cannot be played here.
        """
        known = self._solved.get((task.split, task.id))
        if known is None:
            known = self._solved[task.split, task.id] = self.solved_again(task)
        return known

    def solved_again(self, task: Task) -> Solved:
        """The task's solution, played once more."""
        server = self._server
        state, calls = server.start(StartTools(task)).state, list[CallRecord]()
        for number, call in enumerate(task.data["solution"]):
            made = ToolCall.of(f"gold_{number}", call["tool"], call["arguments"])
            done = at_once(server.call(CallTool(task, made, state)), f"the tool `{call['tool']}`")
            state = done.state
            calls.append(CallRecord.of(made, done.result, number, done.writes))
        return Solved(tuple(calls), state)

    def digest(self, state: State) -> str:
        """Digest of all tables; empty for a world without data."""
        return state.digest(dict.fromkeys(state.tables(), ())) if isinstance(state, DraftedState) else ""

    def holds(self, check: Check, state: State) -> bool:
        """Whether a state meets a goal with `state` or `writes`.

        Raises:
            UsageError: the world has no data, or no such table or column.
        """
        if self.start_state is None:
            raise UsageError(self._without_tables(check.name))
        if not isinstance(state, DraftedState):
            return False
        wanted = self.solved(self._named(check.detail)).state
        if "state" in check.detail:
            tables: Mapping[str, Sequence[str]] = check.detail["state"]
            return state.digest(tables) == wanted.digest(tables)
        changes = state.changes(self.start_state)
        if _removed(changes) != _removed(wanted.changes(self.start_state)):
            return False
        rows: Mapping[str, Sequence[JsonObject]] = check.detail["writes"]
        due = [(table, row) for table, each in rows.items() for row in each]
        return _written(due, [(change.table, change.row) for change in changes if not change.removed])

    def _named(self, detail: Mapping[str, Any]) -> Task:
        return next(task for task in self.tasks(detail["split"]) if task.id == detail["task"])

    def expected(self, task: Task) -> Expected:
        """All tables as after the solution, with what has to be told; for the reward `final_state`."""
        told = tuple(str(goal.detail["told"]) for goal in task.goals if "told" in goal.detail)
        rubrics = [goal.detail for goal in task.goals if "rubric" in goal.detail and "scale" not in goal.detail]
        judged = tuple(str(detail["rubric"]) for detail in rubrics)
        if not self.played_ahead:
            raise UsageError(
                f"the world `{self.name}` has a tool server that keeps its own state, which `final_state` cannot read; "
                "use the reward `task_goals`"
            )
        return Expected(digest=self.digest(self.solved(task).state), said=told, judged=judged)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _goals(entry: TaskEntry) -> Iterator[Goal]:
    """The goals of a task. Equal ones are copies of one; others of the same name are numbered."""
    seen: dict[str, list[JsonObject]] = {}
    for goal in entry.goals:
        name, detail = _detail(entry, goal)
        same = seen.setdefault(name, [])
        if detail not in same:
            same.append(detail)
        number = same.index(detail)
        yield Goal(f"{name}:{number + 1}" if number else name, detail, goal.weight)


def _detail(entry: TaskEntry, goal: GoalEntry) -> tuple[str, JsonObject]:
    """The name of a goal, and what the reward reads."""
    task: JsonObject = {"task": entry.id, "split": entry.split}
    match goal.kinds[0]:
        case "call":
            name = cast("str", goal.call)
            detail: JsonObject = {"tool": name, "parameters": goal.arguments or {}}
            detail["booking"] = True  # it succeeds unless its result says that it failed
        case "told":
            name, detail = f"told {goal.told}", {"told": goal.told}
        case "rubric":
            name, detail = "rubric", {"rubric": goal.rubric}
            detail |= {} if goal.scale is None else {"scale": list(goal.scale)}
        case "state":
            name, detail = "state", {"state": goal.state, **task}
        case _:
            name, detail = "writes", {"writes": goal.writes, **task}
    return goal.name or name, detail


def _removed(changes: Iterable[RowChange]) -> list[bytes]:
    """The rows that were removed or replaced, in a fixed order."""
    return sorted(sorted_json(change.to_json()) for change in changes if change.removed)


def _written(wanted: list[tuple[str, JsonObject]], written: list[tuple[str, JsonObject]]) -> bool:
    """Whether each written row is a wanted one and each wanted one was written, one to one."""
    if len(wanted) != len(written):
        return False
    left = list(written)
    for table, columns in sorted(wanted, key=lambda each: -len(each[1])):  # the most particular ones first
        fit = next((one for one in left if one[0] == table and covers(clean(one[1]), clean(columns))), None)
        if fit is None:
            return False
        left.remove(fit)
    return True
