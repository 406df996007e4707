"""Schemas, policies and prompts of tau-bench: what agents and users get is the release's, character for character."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tau_recordings import raw_data, read_recordings
from tau_worlds import RELEASES, WORLDS, recorded_prompts

from simkit.agents.function_calling import FunctionCallingAgent
from simkit.agents.tau_react import TauReactAgent
from simkit.components.agent import StartAgent
from simkit.components.tools import StartTools
from simkit.components.world import World
from simkit.models import ScriptedModel
from simkit.users.tau import TauUser

MODEL = ScriptedModel.by_turn(())


def opened(world: World) -> StartAgent:
    start = world.tools().start(StartTools(world.tasks("test")[0]))
    return StartAgent(start.specs, start.policy)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("domain", WORLDS)
def test_agents_get_the_release_s_tools_and_policy(domain: str, release: str, tau1_cache: Path) -> None:
    (schemas,) = read_recordings("tau1_schemas.json.gz")
    recorded: list[dict[str, Any]] = schemas[release][domain]["tools"]
    policy = raw_data().files[f"tau_bench/envs/{domain}/wiki.md"].decode()
    start = opened(WORLDS[domain](RELEASES[release], tau1_cache))
    assert [tool.to_openai() for tool in start.tools] == recorded
    calling = FunctionCallingAgent(MODEL, prompt="world", world=WORLDS[domain](RELEASES[release], tau1_cache))
    assert calling.start(start).system == policy == start.policy


@pytest.mark.parametrize("strategy", ["react", "act"])
@pytest.mark.parametrize("domain", WORLDS)
def test_the_text_agents_get_the_release_s_system_prompt(domain: str, strategy: Any, tau1_cache: Path) -> None:
    (schemas,), (prompts,) = read_recordings("tau1_schemas.json.gz"), read_recordings("tau1_prompts.json.gz")
    world = WORLDS[domain]("2025", tau1_cache)
    start, tools = opened(world), json.dumps(schemas["head"][domain]["tools"])
    expected = f"{start.policy}\n#Available tools\n{tools}{prompts[f'{strategy}_instruction']}"
    assert TauReactAgent(MODEL, world, strategy).start(start).system == expected


def test_users_get_the_release_s_prompts(tau1_cache: Path) -> None:
    user = TauUser(MODEL, WORLDS["retail"]("2025", tau1_cache))
    for name, text in recorded_prompts().items():
        if name.startswith("user"):
            assert (user.prompt(name).text, user.prompt(name).exact) == (text, True)
