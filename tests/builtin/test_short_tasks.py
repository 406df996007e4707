from __future__ import annotations

import re
from pathlib import Path

import pytest

from simkit.components.tools import CallTool, StartTools
from simkit.core.messages import ToolCall
from simkit.errors import UsageError
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.tools.builtin import BuiltinWorld, vocabulary


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("most", [2, 3])
def test_a_bound_on_goals_is_kept_in_every_split(split: str, most: int) -> None:
    goals = [len(task.goals) for task in BuiltinWorld(most_goals=most).tasks(split)[:60]]
    assert max(goals) == most
    assert min(goals) == 2


def test_without_a_bound_tasks_are_as_they_were() -> None:
    usual, bounded = BuiltinWorld().tasks("test")[:40], BuiltinWorld(most_goals=6).tasks("test")[:40]
    assert [*usual] == [*bounded]
    assert max(len(task.goals) for task in usual) > 3


@pytest.mark.parametrize("most", [1, 7])
def test_a_bound_that_no_task_keeps_is_refused(most: int) -> None:
    with pytest.raises(UsageError, match="most_goals"):
        BuiltinWorld(most_goals=most)


@pytest.mark.anyio
async def test_a_compact_world_has_the_same_tasks_tools_and_results_in_fewer_words() -> None:
    usual, compact = BuiltinWorld(), BuiltinWorld(compact=True)
    task = usual.tasks("test")[0]
    assert compact.tasks("test")[0] == task
    starts = [world.tools().start(StartTools(task)) for world in (usual, compact)]
    many, few = ({spec.name: spec for spec in start.specs} for start in starts)
    assert {name: list(spec.properties) for name, spec in many.items()} == {
        name: list(spec.properties) for name, spec in few.items()
    }
    sizes = [sum(len(spec.model_dump_json()) for spec in each.values()) for each in (many, few)]
    assert sizes[1] < 0.9 * sizes[0]
    assert len(starts[1].policy) < len(starts[0].policy)
    call = ToolCall.of("c", "search_hotel", {"area": "harbour"})
    found = [await world.tools().call(CallTool(task, call, starts[0].state)) for world in (usual, compact)]
    assert found[0] == found[1]
    missing = ToolCall.of("c", "book_train", {"people": "2"})
    refused = await compact.tools().call(CallTool(task, missing, starts[1].state))
    assert refused.result.value == {"error": "book_train needs `trainID`"}


def test_schemas_of_a_compact_world_allow_what_the_world_accepts_and_nothing_else() -> None:
    """Constrained decoding holds a small model to these schemas."""
    specs = BuiltinWorld(compact=True).tools().start(StartTools(BuiltinWorld().tasks("test")[0])).specs
    tools = {spec.name: spec.properties for spec in specs}
    for properties in tools.values():
        for name, schema in properties.items():
            assert ("enum" in schema) == (name not in ("name", "trainID", "reference", "time", "leaveAt", "arriveBy"))
    assert tools["search_train"]["day"]["enum"] == list(vocabulary.DAYS)
    assert "alderhaven" in tools["search_train"]["destination"]["enum"]
    assert tools["search_hotel"]["type"]["enum"] != tools["search_attraction"]["type"]["enum"]
    pattern = tools["book_restaurant"]["time"]["pattern"]
    found = [bool(re.search(pattern, text)) for text in ("13:30", "24:00", "HH:MM", "9:00")]
    assert found == [True, False, False, False]


def test_a_town_without_trains_has_neither_tasks_nor_tools_nor_words_for_them() -> None:
    world = BuiltinWorld(most_goals=2, domains="hotel+restaurant+attraction")
    tasks = world.tasks("test")[:80]
    assert {wish.domain for task in tasks for wish in task.agenda} == {"restaurant", "hotel", "attraction"}
    specs = world.tools().start(StartTools(tasks[0])).specs
    assert [spec.name for spec in specs if "train" in spec.name] == []
    assert [domain.name for domain in world.ontology.domains] == ["restaurant", "hotel", "attraction"]
    assert world.town is BuiltinWorld().town


def test_all_domains_by_name_are_the_usual_world() -> None:
    usual, named = BuiltinWorld(), BuiltinWorld(domains="train+attraction+hotel+restaurant")
    assert [*usual.tasks("val")[:40]] == [*named.tasks("val")[:40]]
    assert usual.ontology == named.ontology


@pytest.mark.parametrize("domains", ["restaurant", "hotel", "train", "attraction+train"])
def test_a_few_domains_are_enough(domains: str) -> None:
    tasks = BuiltinWorld(domains=domains).tasks("train")[:40]
    assert {wish.domain for task in tasks for wish in task.agenda} <= {*domains.split("+")}
    assert all(len(task.goals) >= 2 for task in tasks)


@pytest.mark.parametrize(("domains", "said"), [("hotels", "no domain `hotels`"), ("attraction", "alone"), ("+", "``")])
def test_domains_that_give_no_task_are_refused(domains: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BuiltinWorld(domains=domains)


@pytest.mark.anyio
async def test_a_world_without_facts_has_the_same_goals_and_nothing_to_ask_for() -> None:
    usual, bare = BuiltinWorld(), BuiltinWorld(facts=False)
    for full, short in zip(usual.tasks("train")[:40], bare.tasks("train")[:40], strict=True):
        assert (short.id, short.goals) == (full.id, full.goals)
        assert [(wish.inform, wish.book) for wish in short.agenda] == [(wish.inform, wish.book) for wish in full.agenda]
        assert not any(wish.requests for wish in short.agenda)
        assert len(short.instructions or "") <= len(full.instructions or "")
    assert not any(domain.facts for domain in bare.ontology.domains)
    task, call = usual.tasks("train")[0], ToolCall.of("c", "search_attraction", {"area": "harbour"})
    results = [
        await w.tools().call(CallTool(task, call, w.tools().start(StartTools(task)).state)) for w in (usual, bare)
    ]
    full, short = (result.result.value[0] for result in results)
    assert short == {name: full[name] for name in ("name", "type", "area")}


@pytest.mark.anyio
async def test_a_train_without_facts_shows_its_times() -> None:
    bare = BuiltinWorld(facts=False, domains="train")
    task, call = bare.tasks("train")[0], ToolCall.of("c", "search_train", {"day": "monday"})
    tools = bare.tools()
    found = await tools.call(CallTool(task, call, tools.start(StartTools(task)).state))
    assert {*found.result.value[0]} == {"trainID", "departure", "destination", "day", "leaveAt", "arriveBy"}


def test_a_world_without_upkeep_has_only_tools_that_tasks_need() -> None:
    world = BuiltinWorld(domains="restaurant+attraction", upkeep=False)
    specs = world.tools().start(StartTools(world.tasks("test")[0])).specs
    assert [spec.name for spec in specs] == ["search_restaurant", "book_restaurant", "search_attraction"]


@pytest.mark.anyio
async def test_the_rule_based_pair_reaches_all_goals_of_the_smallest_town(tmp_path: Path) -> None:
    world = BuiltinWorld(most_goals=2, domains="restaurant+attraction", compact=True, facts=False, upkeep=False)
    async with Run(store=tmp_path) as run:
        episodes = await run.play(Rollout(), run.cast(world, agent="scripted,error_rate=0"), world.tasks("val")[:20])
    assert [episode.success for episode in episodes] == [True] * 20
