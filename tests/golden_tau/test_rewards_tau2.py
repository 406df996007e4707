"""Rewards of tau2-bench: every recorded trajectory of every task is judged as the release judges it, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from tau2_worlds import WORLDS, build_cache
from tau_recordings import Recording, read_recordings

from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.tools import CallTool, StartTools
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolCall
from simkit.core.records import CallRecord
from simkit.core.tasks import Task
from simkit.models import ScriptedModel
from simkit.rewards.final_state import FinalState
from simkit.tools.tau.rows import Side
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.world import Tau2Domain

PARTS: Final[Mapping[str, str]] = {
    "DB": "state",
    "ENV_ASSERTION": "check:",
    "COMMUNICATE": "said:",
    "ACTION": "action:",
    "NL_ASSERTION": "judged:",
}
LISTS: Final = {"env_assertions": "check:", "actions": "action:", "communicate": "said:", "nl": "judged:"}
KEY: Final = TurnKey(1, "t", 0, "0", 1)


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
    tasks = {split: {task.id: task for task in world.tasks(split)} for split in world.splits}
    judges = {answer: FinalState(world, judge=_judge(answer)) for answer in ("yes", "no")}
    wrong: list[str] = []
    for line in recorded:
        task, *_ = [tasks[split][line["task"]] for split in line["splits"] or world.splits]
        for variant, judged in line["rewards"].items():
            judge = judges["no" if variant == "judge_false" else "yes"]
            reward = await _score(world, task, judge, judged.get("calls", _gold(line)), judged)
            wrong += [f"{line['task']}/{variant}: {what}" for what in _differences(variant, judged, reward)]
    return wrong


def _judge(answer: str) -> ScriptedModel:
    return ScriptedModel(lambda request, key: answer)


def _gold(line: Recording) -> list[tuple[str, Any, str]]:
    return [(call["name"], call["args"], call.get("requestor", "assistant")) for call in line["calls"]]


async def _score(
    world: Tau2Domain,
    task: Task,
    judge: FinalState,
    calls: Sequence[tuple[str, Any, str]],
    judged: Recording,
) -> EpisodeReward:
    server = world.tools()
    start = server.start(StartTools(task))
    state, made = start.state, list[CallRecord]()
    for number, (name, arguments, requestor) in enumerate(calls):
        call, by = ToolCall.of(f"c{number}", name, arguments), _side(requestor)
        reply = await server.call(CallTool(task, call, state, by))
        state = reply.state
        made.append(CallRecord.of(call, reply.result, number, by=by))
    said = Conversation((*start.opening, *(Entry.agent(text, 1) for text in judged["say"])))
    outcome = "message_limit" if "premature" in str(judged.get("note")) else "user_ended"
    return await judge.score_episode(
        ScoreEpisode(task, task.goals, (), tuple(made), said, state, outcome, start.state, KEY)
    )


def _side(requestor: str) -> Side:
    return "user" if requestor == "user" else "agent"


def _differences(variant: str, judged: Recording, reward: EpisodeReward) -> Iterator[str]:
    """What differs from the release's verdict."""
    found = {name: _values(reward, beginning) for name, beginning in PARTS.items()}
    for name, beginning in LISTS.items():
        if name in judged and _values(reward, beginning) != judged[name]:
            yield f"{name}: {_values(reward, beginning)}, not {judged[name]}"
    if "db_match" in judged and found["DB"] != [judged["db_match"]]:
        yield f"state: {found['DB']}"
    breakdown: Recording = judged["breakdown"] or {}
    for name, value in breakdown.items():
        if all(found[name]) != bool(value):
            yield f"{name}: {found[name]}, not {value}"
    if variant == "ignore_basis":  # the release's reward of other parts than those that decide
        return
    if reward.value != judged["reward"]:
        yield f"reward {reward.value}, not {judged['reward']}"


def _values(reward: EpisodeReward, beginning: str) -> list[bool]:
    return [bool(part.value) for part in reward.parts if part.name.startswith(beginning)]
