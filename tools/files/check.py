"""Checks of a world from files: its tasks can be solved, are not solved at the start, and can be told apart."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from simkit.components.findings import Finding
from simkit.components.reward import Reward, ScoreTurn
from simkit.components.tools import StartTools
from simkit.components.world import Check, World
from simkit.core.conversation import Conversation, Entry
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.plugins.loading import load
from simkit.rule_based.matching import succeeded
from simkit.rule_based.unsaid import unsaid
from simkit.run.casting import REWARD
from simkit.tools.files.solutions import Solved, at_once
from simkit.tools.files.tasks_file import TaskEntry, TasksFile


@dataclass(frozen=True, slots=True)
class Subject:
    """A task under check, with what was written about it and what its solution did."""

    world: Written
    reward: Reward[Any]
    number: int
    entry: TaskEntry
    task: Task
    solved: Solved

    def at(self, *place: str | int) -> str:
        """File and line of a part of the task."""
        return self.world.file.at("tasks", self.number, *place)

    def call_at(self, number: int) -> str:
        """File and line of a call of the solution."""
        if self.entry.solution is not None:
            return self.at("solution", number)
        goals = [place for place, goal in enumerate(self.entry.goals) if goal.call is not None]
        return self.at("goals", goals[number])

    def finding(self, kind: str, where: str, problem: str) -> Finding:
        """A finding about this task."""
        return Finding(kind, where, problem, self.task.id)

    def reached_by(self, goal: Goal) -> list[int]:
        """Numbers of the calls of the solution that reach a goal."""
        made = enumerate(self.solved.calls)
        return [number for number, record in made if self._reaches(goal, Conversation(), record)]

    def told_by(self, goal: Goal, text: str) -> bool:
        """Whether a reply with this text reaches a goal."""
        return self._reaches(goal, Conversation().append(Entry.agent(text, turn=1)))

    def _reaches(self, goal: Goal, conversation: Conversation, *calls: CallRecord) -> bool:
        turn = ScoreTurn(self.task, (goal,), calls, conversation, self.solved.state)
        return bool(at_once(self.reward.score_turn(turn), "the reward"))


class Written(World):
    """What the checks need of a world from files."""

    file: TasksFile

    @property
    @abstractmethod
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The tools, as functions."""

    @property
    @abstractmethod
    def played_ahead(self) -> bool:
        """Whether solutions can be played without a run."""

    @property
    @abstractmethod
    def policy(self) -> str:
        """The rules for agents."""

    @abstractmethod
    def shown(self, *parts: str) -> str:
        """The path of a file of the world for messages."""

    @abstractmethod
    def solved(self, task: Task) -> Solved:
        """The task's solution, played."""

    @abstractmethod
    def solved_again(self, task: Task) -> Solved:
        """The task's solution, played once more."""


def static_findings(world: Written) -> list[Finding]:
    """What is wrong with a world as far as can be seen without playing conversations.

    Solutions of a world whose tools are those of a tool server are played in conversations alone.
    """
    subjects: list[Subject] = []
    found = [*_tools(world)]
    reward = load(REWARD, "task_goals", {"world": world})
    tasks = {(task.split, task.id): task for split in world.splits for task in world.tasks(split)}
    if not world.played_ahead:
        return [*_goals_of_tables(world, tasks), *_same_tasks(world)]
    for number, entry in enumerate(world.file.world.tasks):
        task = tasks[entry.split, entry.id]
        try:
            solved = world.solved(task)
        except (Exception, SystemExit, GeneratorExit) as error:  # a tool is the author's own code
            where = world.file.at("tasks", number)
            found.append(Finding("solution", where, f"the solution cannot be played: {_raised(error)}", task.id))
            continue
        subjects.append(Subject(world, reward, number, entry, task, solved))
    checks: Sequence[Callable[[Subject], Iterable[Finding]]] = (_solution, _goals, _same_goals, _user, _repeated)
    for subject in subjects:
        for check in checks:
            try:
                found += check(subject)
            except UsageError as error:
                found.append(subject.finding("goals", subject.at("goals"), str(error)))
    return [*found, *_same_tasks(world)]


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(world: Written) -> Iterator[Finding]:
    """Tools without a description."""
    for function in world.functions:
        words = (inspect.getdoc(function) or "").split()
        if len(words) < 2:
            line = function.__code__.co_firstlineno
            yield Finding(
                "tools",
                f"{world.shown(world.file.world.tools)}:{line}",
                f"the tool `{function.__name__}` is not described; give it a docstring that tells models what it does",
            )


