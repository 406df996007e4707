"""Whole conversations of tau-bench: gold calls and due texts get the recorded reward; trees harvest golden paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tau_recordings import Recording, read_recordings
from tau_worlds import RELEASES, WORLDS

from simkit import Run
from simkit.components.world import World
from simkit.core.limits import Limits
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from support.tau_players import GoldAgent, Patient, played

FILES = {"head": "tau1_gold.jsonl.gz", "paper": "tau1_paper_gold.jsonl.gz"}
TREES = 3


def of_domain(release: str, domain: str) -> list[Recording]:
    return [line for line in read_recordings(FILES[release]) if line["domain"] == domain]


@pytest.mark.parametrize("release", FILES)
@pytest.mark.parametrize("domain", WORLDS)
def test_gold_calls_and_due_texts_get_the_recorded_reward(domain: str, release: str, tau1_cache: Path) -> None:
    recorded, world = of_domain(release, domain), WORLDS[domain](RELEASES[release], tau1_cache)
    assert recorded
    wrong = anyio.run(_wrong_rewards, world, recorded)
    assert not wrong, f"{len(wrong)} rewards differ; the first of them: {wrong[:5]}"


async def _wrong_rewards(world: World, recorded: Sequence[Recording]) -> list[str]:
    wrong: list[str] = []
    for line in recorded:
        task = world.tasks(str(line["split"]))[int(line["index"])]
        gold = line["rewards"]["gold"]
        user = Patient(len(gold["say"]) - 1)
        episode = await played(world, task, Rollout(), GoldAgent(task, say=gold["say"]), user=user)
        if episode.reward != gold["reward"]:
            wrong.append(f"{task.id}: {episode.outcome}, {episode.reward}, not {gold['reward']}")
        measures = {part["name"]: part["value"] for part in episode.parts if part["name"].endswith("_made")}
        if set(measures.values()) - {1.0}:
            wrong.append(f"{task.id}: {measures}")
    return wrong


@pytest.mark.parametrize("domain", WORLDS)
def test_trees_harvest_golden_paths_although_the_agent_errs(domain: str, tau1_cache: Path, tmp_path: Path) -> None:
    world = WORLDS[domain](RELEASES["head"], tau1_cache)
    acting = [line for line in of_domain("head", domain) if _is_plain(line)][:TREES]
    assert acting
    found = anyio.run(_harvest, world, acting, tmp_path)
    assert found == [("goals_done", 1.0, True)] * len(acting)


def _is_plain(line: Recording) -> bool:
    """Whether the gold calls of a task are made, succeed, and are rewarded."""
    calls = line["calls"]
    return bool(calls) and line["rewards"]["gold"]["reward"] == 1 and not any(_stops(call) for call in calls)


def _stops(call: Recording) -> bool:
    return str(call["return"]).startswith("Error") or call["name"] == "transfer_to_human_agents"


async def _harvest(world: World, recorded: Sequence[Recording], store: Path) -> list[tuple[str, float | None, bool]]:
    """Outcome and reward of trees with a beam of 8, and whether each gives an example that holds all gold calls."""
    found: list[tuple[str, float | None, bool]] = []
    async with Run(store=store, seed=5) as run:
        for line in recorded:
            task = world.tasks(str(line["split"]))[int(line["index"])]
            agent = GoldAgent(task, say=line["rewards"]["gold"]["say"], errs=True)
            search = Josh(BeamSearch(beam=8), Limits(turns=30))
            (episode,) = await run.play(search, run.cast(world, agent=agent, user=Patient(40)), [task])
            calls = "SELECT count(*) FROM golden_messages WHERE task_id = ? AND author = 'tool'"
            ((results,),) = (await run.query(calls, task.id)).rows
            found.append((episode.outcome, episode.reward, results >= len(task.goals)))
    return found
