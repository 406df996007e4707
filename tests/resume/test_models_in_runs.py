from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simkit.core.limits import Limits
from simkit.errors import BudgetExhausted, ReplayMiss, UsageError
from simkit.models.config import ModelConfig
from simkit.models.middleware.budget import Allowance, Allowances
from simkit.models.sampling import Sampling
from simkit.run.run import Run
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.killing import CountingReplies, contents

pytestmark = pytest.mark.anyio

AGENT = f"{Path(__file__).parent / 'asking.py'}:AskingAgent"
PRICES = '{"models": {"load": {"input": 100.0, "output": 100.0}}}'


async def play(run: Run, tasks: int = 2, agent: str = AGENT) -> None:
    async with run:
        world = run.world("builtin")
        search = Josh(BeamSearch(beam=2), Limits(turns=4))
        await run.play(search, run.cast(world, agent=agent), run.tasks(world, "train", tasks))


def at(url: str, **more: object) -> ModelConfig:
    return ModelConfig.of({"model": "openai/load", "base_url": url, **more})


# --- who plays --------------------------------------------------------------------------------------------------------


async def test_an_agent_that_needs_a_model_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the agent `function_calling` is played by a model.*--model openai/NAME"):
        await play(Run(store=tmp_path), agent="function_calling")


async def test_a_model_that_nobody_would_ask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--model openai/load would not be asked: the agent `scripted`"):
        await play(Run(store=tmp_path, models=at("http://127.0.0.1:9/v1")), agent="scripted")


async def test_a_named_model_plays_function_calling_and_a_user_model_plays_goal(tmp_path: Path) -> None:
    choices = ModelConfig(model="scripted/Hello.", user_model="scripted/I need a train.")
    async with Run(store=tmp_path, models=choices) as run:
        world = run.world("builtin")
        cast = run.cast(world)
        assert (cast.agent.name, cast.user.name) == ("function_calling", "goal")
        await run.play(Rollout(Limits(turns=1)), cast, run.tasks(world, "test", 1))
        found = await run.query("select distinct role, model from model_calls order by role")
    assert found.rows == [("agent", "scripted/Hello."), ("user", "scripted/I need a train.")]


async def test_models_can_be_named_in_cast_with_options_of_their_own(tmp_path: Path) -> None:
    async with serve(Behaviour()) as server, Run(store=tmp_path) as run:
        world = run.world("builtin")
        options = ModelConfig(base_url=server.base_url)
        cast = run.cast(world, agent=AGENT, model="openai/load", options=options)
        await run.play(Rollout(Limits(turns=2)), cast, run.tasks(world, "test", 2))
        assert run.progress.metrics is not None
        assert run.progress.metrics.calls == (await server.stats()).answered > 0


def test_settings_have_the_names_of_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMKIT_MODEL", "openai/small")
    monkeypatch.setenv("SIMKIT_API_CONCURRENCY", "12")
    monkeypatch.setenv("SIMKIT_MAX_COST", "0.5")
    assert ModelConfig.from_environment() == ModelConfig(model="openai/small", api_concurrency=12, max_cost=0.5)
    monkeypatch.setenv("SIMKIT_MAX_COST", "-1")
    with pytest.raises(UsageError, match="SIMKIT_MAX_COST=-1"):
        ModelConfig.from_environment()


# --- resume -----------------------------------------------------------------------------------------------------------


async def test_a_resumed_run_keeps_what_is_finished_and_asks_nothing_again(tmp_path: Path) -> None:
    async with serve(Behaviour()) as server:
        run = Run(store=tmp_path, models=at(server.base_url), seed=4, name="mine")
        await play(run)
        asked = (await server.stats()).requests
        again = Run.resume("mine", store=tmp_path)
        await play(again)
        assert (await server.stats()).requests == asked
    assert (again.id, again.name, again.seed, again.status) == (run.id, "mine", 4, "done")
    assert again.progress.kept == 2
    assert (again.summary().account.kept, run.summary().account.done) == (2, 2)
    assert replace(again.summary(), account=run.summary().account) == run.summary()


