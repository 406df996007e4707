"""Rewards of tau-bench: every recorded trajectory of every task gets the release's reward, in both releases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from tau_recordings import Recording, read_recordings
from tau_worlds import RELEASES, WORLDS

from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.components.tools import CallTool, StartTools
from simkit.components.world import World
from simkit.core.conversation import Conversation, Entry
from simkit.core.messages import ToolCall
from simkit.core.tasks import Task
from simkit.rewards.end_measures import floor
from simkit.rewards.final_state import FinalState

FILES = {"head": "tau1_gold.jsonl.gz", "paper": "tau1_paper_gold.jsonl.gz"}


@pytest.mark.parametrize("release", FILES)
@pytest.mark.parametrize("domain", WORLDS)
def test_every_trajectory_gets_the_release_s_reward(domain: str, release: str, tau1_cache: Path) -> None:
    recorded = [line for line in read_recordings(FILES[release]) if line["domain"] == domain]
    world = WORLDS[domain](RELEASES[release], tau1_cache)
    assert recorded, f"no recording of {domain}"
    wrong = anyio.run(_all_differences, world, recorded)
    assert not wrong, f"{len(wrong)} rewards differ; the first of them:\n" + "\n".join(wrong[:5])


@pytest.mark.parametrize("release", FILES)
@pytest.mark.parametrize("domain", WORLDS)
def test_the_floor_is_what_doing_nothing_gets_in_the_release(domain: str, release: str, tau1_cache: Path) -> None:
    recorded = [line for line in read_recordings(FILES[release]) if line["domain"] == domain]
    world = WORLDS[domain](RELEASES[release], tau1_cache)
    floors = {split: floor(world, split) for split in world.splits}
    idle = [line for line in recorded if "nothing" in line["rewards"]]
    wrong = [
        f"{line['split']}-{line['index']}"
        for line in idle
        if floors[str(line["split"])][int(line["index"])] != _idle_reward(line)
    ]
    assert idle
    assert not wrong


def _idle_reward(line: Recording) -> float:
    """What the release gives to an agent that neither acts nor speaks; the recorded variant says what is due."""
    return 0.0 if line["outputs"] else float(line["rewards"]["nothing"]["reward"])


@pytest.mark.parametrize("release", FILES)
@pytest.mark.parametrize("domain", WORLDS)
def test_the_repaired_variant_rewards_gold_and_no_embedded_output(domain: str, release: str, tau1_cache: Path) -> None:
    recorded = [line for line in read_recordings(FILES[release]) if line["domain"] == domain]
    world = WORLDS[domain](RELEASES[release], tau1_cache, "fixed")
    wrong = anyio.run(_wrong_in_fixed, world, recorded)
    assert not wrong, f"{len(wrong)} rewards are wrong; the first of them:\n" + "\n".join(wrong[:5])


async def _wrong_in_fixed(world: World, recorded: Sequence[Recording]) -> list[str]:
    wrong: list[str] = []
    for line in recorded:
        task = world.tasks(str(line["split"]))[int(line["index"])]
        gold = [[call["name"], call["args"]] for call in line["calls"]]
        for variant, due in {"gold": 1.0, "outputs_embedded": 0.0}.items():
            if variant in line["rewards"]:
                expected = line["rewards"][variant]
                scored = await _score(world, task, expected.get("calls", gold), expected["say"], done=True)
                if scored.value != due:
                    wrong.append(f"{task.id}/{variant}: {scored}")
    return wrong


async def _all_differences(world: World, recorded: Sequence[Recording]) -> list[str]:
    return [difference for line in recorded for difference in await _differences(world, line)]


async def _differences(world: World, line: Recording) -> list[str]:
    wrong: list[str] = []
    split: str = line["split"]
    task = world.tasks(split)[int(line["index"])]
    assert [goal.detail["tool"] for goal in task.goals] == [call["name"] for call in line["calls"]]
    assert task.data["outputs"] == line["outputs"]
    gold = [[call["name"], call["args"]] for call in line["calls"]]
    for variant, expected in line["rewards"].items():
        scored = await _score(world, task, expected.get("calls", gold), expected["say"], done=expected["done"])
        parts = {part.name: part.value for part in scored.parts}
        place = f"{task.id}/{variant}"
        if scored.value != expected["reward"]:
            wrong.append(f"{place}: {scored}, not {expected['reward']}")
        for text, said in expected["info"].get("outputs", {}).items():
            if parts[f"said:{text}"] != said:
                wrong.append(f"{place}: `{text}` said: {not said}")
        if "r_actions" in expected["info"] and parts["state"] != expected["info"]["r_actions"]:
            wrong.append(f"{place}: state {parts['state']}")
    return wrong


async def _score(
    world: World, task: Task, calls: Sequence[tuple[str, Any]], say: Sequence[str], *, done: bool
) -> EpisodeReward:
    server, numbers, ended = world.tools(), count(), False
    state = server.start(StartTools(task)).state
    for name, arguments in calls:
        reply = await server.call(CallTool(task, ToolCall.of(f"c{next(numbers)}", name, arguments), state))
        state, ended = reply.state, reply.end
        if ended:
            break
    said = Conversation() if ended else Conversation(tuple(_entries(say)))
    outcome = "agent_ended" if ended else "user_ended" if done else "decision_limit"
    return await FinalState(world).score_episode(ScoreEpisode(task, task.goals, (), (), said, state, outcome))


def _entries(say: Sequence[str]) -> Iterator[Entry]:
    for turn, text in enumerate(say, 1):
        yield Entry.agent(text, turn)
        yield Entry.user("hello", turn)
