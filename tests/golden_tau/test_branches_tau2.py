"""Branches of tau2-bench do not see each other: interleaved and forked, calls do what they do alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tau2_recordings import tables, tasks
from tau_recordings import Recording, read_recordings

from simkit.tools.tau.rows import Base, Rows, Side, copied
from simkit.tools.tau2.call import run_call
from simkit.tools.tau2.domains import PAPER
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.start import start_rows, state_digest

MOST = 30


@pytest.mark.parametrize("domain", PAPER)
def test_interleaved_and_forked_branches_equal_straight_play(domain: DomainName) -> None:
    recorded = [line for line in read_recordings("tau2_calls.jsonl.gz") if line["domain"] == domain][:MOST]
    base = Base(tables(domain))
    untouched = base.whole_digest()
    starts = [_start(domain, base, line) for line in recorded]
    alone = [_play(domain, start, line["calls"]) for start, line in zip(starts, recorded, strict=True)]
    branches, forks = list(starts), dict[int, Rows]()
    for number in range(max(len(line["calls"]) for line in recorded)):
        for place, line in enumerate(recorded):
            if number == len(line["calls"]) // 2:
                forks[place] = branches[place]
            branches[place] = _play(domain, branches[place], line["calls"][number : number + 1])
    assert list(map(state_digest, branches)) == list(map(state_digest, alone))
    for place, fork in forks.items():
        rest = recorded[place]["calls"][len(recorded[place]["calls"]) // 2 :]
        assert state_digest(_play(domain, fork, rest)) == state_digest(alone[place])
    assert base.whole_digest() == untouched


def _start(domain: DomainName, base: Base, line: Recording) -> Rows:
    state = None if line["task"] is None else tasks(domain)[line["task"]].get("initial_state")
    return start_rows(domain, PAPER[domain], Rows(base), state, str(line["task"]))


def _play(domain: DomainName, rows: Rows, calls: Sequence[Recording]) -> Rows:
    for call in calls:
        side: Side = "user" if call.get("requestor") == "user" else "agent"
        rows = run_call(PAPER[domain], rows, call["name"], copied(call["args"]), side).rows
    return rows
