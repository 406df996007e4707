"""Every recorded call of tau2-bench, of both sides: text, error flag, the rows that change, and the state after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tau2_recordings import masked, tables, tasks
from tau_deltas import exact, expect_one_to_one, patched
from tau_recordings import Recording, read_recordings

from simkit.core.messages import ToolSpec
from simkit.tools.tau.call import Called
from simkit.tools.tau.rows import HIDDEN_TABLES, USER_TABLES, Base, Rows, Side, copied
from simkit.tools.tau2.call import Environment, run_call
from simkit.tools.tau2.domains import FIXED, PAPER
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.start import start_rows, state_digest

FILES = ("tau2_calls", "tau2_gold")
States = set[tuple[str, str]]


@pytest.mark.parametrize("domain", PAPER)
def test_every_call_is_the_release_s(domain: DomainName) -> None:
    recorded = [line for name in FILES for line in read_recordings(f"{name}.jsonl.gz") if line["domain"] == domain]
    base = Base(tables(domain))
    untouched = base.whole_digest()
    states: States = set()
    wrong = [difference for sequence in recorded for difference in _differences(domain, base, sequence, states)]
    assert recorded, f"no recording of {domain}"
    assert not wrong, f"{len(wrong)} calls differ; the first of them:\n" + "\n".join(wrong[:5])
    assert base.whole_digest() == untouched
    expect_one_to_one(states)


def _differences(domain: DomainName, base: Base, sequence: Recording, states: States) -> Iterator[str]:
    environment, place = PAPER[domain], f"{sequence.get('seq', '')} of {sequence['task']}"
    state = None if sequence["task"] is None else tasks(domain)[sequence["task"]].get("initial_state")
    rows = start_rows(domain, environment, Rows(base), state, place)
    _note(states, sequence.get("start_hash"), rows)
    for number, recorded in enumerate(sequence["calls"]):
        called = _run(environment, rows, recorded)
        what = _difference(recorded, rows, called)
        if what:
            yield f"call {number} of {place}, {recorded['name']}: {what}"
        _note(states, recorded.get("hash"), called.rows)
        rows = called.rows
    _note(states, sequence.get("end_hash"), rows)


def _run(environment: Environment, rows: Rows, recorded: Recording) -> Called:
    side: Side = "user" if recorded.get("requestor") == "user" else "agent"
    return run_call(environment, rows, recorded["name"], copied(recorded["args"]), side)


def _note(states: States, release: Any, rows: Rows) -> None:
    """Note a state of both sides under the release's hashes."""
    if release is not None:
        states.add((" ".join(filter(None, release)), state_digest(rows)))


def _difference(recorded: Recording, before: Rows, called: Called) -> str:
    if masked(called.text) != masked(recorded["return"]):
        return f"{called.text!r}, not {recorded['return']!r}"
    if called.error is not recorded.get("error", False):
        return f"error is {called.error} for {called.text!r}"
    changed = {
        (write.table, write.id): write.row for write in called.writes if not write.table.startswith(HIDDEN_TABLES)
    }
    wanted = {key: patched(before.get(*key), changes) for key, changes in _delta(recorded, before.base) if changes}
    if exact(changed) != exact(wanted):
        return f"wrote {changed}, not {wanted}"
    return ""


def _delta(recorded: Recording, base: Base) -> Iterator[tuple[tuple[str, str], Any]]:
    """The recorded changes, without those that tools made through the user's side to the agent's tables (quirk 29)."""
    for (side, name, id), changes in recorded.get("delta", []):
        table = f"{USER_TABLES}{name}" if side == "user" else name
        if table in base.tables:
            yield (table, id), changes


@pytest.mark.parametrize("domain", FIXED)
def test_repaired_tools_take_all_gold_calls(domain: DomainName) -> None:
    schemas = read_recordings("tau2_schemas.json.gz")[0][domain]
    specs = [ToolSpec.model_validate(tool) for tool in [*schemas["assistant"], *(schemas["user"] or ())]]
    repaired = FIXED[domain].checked(specs)
    base, wrong = Base(tables(domain)), list[str]()
    for line in read_recordings("tau2_gold.jsonl.gz"):
        if line["domain"] != domain:
            continue
        rows = start_rows(domain, repaired, Rows(base), tasks(domain)[line["task"]].get("initial_state"), line["task"])
        for recorded in line["calls"]:
            called = _run(repaired, rows, recorded)
            rows = called.rows
            if called.error is not recorded.get("error", False):
                wrong.append(f"{line['task']} {recorded['name']}: {called.text}")
    assert not wrong, f"{len(wrong)} calls differ; the first of them:\n" + "\n".join(wrong[:5])