def _goals_of_tables(world: Written, tasks: Mapping[tuple[str, str], Task]) -> Iterator[Finding]:
    """Goals about tables, of a world that has none."""
    for number, entry in enumerate(world.file.world.tasks):
        try:
            world.check_task(tasks[entry.split, entry.id])
        except UsageError as error:
            yield Finding("goals", world.file.at("tasks", number, "goals"), str(error), entry.id)


# --- one task ---------------------------------------------------------------------------------------------------------


def _solution(subject: Subject) -> Iterator[Finding]:
    """Calls of the solution that fail."""
    for number, (call, text) in enumerate(zip(subject.solved.calls, subject.solved.texts, strict=True)):
        if not succeeded(call.result, error=call.error):
            said = f"the call {_called(call)} of the solution fails: {text[:200]}"
            yield subject.finding("solution", subject.call_at(number), said)


def _goals(subject: Subject) -> Iterator[Finding]:
    """Goals that the solution does not reach, and goals that are reached before it begins."""
    task, world = subject.task, subject.world
    start = world.tools().start(StartTools(task)).state
    copies: dict[str, int] = {}
    for number, goal in enumerate(task.goals):
        where, shown = subject.at("goals", number), f"the goal `{goal.key}`"
        if "tool" in goal.detail:
            copies[goal.key] = copies.get(goal.key, 0) + 1
            if len(subject.reached_by(goal)) < copies[goal.key]:
                why = _missing_tool(subject, goal) or "the solution has no call that reaches it"
                yield subject.finding("solution", where, f"{shown} is not reached by the solution: {why}")
        elif "told" in goal.detail:
            if not any(subject.told_by(goal, text) for text in _sources(subject)):
                said = f"{shown} cannot be reached: neither a result of the solution nor the policy has this text"
                yield subject.finding("solution", where, said)
        elif "rubric" not in goal.detail:
            check = Check(goal.key, dict(goal.detail))
            if not world.holds(check, subject.solved.state):
                said = f"{shown} does not hold after the solution{_written(subject, start)}"
                yield subject.finding("solution", where, said)
            if world.holds(check, start):
                said = f"{shown} holds already at the start, so doing nothing reaches it"
                yield subject.finding("start", where, said)


def _missing_tool(subject: Subject, goal: Goal) -> str:
    names = [function.__name__ for function in subject.world.functions]
    tool = goal.detail["tool"]
    return "" if tool in names else f"there is no tool `{tool}`; there are: {', '.join(names)}"


def _sources(subject: Subject) -> Iterator[str]:
    """The texts from which an agent can know something that it has to tell."""
    yield from subject.solved.texts
    yield subject.world.policy


def _written(subject: Subject, start: Any) -> str:
    """What the solution writes, for a message."""
    if start is None:
        return ""
    changes = [change for change in subject.solved.state.changes(start) if not change.removed]
    rows = "; ".join(f"{change.table}: {change.row}" for change in changes[:5])
    return f", which writes {rows}{'; ...' if len(changes) > 5 else ''}" if rows else ", which writes nothing"


