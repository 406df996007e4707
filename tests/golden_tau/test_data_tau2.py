"""tau2-bench's data as the worlds have them: layout of the tables, tools, prompts and policies, as recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tau2_recordings import tables
from tau2_worlds import WORLDS, build_cache, recorded_prompts, recorded_schemas
from tau_recordings import Recording, read_recordings

from simkit.components.tools import StartTools
from simkit.core.messages import ToolSpec
from simkit.core.tasks import Task
from simkit.tools.tau2.domains import PAPER
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.prompts import steps_text
from simkit.tools.tau2.world import Tau2Domain


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache, built from the raw data."""
    return build_cache(tmp_path_factory.mktemp("tau2"))


def test_tables_have_the_order_and_the_defaults_of_the_release() -> None:
    (bases,) = read_recordings("tau2_bases.json.gz")
    for domain in ("retail", "airline", "telecom"):
        for table, rows in bases[domain].items():
            mine: Any = tables(domain)[table]
            assert json.dumps(list(mine.values()) if isinstance(rows, list) else mine) == json.dumps(rows)
    for table, row in bases["telecom_user"].items():
        assert json.dumps(tables("telecom")[f"user.{table}"][""]) == json.dumps(row)


@pytest.mark.parametrize("domain", WORLDS)
def test_tools_are_sent_as_the_release_sends_them(domain: DomainName, cache: Path) -> None:
    recorded = recorded_schemas()[domain]
    start = WORLDS[domain](cache=cache).tools().start(StartTools(_first(WORLDS[domain](cache=cache))))
    assert _sent(start.specs) == json.dumps(recorded["assistant"])
    assert _sent(start.user_specs) == json.dumps(recorded["user"] or [])


@pytest.mark.parametrize("domain", WORLDS)
def test_tools_have_the_kinds_of_the_release(domain: DomainName) -> None:
    kinds = {name: kind for name, (kind, _) in recorded_schemas()[domain]["kinds"].items()}
    found = {name: tool.kind for name in kinds if (tool := PAPER[domain].find(name)) is not None}
    assert found == kinds
    assert all(changes is (kind == "write") for kind, changes in recorded_schemas()[domain]["kinds"].values())


def _first(world: Tau2Domain) -> Task:
    return world.tasks(world.splits[-1])[0]


def _sent(specs: tuple[ToolSpec, ...]) -> str:
    return json.dumps([json.loads(spec.model_dump_json(exclude_unset=True)) for spec in specs])


@pytest.mark.parametrize("mode", ["retail", "airline", "mock", "telecom", "telecom-workflow"])
def test_prompts_are_rendered_as_by_the_release(mode: str, cache: Path) -> None:
    recorded, world = recorded_prompts()[mode], _world(mode, cache, solo=False)
    tasks = {task.id: task for split in world.splits for task in world.tasks(split)}
    start = world.tools().start(StartTools(next(iter(tasks.values()))))
    assert start.policy == recorded["policy"]
    assert world.prompts["agent"].replace("{{policy}}", start.policy) == recorded["agent_system"]
    user = world.prompts["user_tools" if start.user_specs else "user"]
    for id, text in recorded["user_system"].items():
        assert user.replace("{{instruction}}", tasks[id].instructions) == text
    for id, text in recorded["oracle_system"].items():
        assert steps_text(tasks[id].data["actions"]) in text


@pytest.mark.parametrize("mode", ["mock", "telecom", "telecom-workflow"])
def test_an_agent_alone_is_prompted_as_by_the_release(mode: str, cache: Path) -> None:
    recorded, world = recorded_prompts()[f"{mode}/solo"], _world(mode, cache, solo=True)
    tasks = {task.id: task for split in world.splits for task in world.tasks(split)}
    assert recorded["solo_system"]
    for id, text in recorded["solo_system"].items():
        start = world.tools().start(StartTools(tasks[id]))
        assert recorded["policy"] in start.policy
        assert world.prompts["agent"].replace("{{policy}}", start.policy) == text
        assert _names(start.specs) == [tool["function"]["name"] for tool in _solo_tools(mode)]


def _names(specs: tuple[ToolSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


def _solo_tools(mode: str) -> list[Recording]:
    return recorded_schemas()[f"{mode}/solo"]["solo_tools"]


def _world(mode: str, cache: Path, *, solo: bool) -> Tau2Domain:
    domain, _, policy = mode.partition("-")
    kind = next(kind for name, kind in WORLDS.items() if name == domain)
    return kind(cache=cache, solo=solo, policy="workflow" if policy else "manual")
