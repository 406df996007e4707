"""A tree of an episode and one conversation of it, as values: what `simkit show` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, as `simkit ls` lists it.

    Times are UTC; `status` of a killed run stays `running`; `part_of` is the run it is a stage of.
    `finished` of the `planned` episodes have ended; None for the plan of a run recorded before there were plans.
    `supervisor` says who played its episodes: `rollout` (single conversations), `josh` (trees).
    """

    run_id: str
    name: str
    recipe: str
    status: str
    episodes: int
    average_reward: float | None
    success_rate: float | None
    faults: int
    started_at: datetime
    seconds: float | None
    part_of: str | None = None
    planned: int | None = None
    finished: int = 0
    supervisor: str | None = None

    @property
    def counted(self) -> str:
        """Its episodes, and out of how many when some are missing: `48/60`."""
        missing = self.planned is not None and self.finished < self.planned
        return f"{self.finished}/{self.planned}" if missing else str(self.episodes)


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One branch of a tree with the branches that go on from it, left to right.

    `said` is the last thing the agent said aloud in it, `goals` what its turn earned, `credited` what the search took.
    """

    branch_id: str
    path: str
    turn: int
    outcome: str | None
    error: str | None
    successful: bool
    golden: bool
    winner: bool
    said: str | None
    calls: tuple[str, ...]
    goals: tuple[str, ...]
    credited: tuple[str, ...]
    children: tuple[TreeNode, ...]

    def walk(self) -> Iterator[TreeNode]:
        """This branch and everything below it, a branch before its children, left before right."""
        pending: list[TreeNode] = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.children))


@dataclass(frozen=True, slots=True)
class EpisodeTree:
    """One episode with its tree. `root` is None while nothing of it has been stored."""

    episode_id: str
    run_id: str
    task_id: str
    trial: int
    reward: float | None
    outcome: str | None
    goals: tuple[str, ...]
    achieved: tuple[str, ...]
    final_branch_id: str | None
    error: str | None
    instructions: str | None
    root: TreeNode | None


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a transcript, with the branch that added it, and the user simulator's doubts about it."""

    branch_id: str
    seq: int
    turn: int
    step: int
    author: str
    heard: str | None
    message: Mapping[str, Any]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation from the root to one branch."""

    branch_id: str
    lines: tuple[Line, ...]


def build_tree(rows: list[dict[str, Any]]) -> TreeNode | None:
    """The tree of the rows of one episode, read by `Store.tree`; None when there is no root."""
    below: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        below.setdefault(row["parent_id"], []).append(row)
    nodes: dict[str, TreeNode] = {}
    for row in sorted(rows, key=lambda row: row["turn"], reverse=True):  # children before their parents
        children = sorted(below.get(row["branch_id"], ()), key=lambda child: path_key(child["path"]))
        nodes[row["branch_id"]] = _node(row, tuple(nodes[child["branch_id"]] for child in children))
    roots = below.get(None, [])
    return nodes[roots[0]["branch_id"]] if roots else None


def path_key(path: str) -> tuple[object, ...]:
    """Left to right: `L` before `R`, `0.2` before `0.10`."""
    return tuple(int(arm) for arm in path.split(".")) if path[:1].isdigit() else tuple(path)


def _node(row: dict[str, Any], children: tuple[TreeNode, ...]) -> TreeNode:
    return TreeNode(
        branch_id=row["branch_id"],
        path=row["path"],
        turn=row["turn"],
        outcome=row["outcome"],
        error=row["error"],
        successful=row["successful"],
        golden=row["golden"],
        winner=row["winner"],
        said=row["said"],
        calls=tuple(row["calls"] or ()),
        goals=tuple(row["goals"] or ()),
        credited=tuple(row["credited"] or ()),
        children=children,
    )