async def test_resuming_answers_from_the_journal_in_the_middle_of_a_tree(tmp_path: Path) -> None:
    """The first part of a run plays half of its tree, the second goes on; a third run is never interrupted."""
    half, whole = tmp_path / "half", tmp_path / "whole"
    replies = CountingReplies()
    async with serve(Behaviour(reply=replies)) as server:
        first = Run(store=half, models=at(server.base_url, max_tokens_total=300))
        with pytest.raises(BudgetExhausted):
            await play(first)
        assert first.status == "stopped"
        assert replies.counts.total() > 0
        await play(Run(store=half, resume="last", models=ModelConfig(max_tokens_total=10_000_000)))
        assert set(replies.counts.values()) == {1}
        uninterrupted = Run(store=whole, models=at(server.base_url, max_tokens_total=10_000_000))
        await play(uninterrupted)
        assert set(replies.counts.values()) == {2}
    assert contents(half, first.id) == contents(whole, uninterrupted.id)


async def test_a_run_that_had_no_budget_is_resumed_with_its_first(tmp_path: Path) -> None:
    replies = CountingReplies()
    async with serve(Behaviour(reply=replies)) as server:
        first = Run(store=tmp_path, models=at(server.base_url))
        await play(first)
        journal = tmp_path / "journals" / first.id / "main.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(line for line in lines if not line.startswith(b'{"e":"EpisodeFinished"')))
        (tmp_path / "simkit.duckdb").unlink()
        again = Run(store=tmp_path, resume="last", models=ModelConfig(max_tokens_total=10_000_000))
        await play(again)
    assert again.status == "done"
    assert set(replies.counts.values()) == {1}


async def test_a_live_run_cannot_be_resumed_beside_itself(tmp_path: Path) -> None:
    from simkit.errors import JournalFailed

    async with Run(store=tmp_path) as run:
        assert (await run.query("select count(*) from runs")).rows == [(1,)]
        with pytest.raises(JournalFailed, match="another process is writing"):
            await play(Run(store=tmp_path, resume=run.id), agent="scripted")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 9}, r"--seed was 4 and is 9"),
        ({"config": {"beam": 4}}, r"--beam was 2 and is 4"),
        ({"models": ModelConfig(model="openai/other")}, r"--model was scripted/A. and is openai/other"),
    ],
)
async def test_a_changed_configuration_is_refused_with_what_differs(
    tmp_path: Path, changed: dict[str, object], told: str
) -> None:
    models = ModelConfig(model="scripted/A.")
    await play(Run(store=tmp_path, seed=4, config={"beam": 2}, models=models))
    with pytest.raises(UsageError, match=told):
        await play(Run(store=tmp_path, resume="last", **changed))  # pyright: ignore[reportArgumentType]


async def test_another_search_is_refused(tmp_path: Path) -> None:
    await play(Run(store=tmp_path), agent="scripted")
    async with Run(store=tmp_path, resume="last") as run:
        world = run.world("builtin")
        cast, tasks = run.cast(world), run.tasks(world, "train", 2)
        with pytest.raises(UsageError, match=r"the search of .* was `josh` and is `rollout`"):
            await run.play(Rollout(), cast, tasks)


async def test_a_changed_component_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from simkit.agents.scripted import ScriptedAgent\nclass Mine(ScriptedAgent): ...\n")
    config = {"agent": f"{file}:Mine,error_rate=0"}
    await play(Run(store=tmp_path / "store", config=config), agent=config["agent"])
    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(UsageError, match=r"the file .*mine\.py has changed"):
        await play(Run.resume("last", store=tmp_path / "store"), agent=config["agent"])


# --- replay -----------------------------------------------------------------------------------------------------------


async def test_a_replay_needs_no_network_and_gives_the_same(tmp_path: Path) -> None:
    async with serve(Behaviour()) as server:
        run = Run(store=tmp_path, models=at(server.base_url), seed=4)
        await play(run)
    replay = Run.replay(run.id, store=tmp_path)
    await play(replay)
    assert replay.id != run.id
    assert replay.summary() == run.summary()
    assert replay.progress.metrics is not None
    assert (replay.progress.metrics.calls, replay.progress.metrics.replayed > 0) == (0, True)