def _same_goals(subject: Subject) -> Iterator[Finding]:
    """Pairs of goals of a task that cannot be reached apart."""
    numbered = list(enumerate(subject.task.goals))
    for (_, first), (place, second) in combinations(numbered, 2):
        if first.key == second.key and "tool" in first.detail:
            continue  # copies, each of which needs a call of its own
        one, other = first.detail, second.detail
        same = {key: one[key] for key in ("state", "writes", "rubric") if key in one} or None
        nested = "told" in one and "told" in other and _nested(subject, first, second)
        both = "tool" in one and "tool" in other and _both_reached(subject, first, second)
        if nested or both or (same is not None and same == {key: other.get(key) for key in same}):
            said = f"the goals `{first.key}` and `{second.key}` cannot be told apart (the same reaches both)"
            yield subject.finding("goals", subject.at("goals", place), f"{said}; remove one, or make them differ")


def _nested(subject: Subject, first: Goal, second: Goal) -> bool:
    """Whether the text of one goal reaches the other."""
    return subject.told_by(first, second.detail["told"]) or subject.told_by(second, first.detail["told"])


def _both_reached(subject: Subject, first: Goal, second: Goal) -> bool:
    """Whether the same calls of the solution reach both goals, and no other call reaches one of them."""
    one, other = subject.reached_by(first), subject.reached_by(second)
    return bool(one) and one == other and len(one) < 2


def _user(subject: Subject) -> Iterator[Finding]:
    """Values that calls of the solution need, and that the user does not say."""
    properties = {spec.name: spec.properties for spec in subject.world.tools().start(StartTools(subject.task)).specs}
    spoken = {"instructions": [subject.entry.instructions], "agenda": list(subject.entry.agenda)}
    for part, texts in spoken.items():
        if part == "agenda" and not texts:
            continue
        for number, call in enumerate(subject.solved.calls):
            known = [*texts, subject.world.policy, *subject.solved.texts[:number]]
            needed, schema = call.parameters or {}, properties.get(call.name, {})
            for value in unsaid(needed, known, subject.task.data["implied"], schema):
                yield subject.finding(
                    "user",
                    subject.at(part),
                    f"the user cannot say what is needed: the {part} do{'' if part == 'instructions' else 'es'} not "
                    f"contain `{value}` for {call.name}, nor does an earlier result; add it, or list the value under "
                    "`implied` if the agent can conclude it",
                )


def _repeated(subject: Subject) -> Iterator[Finding]:
    """The first call of the solution that answers, or writes, something else when it is made again."""
    again = subject.world.solved_again(subject.task)
    for number, (one, other) in enumerate(zip(subject.solved.calls, again.calls, strict=True)):
        if (one.result, one.error, one.writes) != (other.result, other.error, other.writes):
            said = (
                f"the call {_called(one)} of the solution does something else the second time; the same calls must "
                "give the same results: a tool may use no random numbers, no clock, and no state but the world's"
            )
            yield subject.finding("tools", subject.call_at(number), said)
            return


# --- all tasks --------------------------------------------------------------------------------------------------------


def _same_tasks(world: Written) -> Iterator[Finding]:
    """Tasks in which users say the same and want different things."""
    seen: dict[tuple[object, ...], TaskEntry] = {}
    for number, entry in enumerate(world.file.world.tasks):
        said = " ".join(entry.instructions.split())
        earlier = seen.setdefault((said, tuple(entry.agenda)), entry)
        if earlier is not entry:
            same = earlier.goals == entry.goals
            why = "has the same goals" if same else "has other goals, which no agent could tell from what the user says"
            where = world.file.at("tasks", number, "instructions")
            problem = f"the task `{earlier.id}` has the same instructions and agenda, and {why}; make them differ"
            yield Finding("goals", where, problem, entry.id)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _called(call: CallRecord) -> str:
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in (call.parameters or {}).items())})"


def _raised(error: BaseException) -> str:
    from simkit.core.tracebacks import own_place

    if isinstance(error, UsageError):
        return str(error)
    place = own_place(error)
    return f"{f'{place}: ' if place else ''}{type(error).__name__}: {error}"
