"""The examples of the arms of benchmarks/smollm2.py: trees, rollouts with as many tokens, and an unfiltered control."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from simkit.core.limits import Limits
from simkit.recipes.best_of_n import BestOfN
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

BENCHMARK = run_path(str(Path(__file__).parents[2] / "benchmarks" / "smollm2.py"))
TASKS = [f"train-{number:05d}" for number in range(24)]
LIMITS = Limits(turns=8)
SEARCHES: Mapping[str, Search] = {
    "josh": Josh(BeamSearch(beam=4), LIMITS),
    "best_of_n": BestOfN(n=4, limits=LIMITS),
    "unfiltered": Rollout(LIMITS),
}


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    for name, search in SEARCHES.items():
        async with Run(store=tmp_path, name=name) as run:
            world = run.world(BENCHMARK["TOWN"])
            cast = run.cast(world, agent="scripted,error_rate=0.3")
            await run.play(search, cast, run.tasks(world, "train", len(TASKS)))
    return tmp_path


def counted(monkeypatch: pytest.MonkeyPatch, store: Path, rollout: int) -> Any:
    """The experiment with given tokens for each task, because the rule-based agent uses none."""
    spent = {"josh": dict.fromkeys(TASKS, 100), "best_of_n": dict.fromkeys(TASKS, rollout)}

    def tokens(_: Any, run: str) -> dict[str, int]:
        return spent[run]

    monkeypatch.setattr(BENCHMARK["Experiment"], "tokens", tokens)
    return BENCHMARK["Experiment"](store)


@pytest.mark.anyio
async def test_the_control_has_one_conversation_for_each_task_of_a_golden_tree_whatever_its_reward(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    experiment = counted(monkeypatch, store, 100)
    golden, control = (experiment.examples(arm) for arm in ("josh", "control"))
    assert [example.task_id for example in control] == sorted({example.task_id for example in golden})
    assert len(control) == len(golden)
    rewards: dict[str, float] = dict(
        experiment.rows("select task_id, reward from episode_facts where name = 'unfiltered'")
    )
    kept = [rewards[example.task_id] for example in control]
    assert min(kept) < 1 <= max(kept), "good and bad ones"


@pytest.mark.anyio
async def test_rollouts_are_taken_until_they_cost_as_many_tokens_as_the_trees(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    assert counted(monkeypatch, store, 100).within_budget("best_of_n") == TASKS
    assert counted(monkeypatch, store, 50).within_budget("best_of_n") == TASKS
    experiment = counted(monkeypatch, store, 201)
    assert experiment.within_budget("best_of_n") == TASKS[:11]
    assert {example.task_id for example in experiment.examples("best_of_n")} <= set(TASKS[:11])


@pytest.mark.anyio
async def test_rollouts_give_at_most_as_many_examples_as_the_trees_one_of_a_task(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    experiment = counted(monkeypatch, store, 100)
    trees, rollouts = (experiment.examples(arm) for arm in ("josh", "best_of_n"))
    for found in (trees, rollouts):
        assert len(found.task_ids) == len(found)
    assert 0 < len(rollouts) <= len(trees)
