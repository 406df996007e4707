"""Every recorded call of tau-bench: the text that the agent reads, the rows that change, and the state after it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from tau_deltas import exact, expect_one_to_one, patched
from tau_recordings import Recording, raw_data, read_recordings, read_schemas

from simkit.tools.tau import airline1, fixed1, retail1
from simkit.tools.tau.call import Called, Toolset, run_call
from simkit.tools.tau.rows import Base, Rows, copied

TOOLSETS = {"retail": retail1.TOOLS, "airline": airline1.TOOLS}
FILES = {"head": ("tau1_calls", "tau1_gold"), "paper": ("tau1_paper_gold",)}


@pytest.mark.parametrize("release", FILES)
@pytest.mark.parametrize("domain", TOOLSETS)
def test_every_call_is_the_release_s(domain: str, release: str) -> None:
    recorded = [line for name in FILES[release] for line in read_recordings(f"{name}.jsonl.gz")]
    sequences = [line for line in recorded if line["domain"] == domain]
    base = raw_data().base(domain, release)
    untouched = base.whole_digest()
    states: set[tuple[str, str]] = set()
    wrong = [
        difference for sequence in sequences for difference in _differences(TOOLSETS[domain], base, sequence, states)
    ]
    assert sequences, f"no recording of {domain}"
    assert not wrong, f"{len(wrong)} calls differ; the first of them:\n" + "\n".join(wrong[:5])
    assert base.whole_digest() == untouched
    expect_one_to_one(states)


def _differences(toolset: Toolset, base: Base, sequence: Recording, states: set[tuple[str, str]]) -> Iterator[str]:
    rows = Rows(base)
    if "base_hash" in sequence:
        states.add((sequence["base_hash"], rows.digest()))
    for number, recorded in enumerate(sequence["calls"]):
        called = run_call(toolset, rows, recorded["name"], json.loads(json.dumps(recorded["args"])))
        what = _difference(recorded, rows, called)
        if what:
            yield f"{sequence.get('seq', sequence.get('index'))}/{number} {recorded['name']}: {what}"
        if "hash" in recorded:
            states.add((recorded["hash"], called.rows.digest()))
        rows = called.rows


def _difference(recorded: Recording, before: Rows, called: Called) -> str:
    expected = recorded["return"]
    if expected is None:  # the release's run dies here
        return "" if called.error and not called.writes else f"no error, but {called.text}"
    if called.text != expected:
        return f"{called.text!r}, not {expected!r}"
    if called.error is not expected.startswith("Error"):
        return f"error is {called.error} for {called.text!r}"
    if called.ended is not (recorded["name"] == "transfer_to_human_agents"):
        return f"ended is {called.ended}"
    changed = {(write.table, write.id): write.row for write in called.writes}
    wanted = {
        (table, id): patched(before.get(table, id), changes)
        for (table, id), changes in recorded.get("delta", [])
        if changes  # none: the row was written as it was
    }
    if exact(changed) != exact(wanted):
        return f"wrote {changed}, not {wanted}"
    return "" if recorded.get("delta") or called.rows is before else "a read made another state"


@pytest.mark.parametrize("release", FILES)
@pytest.mark.parametrize("domain", TOOLSETS)
def test_repaired_tools_take_all_gold_calls_and_change_the_cabin_only(domain: str, release: str) -> None:
    base, specs = raw_data().base(domain, release), read_schemas(release, domain)
    repaired = {"retail": fixed1.RETAIL, "airline": fixed1.AIRLINE}[domain].checked(specs)
    for line in read_recordings(f"{FILES[release][-1]}.jsonl.gz"):
        rows = Rows(base)
        for recorded in line["calls"] if line["domain"] == domain else ():
            called = run_call(repaired, rows, recorded["name"], copied(recorded["args"]))
            rows = called.rows
            assert called.error is recorded["return"].startswith("Error"), called.text
            assert called.error or _but_cabin(called.text) == _but_cabin(recorded["return"])


def _but_cabin(text: str) -> str:
    return re.sub('"cabin": "[a-z_]+"', "", text)
