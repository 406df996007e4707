"""Runs whose reward is a judge: journaled, resumed, replayed, limited, and searched with criteria as goals."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from judging import Replies

from simkit.core.limits import Limits
from simkit.errors import BudgetExhausted
from simkit.models.config import ModelConfig
from simkit.run.choices import CastChoice
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve

pytestmark = pytest.mark.anyio

AGENT = f"{Path(__file__).parent / 'judging.py'}:Talking"
ROLLOUT = Rollout(Limits(turns=1))
JOSH = Josh(BeamSearch(beam=4), Limits(turns=3))


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rubric(tmp_path: Path) -> Path:
    file = tmp_path / "rubric.txt"
    file.write_text("polite: The agent said please.\n")
    return file


async def play(
    run: Run,
    rubric: Path,
    search: Search = ROLLOUT,
    *,
    agent: str = f"{AGENT},alike=true",
    options: str = "",
    trials: int = 1,
    temperature: float = 0.0,
) -> None:
    async with run:
        choice = CastChoice(judge_temperature=temperature)
        world = run.world("builtin")
        cast = run.cast(
            world,
            agent=agent,
            reward=f"rubric,file={rubric}{options}",
            judge_model="openai/judge",
            judge_options=choice.judge_options(run),
        )
        await run.play(search, cast, run.tasks(world, "test", 2), trials=trials)


def rewards(run: Run) -> list[float | None]:
    """The rewards of all episodes, by task and trial."""
    found = run.store.query("select reward from episodes where run_id = ? order by task_id, trial", [run.id])
    return [reward for (reward,) in found.rows]


def at(url: str, **more: object) -> ModelConfig:
    return ModelConfig.of({"base_url": url, **more})


async def test_verdicts_and_reasons_are_in_the_store(tmp_path: Path, rubric: Path) -> None:
    replies = Replies()
    async with serve(Behaviour(reply=replies)) as server:
        run = Run(store=tmp_path / "s", models=at(server.base_url))
        await play(run, rubric)
    assert rewards(run) == [1.0] * 2
    found = run.store.query("select part, value, evidence from reward_parts order by task_id").rows
    assert found == [("polite", 1.0, "it says please")] * 2
    rows = run.store.query("select model, response ->> '$.message.content' from model_calls where role = 'judge'").rows
    assert [(model, json.loads(text)["polite"]["met"]) for model, text in rows] == [("judge", True)] * 2


async def test_the_same_content_is_judged_once_and_recorded_everywhere(tmp_path: Path, rubric: Path) -> None:
    """Two trials of a task are the same conversation if the user's seeds do not matter: only its opening is heard."""
    replies = Replies()
    async with serve(Behaviour(reply=replies)) as server:
        run = Run(store=tmp_path / "s", models=at(server.base_url))
        await play_brief(run, rubric)
        assert list(replies.counts.values()) == [1]
        calls = run.store.query("select prompt_tokens > 0, count(*) from model_calls group by all order by all").rows
        assert calls == [(False, 3), (True, 1)]
        replayed = Run(store=tmp_path / "s", replay=run.id, models=at(server.base_url))
        await play_brief(replayed, rubric)
        assert list(replies.counts.values()) == [1]
    assert rewards(replayed) == rewards(run) == [1.0] * 4


async def play_brief(run: Run, rubric: Path) -> None:
    async with run:
        world = run.world("builtin")
        cast = run.cast(
            world,
            agent=f"{AGENT},alike=true",
            user=f"{Path(__file__).parent / 'judging.py'}:Brief",
            reward=f"rubric,file={rubric}",
            judge_model="openai/judge",
        )
        await run.play(ROLLOUT, cast, run.tasks(world, "test", 1), trials=4)


async def test_a_run_that_was_stopped_asks_for_no_verdict_again(tmp_path: Path, rubric: Path) -> None:
    replies = Replies()
    async with serve(Behaviour(reply=replies)) as server:
        first = Run(store=tmp_path / "s", concurrency=2, models=at(server.base_url, max_tokens_total=1500))
        with pytest.raises(BudgetExhausted):
            await play(first, rubric, JOSH, agent=AGENT, options=",goals=true", trials=6)
        assert replies.counts.total() > 0
        again = Run(store=tmp_path / "s", resume="last", models=ModelConfig(max_tokens_total=10_000_000))
        await play(again, rubric, JOSH, agent=AGENT, options=",goals=true", trials=6)
        whole = Run(store=tmp_path / "t", models=at(server.base_url, max_tokens_total=10_000_000))
        before = Counter(replies.counts)
        await play(whole, rubric, JOSH, agent=AGENT, options=",goals=true", trials=6)
    assert set(before.values()) == {1}
    assert replies.counts - before == before
    assert rewards(again) == rewards(whole)


async def test_a_replay_asks_nothing(tmp_path: Path, rubric: Path) -> None:
    replies = Replies()
    async with serve(Behaviour(reply=replies)) as server:
        run = Run(store=tmp_path / "s", models=at(server.base_url))
        await play(run, rubric, JOSH, agent=AGENT, options=",goals=true")
        asked = replies.counts.total()
        replayed = Run(store=tmp_path / "s", replay=run.id, models=at(server.base_url))
        await play(replayed, rubric, JOSH, agent=AGENT, options=",goals=true")
        assert replies.counts.total() == asked > 0
    assert rewards(replayed) == rewards(run)


async def test_criteria_are_goals_that_searches_harvest(tmp_path: Path, rubric: Path) -> None:
    async with serve(Behaviour(reply=Replies())) as server:
        run = Run(store=tmp_path / "s", models=at(server.base_url))
        await play(run, rubric, JOSH, agent=AGENT, options=",goals=true")
    found = run.store.query("select distinct goal, evidence, credited from rewards").rows
    assert ("polite", "it says please", True) in found
    assert run.store.query("select count(*) from golden_conversations").rows[0][0] > 0


async def test_a_judge_that_gives_no_verdict_leaves_the_episode_without_a_score(tmp_path: Path, rubric: Path) -> None:
    async with serve(Behaviour(reply=Replies(broken=True))) as server:
        run = Run(store=tmp_path / "s", models=at(server.base_url))
        await play(run, rubric)
    rows = run.store.query("select reward, outcome, error from episodes").rows
    assert [(reward, outcome) for reward, outcome, _ in rows] == [(None, "reward_fault")] * 2
    assert "gave no verdict in the asked form" in rows[0][2]


async def test_votes_differ_in_their_seeds_at_a_temperature(tmp_path: Path, rubric: Path) -> None:
    replies = Replies()
    async with serve(Behaviour(reply=replies)) as server:
        run = Run(store=tmp_path / "s", models=at(server.base_url))
        await play(run, rubric, options=",votes=3", temperature=0.7)
    assert (len(replies.counts), replies.counts.total()) == (6, 6)
    assert set(replies.temperatures) == {0.7}


async def test_workers_judge_too(tmp_path: Path, rubric: Path) -> None:
    replies = Replies()
    async with serve(Behaviour(reply=replies)) as server:
        run = Run(store=tmp_path / "s", models=at(server.base_url), workers=2)
        await play(run, rubric)
    assert rewards(run) == [1.0] * 2
    assert set(replies.counts.values()) == {1}
