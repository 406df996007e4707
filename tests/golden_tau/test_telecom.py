"""Every recorded call of tau2's telecom domain: initial states, texts, rows that change, states, assertions, solo."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from tau_deltas import exact, expect_one_to_one, patched
from tau_recordings import Recording
from telecom_recordings import ENVIRONMENT, base_of_telecom, checks_of, holds, recordings_of_telecom, start_of

from simkit.tools.tau.call import Called
from simkit.tools.tau.rows import Rows, Side, copied
from simkit.tools.tau2.call import Environment, run_call

GOLD, CALLS = "tau2_gold.jsonl.gz", "tau2_calls.jsonl.gz"
SOLO = replace(ENVIRONMENT, solo=True)


class Played:
    """Plays recordings, and collects what differs and which states were seen."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.states: set[tuple[str, str]] = set()

    def play(self, rows: Rows, recording: Recording, environment: Environment = ENVIRONMENT) -> Rows:
        """The rows after the calls of a recording."""
        for number, recorded in enumerate(recording["calls"]):
            called = call(environment, rows, recorded)
            self.wrong += [
                f"{recording['task']}/{number} {recorded['name']}({recorded['args']}): {problem}"
                for problem in problems(recorded, rows, called)
            ]
            rows = called.rows
            if "hash" in recorded:
                self.saw(recorded["hash"], rows)
        return rows

    def saw(self, hashes: list[str], rows: Rows) -> None:
        """Note a state under the release's hashes."""
        sides: tuple[Side, Side] = ("agent", "user")
        self.states |= {(side + hash, side + rows.digest(side=side)) for side, hash in zip(sides, hashes, strict=True)}

    def check(self) -> None:
        """Fail if anything differs from the release."""
        assert not self.wrong, f"{len(self.wrong)} differences; the first of them:\n" + "\n".join(self.wrong[:5])
        expect_one_to_one(self.states)


def call(environment: Environment, rows: Rows, recorded: Recording) -> Called:
    """Make a recorded call."""
    side: Side = "user" if recorded.get("requestor") == "user" and not environment.solo else "agent"
    return run_call(environment, rows, recorded["name"], copied(recorded["args"]), side)


def problems(recorded: Recording, before: Rows, called: Called) -> Iterator[str]:
    """What differs from the recording."""
    if masked(called.text) != masked(recorded["return"]):
        yield f"{called.text!r}, not {recorded['return']!r}"
    if called.error is not recorded.get("error", False):
        yield f"error is {called.error}"
    changed = {(write.table, write.id): write.row for write in called.writes if not write.table.startswith("defaults.")}
    wanted = {
        (f"user.{table}" if side == "user" else table, id): changes
        for (side, table, id), changes in recorded.get("delta", [])
    }
    rows = {key: patched(before.get(*key), changes) for key, changes in wanted.items()}
    if exact(changed) != exact(rows):
        yield f"wrote {changed}, not {rows}"


def masked(text: str) -> str:
    """A text without the version of pydantic, which the release's messages name."""
    return re.sub(r"errors\.pydantic\.dev/[\d.]+", "", text)


def test_calls_after_the_start_of_a_task() -> None:
    played = Played()
    untouched = base_of_telecom().whole_digest()
    recordings = recordings_of_telecom(CALLS)
    for recording in recordings:
        played.saw(recording["end_hash"], played.play(start_of(recording["task"]), recording))
    played.check()
    assert recordings
    assert base_of_telecom().whole_digest() == untouched


def test_starts_and_gold_of_every_task_with_its_assertions() -> None:
    played = Played()
    recordings = recordings_of_telecom(GOLD)
    for recording in recordings:
        rows = start_of(recording["task"])
        played.saw(recording["start_hash"], rows)
        rows = played.play(rows, recording)
        found = [holds(check, rows) for check in checks_of(recording["task"])]
        if found != recording["assertions_after_gold"]:
            played.wrong.append(f"{recording['task']}: assertions are {found}")
    played.check()
    assert recordings


def test_gold_calls_of_an_agent_that_has_both_sides_tools() -> None:
    played = Played()
    for recording in recordings_of_telecom(GOLD):
        if "solo" in recording:
            rows = played.play(start_of(recording["task"]), recording, SOLO)
            played.saw(recording["solo"]["hash"], rows)
            assert recording["solo"]["same_returns"]
            assert recording["solo"]["errors"] == 0
    played.check()
    assert played.states
