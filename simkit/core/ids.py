"""Names of branches, and the seeds derived from them.

A branch is one agent turn at one position in the tree. Its path names the forks that lead to it ('' is the root, then
`L` and `R`; `0.3.1` if a fork has more than two arms); a branch that continues without a fork keeps its path.
Everything here depends only on names, never on a clock or a global generator: siblings differ, and reruns are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from random import Random


def child_path(path: str, index: int, factor: int) -> str:
    """Path of arm `index` of a fork with `factor` arms; a fork with one arm keeps the path."""
    if factor == 1:
        return path
    if factor == 2:
        return path + "LR"[index]
    return f"{path}.{index}" if path else str(index)


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed derived from names; the parts are separated, so ("a", "bc") != ("ab", "c")."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class TurnKey:
    """The position of one turn in a run: the key for seeds, resumption and records."""

    run_seed: int
    task_id: str
    trial: int
    path: str
    turn: int

    def seed(self, role: str, call: int = 0) -> int:
        """Seed of call number `call` that `role` ("agent", "user", ...) makes in this turn."""
        return derive_seed(self.run_seed, self.task_id, self.trial, self.path, self.turn, role, call)

    def rng(self, role: str, call: int = 0) -> Random:
        """A separate random generator for that call."""
        return Random(self.seed(role, call))


def episode_id(run_id: str, task_id: str, trial: int) -> str:
    """Id of one episode: `run/task/trial`."""
    return f"{run_id}/{task_id}/{trial}"


def task_of(episode: str) -> tuple[str, int]:
    """Task and trial contained in an episode's id."""
    task, _, trial = episode.partition("/")[2].rpartition("/")
    return task, int(trial)


def branch_id(episode: str, path: str, turn: int) -> str:
    """Id of one branch: `episode/path.turn`; the root is `episode/.0`."""
    return f"{episode}/{path}.{turn}"
