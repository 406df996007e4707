"""Synthetic JOSH episodes for the tests of the store: real event objects, built the way a supervisor builds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simkit.core.conversation import Conversation, Entry
from simkit.core.events import (
    BranchAdded,
    BranchEnded,
    BranchExtended,
    Episode,
    EpisodeStarted,
    Event,
    RunFinished,
    RunStarted,
    TaskSeen,
    ToolsetSeen,
    TreeHarvested,
)
from simkit.core.ids import branch_id, episode_id
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.core.records import CallRecord, MessageRow, RewardRow
from simkit.store.encoding import encode
from simkit.store.lines import journal_seed, seal

TOOLS: tuple[Mapping[str, Any], ...] = (
    {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}},
)


def run_started(run: str = "r1", name: str = "demo", at: float = 1000.0, attempt: int = 0) -> RunStarted:
    return RunStarted(run, name, "josh", 7, {"beam": 8}, "0.1.0", at, attempt)


def run_finished(run: str = "r1", at: float = 2000.0) -> RunFinished:
    return RunFinished(run, "done", {"episodes": 1}, at)


def rows(conversation: Conversation, start: int) -> tuple[MessageRow, ...]:
    """The rows of the entries from index `start` on."""
    found: list[MessageRow] = []
    before = Conversation(conversation[:start])
    for seq, entry in enumerate(conversation.tail(start), start):
        message = entry.message.to_openai()
        found.append(MessageRow(seq, entry.turn, entry.step, entry.author, message, entry.heard, before.digest.hex()))
        before = before.append(entry)
    return tuple(found)


@dataclass
class Node:
    """A branch while an episode is being told."""

    id: str
    path: str
    turn: int
    conversation: Conversation


@dataclass
class Script:
    """Tells the events of one episode: `open`, then turns of branches, harvests, and `finish`."""

    run: str = "r1"
    task: str = "MUL1"
    trial: int = 0
    goals: tuple[str, ...] = ("book",)
    at: float = 1000.0
    system: str = "S"
    attempt: int = 0
    instructions: str | None = None
    world: str = "builtin"
    events: list[Event] = field(default_factory=list[Event])

    @property
    def id(self) -> str:
        return episode_id(self.run, self.task, self.trial)

    def open(self, text: str = "Hello") -> Node:
        conversation = Conversation([Entry.system(self.system), Entry.user(text, 0)])
        root = Node(branch_id(self.id, "", 0), "", 0, conversation)
        goals = tuple({"key": goal} for goal in self.goals)
        self.events += [
            TaskSeen(self.run, self.task, self.world, "test", self.instructions or f"Book {self.task}.", goals),
            ToolsetSeen("tools-1", TOOLS),
            EpisodeStarted(
                self.id, self.run, self.task, self.trial, "josh", "tools-1", self.goals, self.at, self.attempt
            ),
            BranchAdded(root.id, self.id, None, "", 0, rows(conversation, 0), (), (), None, None, self.at),
        ]
        return root

    def turn(
        self,
        parent: Node,
        path: str,
        entries: Sequence[Entry],
        *,
        goals: Sequence[str] = (),
        outcome: str | None = None,
        error: str | None = None,
    ) -> Node:
        """One agent turn that goes on from `parent`."""
        turn = parent.turn + 1
        node = Node(branch_id(self.id, path, turn), path, turn, parent.conversation.extend(entries))
        calls = tuple(
            CallRecord(len(parent.conversation) + i, e.step, c.id, c.name, c.arguments, {"n": 1}, False, (), 0.001)
            for i, e in enumerate(entries)
            if isinstance(e.message, AssistantMessage)
            for c in e.message.tool_calls or ()
        )
        earned = tuple(RewardRow(goal, "search {}", 0, True) for goal in goals)
        added = rows(node.conversation, len(parent.conversation))
        self.events.append(
            BranchAdded(node.id, self.id, parent.id, path, turn, added, calls, earned, outcome, error, self.at)
        )
        return node

    def says(self, parent: Node, path: str, text: str, *, goals: Sequence[str] = ()) -> Node:
        """A turn in which the agent only speaks."""
        return self.turn(parent, path, [Entry.agent(text, parent.turn + 1)], goals=goals)

    def answer(self, node: Node, text: str) -> Node:
        """The user's answer to a turn."""
        start = len(node.conversation)
        node.conversation = node.conversation.append(Entry.user(text, node.turn))
        self.events.append(BranchExtended(node.id, rows(node.conversation, start)))
        return node

    def end(self, node: Node, outcome: str) -> None:
        self.events.append(BranchEnded(node.id, outcome))

    def harvest(self, winner: Node, golden: Iterable[Node], goals: Sequence[str] = ("book",), number: int = 0) -> None:
        ids = tuple(node.id for node in golden)
        self.events.append(TreeHarvested(self.id, number, winner.id, tuple(goals), ids, ids))

    def finish(self, reward: float | None = 1.0, outcome: str = "goals_done", faults: int = 0) -> None:
        branches = [event for event in self.events if isinstance(event, BranchAdded)]
        achieved = self.goals if reward == 1.0 else ()
        self.events.append(
            Episode(
                episode_id=self.id,
                reward=reward,
                outcome=outcome,
                achieved=achieved,
                final_branch_id=branches[-1].branch_id,
                turns=2,
                branches=len(branches),
                faults=faults,
                at=self.at + 5,
            )
        )


def call(name: str, turn: int, step: int, arguments: str = "{}", result: str = "[]") -> list[Entry]:
    """An agent's tool call and its return, in the form of models with tool calling."""
    made = ToolCall.of(f"c{turn}{step}", name, arguments)
    return [
        Entry(AssistantMessage.of(None, (made,)), "agent", turn, step),
        Entry(ToolMessage.of(made.id, result), "tool", turn, step),
    ]


def josh_episode(
    run: str = "r1",
    task: str = "MUL1",
    trial: int = 0,
    at: float = 1000.0,
    opening: str = "Hello",
    attempt: int = 0,
) -> Script:
    """Two turns, a fork in each: LR wins, R diverges in turn 1, LL in turn 2, one branch faults."""
    script = Script(run, task, trial, at=at, attempt=attempt)
    root = script.open(opening)
    left = script.turn(root, "L", [*call("search", 1, 0), Entry.agent("Which area?", 1, 1)])
    right = script.says(root, "R", "No idea.")
    script.answer(left, "North")
    script.answer(right, "Bye")
    script.end(right, "user_ended")
    lost = script.says(left, "LL", "I give up.")
    won = script.turn(
        left, "LR", [*call("book", 2, 0, '{"area": "north"}'), Entry.agent("Booked.", 2, 1)], goals=["book"]
    )
    script.harvest(won, [root, left, won])
    script.end(lost, "dropped")
    script.finish()
    return script


def write_journal(store: Path, events: Iterable[Event], run: str = "r1", worker: str = "w0") -> Path:
    """Append events to a journal as a worker of versions before numbered lines would have."""
    path = store / "journals" / run / f"{worker}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(encode(event) for event in events)
    return path


def numbered(events: Iterable[Event], run: str = "r1", worker: str = "w0", first: int = 0) -> list[bytes]:
    """Events as the lines of a journal."""
    seed = journal_seed(Path(run, f"{worker}.jsonl"))
    return [seal(encode(event), number, seed) for number, event in enumerate(events, first)]


def write_lines(store: Path, lines: Iterable[bytes], run: str = "r1", worker: str = "w0") -> Path:
    """Append lines to a journal."""
    path = write_journal(store, (), run, worker)
    with path.open("ab") as file:
        file.writelines(lines)
    return path
