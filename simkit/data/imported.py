"""Conversations of other programs as a run in the store.

The run is recorded with the store's own events, so that its journal is the record as for every run. Its recipe is
`import`, and its configuration names the file. It has no model calls: it cannot be resumed or replayed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from simkit.components.model_view import says_nothing
from simkit.components.reward import RewardPart
from simkit.core.conversation import Conversation, Entry
from simkit.core.events import (
    IMPORTED,
    BranchAdded,
    BranchExtended,
    Episode,
    EpisodeStarted,
    Event,
    Outcome,
    RunFinished,
    RunStarted,
    TaskSeen,
    UnitsPlanned,
)
from simkit.core.ids import branch_id, episode_id
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, ToolResult, ToolSpec, text_of
from simkit.core.records import CallRecord, MessageRow, PlannedUnit, Side
from simkit.core.tasks import Goal
from simkit.errors import DataCorrupt
from simkit.search.episode import grown, toolset

REQUESTOR = "requestor"
"""Field of messages that are calls of the user's own tools, or their results; its value is `user`."""

_AUTHORS = {"developer": "system", "assistant": "agent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConversation:
    """One conversation of another program.

    Attributes:
        task_id: its task; the same task may occur several times, as trials.
        messages: the conversation, in the OpenAI chat form.
        opening: how many of the first messages were there before the agent's first turn, a fixed greeting for example.
        tools: the tools that the agent was offered.
        instructions: what the task says, by which equal tasks are recognised.
        split, goals: the split of the task and its goals, if the file says so.
        trial: number of the trial, from 0; None counts the conversations of the task.
        reward: its reward; None if it was not scored.
        parts: the values that the reward is made of, or that were measured beside it.
        outcome: how it ended; None derives it from the last message.
        error: the error that ended it; the episode is then a fault and has no reward.
    """

    task_id: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    instructions: str = ""
    split: str = ""
    goals: tuple[Goal, ...] = ()
    opening: int = 0
    trial: int | None = None
    reward: float | None = None
    parts: tuple[RewardPart, ...] = ()
    outcome: Outcome | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedFile:
    """The conversations of a file.

    Attributes:
        format: the program that wrote it: `inspect_ai`, `verifiers`, or `conversations` for other files.
        world: name of the evaluation, environment or file.
        model: the model that was evaluated, if the file names it.
        score: the scorer, metric or column that gives the rewards; empty if nothing does.
        reward: the reward of simkit that measures the same; empty if there is none.
        details: further facts for the configuration of the run.
        notes: what was left out, for the user.
    """

    format: str
    world: str
    conversations: tuple[ImportedConversation, ...]
    model: str | None = None
    score: str = ""
    reward: str = ""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()

    def config(self, path: str) -> dict[str, Any]:
        """The configuration of the run, which marks it as imported."""
        source = {"format": self.format, "file": path, "score": self.score, **self.details}
        same = {"reward": self.reward} if self.reward else {}
        return {"world": self.world, "agent": self.format, "model": self.model, **same, "imported": source}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRun:
    """Identity of the run that an import records.

    Attributes:
        number: number of the start in its store.
        full_reward: the reward of a success.
    """

    run_id: str
    name: str
    version: str
    number: int
    full_reward: float = 1.0


def run_events(found: ImportedFile, run: ImportedRun, path: str) -> Iterator[Event]:
    """The events of a run with these conversations."""
    now = time.time()
    yield RunStarted(run.run_id, run.name, IMPORTED, 0, found.config(path), run.version, now, 0, run.number)
    units = list(_numbered(found.conversations))
    yield UnitsPlanned(run.run_id, 0, tuple(PlannedUnit(each.task_id, trial) for trial, each in units), now)
    tasks = {each.task_id: each for _, each in reversed(units)}
    tasks |= {each.task_id: each for _, each in reversed(units) if each.instructions or each.goals}
    for trial, each in units:
        if (task := tasks.pop(each.task_id, None)) is not None:
            goals = tuple(asdict(goal) for goal in task.goals)
            yield TaskSeen(run.run_id, task.task_id, found.world, task.split, task.instructions, goals)
        yield from _episode(run, each, trial, now)
    yield RunFinished(run.run_id, "done", _summary(found), time.time())


def _summary(found: ImportedFile) -> dict[str, Any]:
    rewards = [each.reward for each in found.conversations if each.reward is not None]
    return {
        "imported_from": found.format,
        "score": found.score,
        "episodes": len(found.conversations),
        "scored": len(rewards),
        "faults": sum(each.error is not None for each in found.conversations),
        "average_reward": sum(rewards) / len(rewards) if rewards else None,
    }


def _numbered(conversations: Iterable[ImportedConversation]) -> Iterator[tuple[int, ImportedConversation]]:
    """Conversations with their trials; a trial that occurs twice gets the next free number."""
    taken: set[tuple[str, int]] = set()
    following: Counter[str] = Counter()
    for each in conversations:
        trial = following[each.task_id] if each.trial is None else each.trial
        while (each.task_id, trial) in taken:
            trial += 1
        taken.add((each.task_id, trial))
        following[each.task_id] = max(following[each.task_id], trial + 1)
        yield trial, each


def _episode(run: ImportedRun, each: ImportedConversation, trial: int, now: float) -> Iterator[Event]:
    episode = episode_id(run.run_id, each.task_id, trial)
    try:
        tools = toolset(each.tools)
    except TypeError as error:
        raise DataCorrupt(f"a tool of task {each.task_id} cannot be recorded ({error}); correct its schema") from error
    yield tools
    yield EpisodeStarted(episode, run.run_id, each.task_id, trial, IMPORTED, tools.toolset_id, (), now, 0)
    spoke_last: Outcome = "user_ended" if each.messages and each.messages[-1].role == "user" else "agent_ended"
    outcome = each.outcome or (spoke_last if each.error is None else "agent_fault")
    branches = list(_branches(each.messages, each.opening))
    names = [branch_id(episode, "", number) for number in range(len(branches))]
    for number, branch in enumerate(branches):
        ended, error = (outcome, each.error) if number == len(branches) - 1 else (None, None)
        parent, rows, calls = names[number - 1] if number else None, tuple(branch.turn), tuple(branch.calls)
        yield BranchAdded(names[number], episode, parent, "", number, rows, calls, (), ended, error, now)
        if branch.answer:
            yield BranchExtended(names[number], tuple(branch.answer))
    yield Episode(
        episode_id=episode,
        reward=None if each.error is not None else each.reward,
        outcome=outcome,
        parts=tuple(asdict(part) for part in each.parts),
        final_branch_id=names[-1],
        turns=len(branches) - 1,
        branches=len(branches) - 1,
        faults=int(outcome.endswith("_fault")),
        error=each.error,
        at=now,
        calls=sum(len(branch.calls) for branch in branches),
        full_reward=run.full_reward,
    )


@dataclass(slots=True)
class _Branch:
    """One turn: the agent's messages with the results of its calls, and what the user answered."""

    turn: list[MessageRow] = field(default_factory=list[MessageRow])
    answer: list[MessageRow] = field(default_factory=list[MessageRow])
    calls: list[CallRecord] = field(default_factory=list[CallRecord])


def _branches(messages: Sequence[Message], opening: int) -> Iterator[_Branch]:
    """The turns of a conversation; the first has the opening, and what precedes the agent's first message after it."""
    conversation, branch, turn, step = Conversation(), _Branch(), 0, 0
    waiting: dict[str, tuple[ToolCall, int, Side]] = {}
    for place, message in enumerate(messages):
        side = _side(message)
        if isinstance(message, AssistantMessage) and side == "agent" and place >= opening:
            if branch.answer or not turn:
                yield branch
                branch, turn, step = _Branch(), turn + 1, 0
            else:
                step += 1
        conversation, row = grown(conversation, _entry(message, side, turn, step))
        (branch.answer if turn and (message.role == "user" or side == "user") else branch.turn).append(row)
        if isinstance(message, AssistantMessage):
            waiting = {call.id: (call, step, side) for call in message.tool_calls or ()}
        elif isinstance(message, ToolMessage) and message.tool_call_id in waiting:
            call, made, by = waiting.pop(message.tool_call_id)
            failed = bool((message.model_extra or {}).get("error"))
            result = ToolResult(value=text_of(message), error=failed)
            branch.calls.append(CallRecord.of(call, result, made, seq=row.seq, by=by))
    yield branch


def _side(message: Message) -> Side:
    """Whose call or result a message is; calls of the user's own tools are marked."""
    return "user" if (message.model_extra or {}).get(REQUESTOR) == "user" else "agent"


def _entry(message: Message, side: Side, turn: int, step: int) -> Entry:
    author: Any = "user_tool" if side == "user" else _AUTHORS.get(message.role, message.role)
    spoken = message.role == "user" or (message.role == "assistant" and not message.tool_calls)
    heard = text_of(message) if spoken and not says_nothing(message) else None
    return Entry(message, author, turn=turn, step=step, heard=heard)