async def test_a_replay_that_misses_a_call_says_which_and_stops_the_run(tmp_path: Path) -> None:
    async with serve(Behaviour()) as server:
        await play(Run(store=tmp_path, models=at(server.base_url)), tasks=1)
    with pytest.raises(ReplayMiss, match="has no call 0 of the agent, turn 1"):
        await play(Run(store=tmp_path, replay="last"), tasks=2)
    with pytest.raises(ReplayMiss, match=r"`temperature` was None and is 0\.5"):
        await play(Run(store=tmp_path, replay="last", models=ModelConfig(temperature=0.5)), tasks=1)


# --- budgets ----------------------------------------------------------------------------------------------------------


async def test_a_budget_of_money_is_never_exceeded_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(PRICES)
    store = tmp_path / "store"
    async with serve(Behaviour(latency=0.005)) as server:
        choices = at(server.base_url, prices=prices, max_cost=0.8, api_concurrency=200)
        with pytest.raises(BudgetExhausted, match=r"the run's \$0\.8000 are used"):
            await play(Run(store=store, models=choices), tasks=20)
        stats = await server.stats()
        assert 0 < (stats.prompt_tokens + stats.completion_tokens) * 100 / 1e6 <= 0.8
        status, error, cost = (
            Store(store).query("select status, error, (select sum(cost) from model_calls) from runs").rows[0]
        )
        assert status == "stopped"
        assert "--max-cost" in error
        assert 0 < cost <= 0.8
        done = Run(store=store, resume="last", models=ModelConfig(max_cost=1000.0))
        await play(done, tasks=20)
        assert done.status == "done"
        assert (await server.stats()).repeated == 0


async def test_a_price_must_be_known_when_money_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no price for `load`"):
        await play(Run(store=tmp_path, models=at("http://127.0.0.1:9/v1", max_cost=1.0)))


async def test_the_time_of_a_run_is_bounded(tmp_path: Path) -> None:
    async with serve(Behaviour(latency=30.0)) as server:
        with pytest.raises(BudgetExhausted, match="--max-wall"):
            await play(Run(store=tmp_path, models=at(server.base_url, max_wall=0.05)))


def test_the_users_choices_are_its_own_or_the_agents_or_those_in_python() -> None:
    base = ModelConfig(temperature=0.3, top_p=0.5)
    chosen = ModelConfig(temperature=1.0, max_tokens=100, user_max_tokens=50)
    agents, users = chosen.over(base).sampling, chosen.for_user(base).sampling
    assert (agents.temperature, agents.max_tokens, agents.top_p) == (1.0, 100, 0.5)
    assert (users.temperature, users.max_tokens, users.top_p) == (0.3, 50, 0.5)
    assert ModelConfig(max_tokens=7).for_user().sampling == Sampling(max_tokens=7)


async def test_a_reply_is_no_longer_than_max_tokens_and_no_call_reserves_more(tmp_path: Path) -> None:
    seen: list[int] = []

    def reply(body: Mapping[str, Any]) -> str:
        seen.append(body["max_tokens"])
        return "Yes."

    async with serve(Behaviour(reply=reply)) as server:
        await play(Run(store=tmp_path, models=at(server.base_url, max_tokens=33, max_tokens_total=1_000_000)))
    assert set(seen) == {33}


async def test_what_each_episode_may_use_ends_it_and_not_the_run(tmp_path: Path) -> None:
    async with serve(Behaviour()) as server:
        allowed = Allowances(episode=Allowance(tokens=150))
        run = Run(store=tmp_path, models=at(server.base_url, max_tokens=20), allowances=allowed)
        await play(run)
    assert run.status == "done"
    assert {episode.outcome for episode in run.progress.episodes} == {"token_limit"}
    used = run.store.query("select sum(prompt_tokens + completion_tokens) from model_calls group by episode_id").rows
    assert all(0 < tokens <= 150 for (tokens,) in used)
