"""Stores for the benchmark of the viewer: trees of a given size, many runs, and many episodes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from simkit.core.conversation import Conversation, Entry
from simkit.core.events import (
    BranchAdded,
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
from simkit.core.records import MessageRow, RewardRow
from simkit.store import Store
from simkit.store.encoding import encode

TREES = {"tree888": 888, "tree5000": 5_000, "tree20000": 20_000}
"""Names of the runs with one tree, and numbers of its branches."""

TURNS = 15
EPISODES = "episodes"
"""Name of the run with many episodes."""


def make(store: Path, *, tasks: int, trials: int, runs: int) -> None:
    """Write a store with the trees, a run of `tasks` x `trials` episodes, and further runs up to `runs`."""
    flags = ["--tasks", str(tasks), "--trials", str(trials), "--name", EPISODES, "--quiet", "--store", str(store)]
    subprocess.run([sys.executable, "-m", "simkit", "run", "rollout", *flags], check=True, stdout=subprocess.DEVNULL)
    for number, (name, branches) in enumerate(TREES.items()):
        write(store, name, tree(name, branches, 1_000.0 + number))
    for number in range(runs - len(TREES) - 1):
        name = f"small{number:04d}"
        write(store, name, tree(name, TURNS, 2_000.0 + number))
    Store(store).load(wait=60)


def write(store: Path, run: str, events: Iterator[Event]) -> None:
    """Write the journal of a run."""
    path = store / "journals" / run / "main.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.writelines(map(encode, events))


def tree(run: str, branches: int, at: float) -> Iterator[Event]:
    """A run with one tree of about so many branches over 15 turns, whose first path is golden."""
    episode = episode_id(run, "t", 0)
    wide = max(1, branches // TURNS)
    yield RunStarted(run, run, "josh", 0, {"world": "made"}, "0.1.0", at, 0)
    yield TaskSeen(run, "t", "made", "test", "Book a room.", ({"key": "book"},))
    yield ToolsetSeen("tools-1", ())
    yield EpisodeStarted(episode, run, "t", 0, "josh", "tools-1", ("book",), at, 0)
    above = [branch_id(episode, "", 0)]
    golden = [above[0]]
    first = _rows(Conversation([Entry.system("Help."), Entry.user("I need a room.", 0)]), 0)
    yield BranchAdded(above[0], episode, None, "", 0, first, (), (), None, None, at)
    for turn in range(1, TURNS + 1):
        level = [branch_id(episode, str(place), turn) for place in range(wide)]
        for place, own in enumerate(level):
            said = Entry.agent(f"What about room {place % 7}, for turn {turn}?", turn)
            rows = (MessageRow(2 * turn, turn, 0, "agent", said.message.to_openai(), said.heard, ""),)
            earned = (RewardRow("book", "book {}", 0, True),) if turn == TURNS and place == 0 else ()
            outcome = "goals_done" if turn == TURNS else None
            parent = above[place * 7 // 10 if turn > 1 else 0]
            yield BranchAdded(own, episode, parent, str(place), turn, rows, (), earned, outcome, None, at)
        above = level
        golden.append(level[0])
    yield TreeHarvested(episode, 0, golden[-1], ("book",), tuple(golden), tuple(golden))
    yield Episode(
        episode_id=episode,
        reward=1.0,
        outcome="goals_done",
        achieved=("book",),
        final_branch_id=golden[-1],
        turns=TURNS,
        branches=wide * TURNS + 1,
        faults=0,
        at=at + 5,
    )
    yield RunFinished(run, "done", {"episodes": 1}, at + 6)


def _rows(conversation: Conversation, start: int) -> tuple[MessageRow, ...]:
    return tuple(
        MessageRow(seq, each.turn, each.step, each.author, each.message.to_openai(), each.heard, "")
        for seq, each in enumerate(conversation.tail(start), start)
    )
