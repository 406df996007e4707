"""Rewards of tau2-bench: every recorded trajectory of every task is judged as the release judges it, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from tau2_worlds import WORLDS, build_cache
from tau_recordings import Recording, read_recordings

from simkit.components.tools import CallTool, StartTools
from simkit.components.world import EndPart, Expected
from simkit.core.messages import ToolCall
from simkit.core.records import CallRecord
from simkit.core.tasks import Task
from simkit.rewards.due_texts import is_said
from simkit.tools.tau.rows import Rows, Side
from simkit.tools.tau2.expectation import PARTS
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.world import Tau2Domain


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache, built from the raw data."""
    return build_cache(tmp_path_factory.mktemp("tau2"))


@pytest.mark.parametrize("domain", WORLDS)
def test_every_trajectory_is_judged_as_by_the_release(domain: DomainName, cache: Path) -> None:
    recorded = [line for line in read_recordings("tau2_gold.jsonl.gz") if line["domain"] == domain]
    world = WORLDS[domain](cache=cache)
    assert recorded, f"no recording of {domain}"
    wrong = anyio.run(_all_differences, world, recorded)
    assert not wrong, f"{len(wrong)} verdicts differ; the first of them:\n" + "\n".join(wrong[:5])


async def _all_differences(world: Tau2Domain, recorded: Sequence[Recording]) -> list[str]:
    tasks = {task.id: task for split in world.splits for task in world.tasks(split)}
    wrong: list[str] = []
    for line in recorded:
        task = tasks[line["task"]]
        assert all(task.id in {each.id for each in world.tasks(split)} for split in line["splits"])
        for variant, judged in line["rewards"].items():
            played = await _play(world, task, judged.get("calls", _gold(line)))
            said = [*_spoken_before(task), *judged["say"]]
            verdict = _Verdict(world, task, played, said, agreed=variant != "judge_false")
            wrong += [f"{task.id}/{variant}: {what}" for what in verdict.differences(judged)]
    return wrong


def _gold(line: Recording) -> list[tuple[str, Any, str]]:
    return [(call["name"], call["args"], call.get("requestor", "assistant")) for call in line["calls"]]


def _spoken_before(task: Task) -> list[str]:
    history = task.data.get("initial_state", {}).get("message_history") or ()
    return [message["content"] for message in history if message["role"] == "assistant" and message.get("content")]


@dataclass(frozen=True)
class _Played:
    state: Rows
    calls: tuple[CallRecord, ...]


async def _play(world: Tau2Domain, task: Task, calls: Sequence[tuple[str, Any, str]]) -> _Played:
    server = world.tools()
    start = server.start(StartTools(task))
    state, made = start.state, list[CallRecord]()
    for number, (name, arguments, requestor) in enumerate(calls):
        call, by = ToolCall.of(f"c{number}", name, arguments), _side(requestor)
        reply = await server.call(CallTool(task, call, state, by))
        state = reply.state
        made.append(CallRecord.of(call, reply.result, number, by=by))
    return _Played(state, tuple(made))


def _side(requestor: str) -> Side:
    return "user" if requestor == "user" else "agent"


@dataclass(frozen=True)
class _Verdict:
    """The parts of a good end, as the world judges them."""

    world: Tau2Domain
    task: Task
    played: _Played
    said: list[str]
    agreed: bool

    def differences(self, judged: Recording) -> Iterator[str]:
        """What differs from the release's verdict."""
        expected = self.world.expected(self.task)
        parts = {name: self._part(part, expected) for name, part in PARTS.items()}
        found = self.lists(expected)
        for name, recorded in found.items():
            if name in judged and recorded != judged[name]:
                yield f"{name}: {recorded}, not {judged[name]}"
        if "db_match" in judged and parts["DB"] != judged["db_match"]:
            yield f"state: {parts['DB']}"
        breakdown: Recording = judged["breakdown"] or {}
        for name, value in breakdown.items():
            if parts[name] != bool(value):
                yield f"{name}: {parts[name]}, not {value}"
        if judged["basis"] is not None and "note" not in judged:
            basis = [part for part in judged["basis"] if part in breakdown]
            reward = float(all(parts[name] for name in basis))
            if reward != judged["reward"]:
                yield f"reward {reward}, not {judged['reward']}"

    def lists(self, expected: Expected) -> dict[str, list[bool]]:
        """The verdicts on single criteria."""
        state, calls = self.played.state, self.played.calls
        return {
            "env_assertions": [self.world.holds(check, state) for check in expected.checks],
            "actions": [any(self.world.matches(due, call) for call in calls) for due in expected.actions],
            "communicate": [any(is_said(reply, due, "substring") for reply in self.said) for due in expected.said],
            "nl": [self.agreed] * len(expected.judged),
        }

    def _part(self, part: EndPart, expected: Expected) -> bool:
        found = self.lists(expected)
        match part:
            case "state":
                return self.world.digest(self.played.state) == expected.digest
            case "checks":
                return all(found["env_assertions"])
            case "said":
                return all(found["communicate"])
            case "actions":
                return all(found["actions"])
            case "judged":
                return all(found["nl"])
