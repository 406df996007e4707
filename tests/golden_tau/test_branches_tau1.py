"""Branches of tau-bench's worlds: whatever is called and forked, a branch is as if its calls had been made alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tau_recordings import raw_data, read_recordings

from simkit.tools.tau import airline1, retail1
from simkit.tools.tau.call import run_call
from simkit.tools.tau.rows import Base, Rows, copied

TOOLSETS = {"retail": retail1.TOOLS, "airline": airline1.TOOLS}


@cache
def base_of(domain: str) -> Base:
    return raw_data().base(domain, "head")


@cache
def calls_of(domain: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls of the gold actions, and those of the recorded sequences, hostile ones among them."""
    lines = [line for name in ("tau1_gold", "tau1_calls") for line in read_recordings(f"{name}.jsonl.gz")]
    found = [call for line in lines if line["domain"] == domain for call in line["calls"]]
    return [(call["name"], call["args"]) for call in found if isinstance(call["args"], dict)][::7]


def called(domain: str, rows: Rows, number: int) -> tuple[str, Rows]:
    calls = calls_of(domain)
    name, arguments = calls[number % len(calls)]
    result = run_call(TOOLSETS[domain], rows, name, copied(arguments))
    return result.text, result.rows


STEPS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 10_000), st.booleans()), min_size=1, max_size=30)


@pytest.mark.parametrize("domain", TOOLSETS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_branch_equals_its_own_calls_made_alone(domain: str, steps: list[tuple[int, int, bool]]) -> None:
    """Each step makes a call in one of the branches, which it replaces, or from which it forks a new one."""
    base = base_of(domain)
    branches: list[tuple[tuple[int, ...], tuple[str, ...], Rows]] = [((), (), Rows(base))]
    for chosen, number, forks in steps:
        place = chosen % len(branches)
        path, texts, rows = branches[place]
        text, after = called(domain, rows, number)
        grown = ((*path, number), (*texts, text), after)
        branches = [*branches, grown] if forks else [*branches[:place], grown, *branches[place + 1 :]]
    for path, texts, rows in branches:
        alone, heard = Rows(base), list[str]()
        for number in path:
            text, alone = called(domain, alone, number)
            heard.append(text)
        assert (tuple(heard), alone.digest(), alone.digest(exact=False)) == (
            texts,
            rows.digest(),
            rows.digest(exact=False),
        )


@pytest.mark.parametrize("domain", TOOLSETS)
def test_the_shared_tables_never_change(domain: str) -> None:
    base = base_of(domain)
    before, rows = base.whole_digest(), Rows(base)
    for number in range(400):
        _, rows = called(domain, rows, number)
    assert base.whole_digest() == before
