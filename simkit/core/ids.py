"""Names of branches, and the seeds that follow from them.

A branch is one agent turn at one place of the tree. Its path says which forks lead to it ('' is the root, then `L` and
`R`; `0.3.1` when a fork has more than two arms); a branch that goes on without a fork keeps its path. Everything here
is a pure function of names, never of a clock or a global generator: siblings differ, and a rerun repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from random import Random


def child_path(path: str, index: int, factor: int) -> str:
    """The path of arm `index` of a fork with `factor` arms; a fork of one arm keeps the path."""
    if factor == 1:
        return path
    if factor == 2:
        return path + "LR"[index]
    return f"{path}.{index}" if path else str(index)


def derive_seed(*parts: str | int) -> int:
    """A seed of 63 bits from the names of what it is for; the parts are kept apart, so ("a", "bc") != ("ab", "c")."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class TurnKey:
    """The place of one turn in a run: what seeds, resumes and records are keyed by."""

    run_seed: int
    task_id: str
    trial: int
    path: str
    turn: int

    def seed(self, role: str, call: int = 0) -> int:
        """The seed of call number `call` that `role` ("agent", "user", ...) makes in this turn."""
        return derive_seed(self.run_seed, self.task_id, self.trial, self.path, self.turn, role, call)

    def rng(self, role: str, call: int = 0) -> Random:
        """A generator of its own for that call."""
        return Random(self.seed(role, call))


def episode_id(run_id: str, task_id: str, trial: int) -> str:
    """The name of one episode: `run/task/trial`."""
    return f"{run_id}/{task_id}/{trial}"


def task_of(episode: str) -> tuple[str, int]:
    """The task and the trial that an episode's name says."""
    task, _, trial = episode.partition("/")[2].rpartition("/")
    return task, int(trial)


def branch_id(episode: str, path: str, turn: int) -> str:
    """The name of one branch: `episode/path.turn`, the root being `episode/.0`."""
    return f"{episode}/{path}.{turn}"
