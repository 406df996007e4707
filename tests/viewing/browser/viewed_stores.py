"""Stores that the pages are looked at with, played by `simkit run`."""

from __future__ import annotations

from pathlib import Path

from support import viewed_agents
from support.forked_commands import run_forked
from support.viewed_agents import MARKUP

AGENTS = Path(viewed_agents.__file__)
HOSTILE_NAME = f"run {MARKUP[:60]}"


def play(store: Path, *words: str) -> None:
    """`simkit run` into a store."""
    finished = run_forked(["run", *words, "--quiet", "--store", str(store)])
    assert finished.code == 0, finished.err


def played_runs(store: Path) -> None:
    """Runs `trees`, `before`, `after` and `faults`."""
    erring = "scripted,error_rate=0.4,habits=drop:people:0.6"
    play(store, "josh", "--tasks", "4", "--beam", "8", "--seed", "1", "--name", "trees", "--agent", erring)
    play(store, "rollout", "--tasks", "12", "--trials", "3", "--seed", "1", "--name", "before", "--agent", erring)
    play(store, "rollout", "--tasks", "12", "--trials", "3", "--seed", "1", "--name", "after")
    failing = f"{AGENTS}:FailingAgent"
    play(store, "rollout", "--tasks", "6", "--name", "faults", "--max-faults", "1", "--agent", failing)


def hostile_run(store: Path) -> None:
    """A run whose name, words, calls and flags are hostile, with one message of 20 MB in its second task."""
    hostile = ["--agent", f"{AGENTS}:HostileAgent,long=test-00001", "--user", f"{AGENTS}:HostileUser"]
    play(store, "rollout", "--tasks", "2", "--max-turns", "5", "--name", HOSTILE_NAME, *hostile)
