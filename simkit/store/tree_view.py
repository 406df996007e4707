"""Values for display of an episode's tree and of one conversation in it, printed by `simkit show`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, as `simkit ls` lists it.

    Times are UTC. The `status` of a killed run stays `running`. `part_of` is the run that this run is a stage of.
    `finished` of the `planned` episodes have ended; `planned` is None for a run recorded before plans existed.
    `supervisor` is the search that played its episodes: `rollout` (single conversations), `josh` (trees).
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
        """Number of episodes, with the planned number if some are missing: `48/60`."""
        missing = self.planned is not None and self.finished < self.planned
        return f"{self.finished}/{self.planned}" if missing else str(self.episodes)

    def _repr_html_(self) -> str:
        from simkit.store.notebook import run_html

        return str(run_html(self))


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One branch of a tree with its child branches, left to right.

    `said` is the agent's last utterance in it, `goals` the goals its turn reached, `credited` those that the search
    took.
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


@dataclass(frozen=True, slots=True)
class EpisodeTree:
    """One episode with its tree. `root` is None while no branch has been stored.

    `traceback` belongs to a fault that ended the episode outside of a branch.
    """

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
    traceback: str | None = None

    def __repr__(self) -> str:
        reached = f"{len(self.achieved)} of {len(self.goals)} goals"
        return f"<EpisodeTree {self.episode_id}: {reached}, reward {self.reward}, {self.outcome}>"

    def _repr_html_(self) -> str:
        from simkit.store.notebook import tree_html

        return str(tree_html(self))


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """One message of a transcript, with the branch that added it, and the user simulator's doubts about it."""

    branch_id: str
    seq: int
    turn: int
    step: int
    author: str
    heard: str | None
    message: Mapping[str, Any] = field(repr=False)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation from the root to one branch, with the branch's end; `traceback` is set if its fault has one."""

    branch_id: str
    lines: tuple[TranscriptLine, ...]
    outcome: str | None = None
    error: str | None = None
    traceback: str | None = None

    def __repr__(self) -> str:
        ended = f", {self.outcome}" if self.outcome else ""
        return f"<Transcript of {self.branch_id}: {len(self.lines)} messages{ended}>"

    def _repr_html_(self) -> str:
        from simkit.store.notebook import transcript_html

        return str(transcript_html(self))


def build_tree(rows: list[dict[str, Any]]) -> TreeNode | None:
    """Build the tree from the rows of one episode, read by `Store.tree`; None if there is no root."""
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
    """Sort key of a path, left to right: `L` before `R`, `0.2` before `0.10`."""
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
