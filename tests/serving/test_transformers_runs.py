"""Whole runs of the command line against `transformers serve`: a model that babbles breaks nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from transformers_server import TransformersServer

from simkit.store import Store
from support.forked_commands import run_forked, start_forked
from support.killing import contents

SIZE = ("--max-turns", "2", "--max-faults", "1")
"""Short, and with leave for the babbling user to say nothing three times in a row, which is a fault of the user."""

CONTENTS = ("episodes", "branches", "messages", "tool calls", "rewards", "sft", "kto", "dpo")
"""What two equal runs have in common; the model calls keep the server's own random ids."""


def command(*arguments: str | Path) -> list[str]:
    return [*map(str, arguments), "--quiet", "--json"]


def simkit(*arguments: str | Path) -> dict[str, Any]:
    done = run_forked(command(*arguments), patience=300)
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def rollout(server: TransformersServer, agent: str, store: Path, *more: str) -> dict[str, Any]:
    players = ("--agent", agent, "--user", "goal", *server.flags)
    return simkit("run", "rollout", *players, *SIZE, "--tasks", "2", "--store", store, *more)


def found(store: Path, run_id: str) -> dict[str, list[str]]:
    """What the store holds of one of its runs."""
    everything = contents(store, run_id)
    return {name: [row for row in everything[name] if "RUN" in row] for name in CONTENTS}


@pytest.mark.parametrize("agent", ["function_calling", "react"])
def test_a_rollout_is_played_recorded_and_never_paid_twice(
    server: TransformersServer, agent: str, tmp_path: Path
) -> None:
    before = server.answered()
    told = rollout(server, agent, tmp_path)
    asked = server.answered() - before
    assert (told["status"], told["episodes"]) == ("done", 2)
    store = Store(tmp_path)
    calls = store.query("select count(*), min(prompt_tokens), sum(completion_tokens), count(error) from model_calls")
    ((count, least, written, errors),) = calls.rows
    assert (count, errors) == (asked, 0)
    assert least > 0
    assert written >= asked
    for outcome, turns, error in store.query("select outcome, turns, error from episodes").rows:
        if outcome == "user_fault":
            assert "answers without words" in error
        else:
            assert (outcome, turns, error) == ("turn_limit", 2, None)
    assert store.query("select distinct role from model_calls order by role").rows == [("agent",), ("user",)]

    before = server.answered()
    resumed = simkit("resume", "last", "--store", tmp_path)
    assert resumed["run_id"] == told["run_id"]
    replayed = rollout(server, agent, tmp_path, "--replay", told["run_id"])
    assert replayed["run_id"] != told["run_id"]
    assert found(tmp_path, replayed["run_id"]) == found(tmp_path, told["run_id"])
    assert server.answered() == before


def test_a_killed_search_goes_on_and_equals_one_that_was_not(server: TransformersServer, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    search = ("run", "josh", "--agent", "function_calling", "--user", "goal", *server.flags)
    size = (*SIZE, "--tasks", "1", "--beam", "2")
    start = server.answered()
    uninterrupted = simkit(*search, *size, "--store", whole)
    needed = server.answered() - start
    with open(os.devnull, "r+b") as nothing:
        process = start_forked(command(*search, *size, "--store", killed), [nothing.fileno()] * 3)
    server.wait_answered(start + needed + needed // 2)
    process.kill()
    process.join()
    resumed = simkit("resume", "last", "--store", killed)
    assert server.answered() - start <= 2 * needed + 1  # one answer may have been on its way
    assert found(killed, resumed["run_id"]) == found(whole, uninterrupted["run_id"])
