"""Telecom of tau2-bench after gold calls: the tasks' checks, and an agent that has the tools of both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from tau2_recordings import masked, tables, tasks
from tau_deltas import expect_one_to_one
from tau_recordings import Recording, read_recordings

from simkit.tools.tau.rows import Base, Draft, Rows, Side, copied
from simkit.tools.tau2.call import Environment, run_call
from simkit.tools.tau2.domains import PAPER
from simkit.tools.tau2.start import run_function, start_rows, state_digest

BOTH = PAPER["telecom"]
SOLO = replace(BOTH, solo=True)


@cache
def base() -> Base:
    return Base(tables("telecom"))


def gold() -> Iterator[Recording]:
    return (line for line in read_recordings("tau2_gold.jsonl.gz") if line["domain"] == "telecom")


def start(recording: Recording) -> Rows:
    task = tasks("telecom")[recording["task"]]
    return start_rows("telecom", BOTH, Rows(base()), task["initial_state"], task["id"])


def played(environment: Environment, rows: Rows, calls: Sequence[Recording]) -> tuple[Rows, list[str]]:
    """The rows after calls, and their texts."""
    texts: list[str] = []
    for call in calls:
        side: Side = "user" if call.get("requestor") == "user" and not environment.solo else "agent"
        called = run_call(environment, rows, call["name"], copied(call["args"]), side)
        rows = called.rows
        texts.append(masked(called.text))
    return rows, texts


def checked(rows: Rows, checks: Sequence[Any]) -> list[bool]:
    """Whether each check of a task holds."""
    draft = Draft(rows)
    return [run_function(BOTH, draft, check) is check["assert_value"] for check in checks]


def test_checks_of_every_task_hold_or_fail_after_gold_as_in_the_release() -> None:
    wrong: list[str] = []
    verdicts: set[bool] = set()
    for recording in gold():
        rows, _ = played(BOTH, start(recording), recording["calls"])
        checks: list[Any] = tasks("telecom")[recording["task"]]["evaluation_criteria"]["env_assertions"] or []
        found = checked(rows, checks)
        verdicts |= {*found, *checked(start(recording), checks)}
        if found != recording["assertions_after_gold"]:
            wrong.append(f"{recording['task']}: {found}, not {recording['assertions_after_gold']}")
    assert wrong == []
    assert verdicts == {True, False}


def test_an_agent_with_both_sides_tools_comes_to_the_recorded_states() -> None:
    states: set[tuple[str, str]] = set()
    for recording in gold():
        if "solo" in recording:
            before = start(recording)
            rows, texts = played(SOLO, before, recording["calls"])
            assert (played(BOTH, before, recording["calls"])[1] == texts) is recording["solo"]["same_returns"]
            states.add((" ".join(recording["solo"]["hash"]), state_digest(rows)))
    assert states
    expect_one_to_one(states)
