"""The worlds of tau-bench: tasks, tools, limits, and whole runs with an agent that knows the gold calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from simkit import Act, Decision, Run
from simkit.components.tools import CallTool, StartTools
from simkit.components.world import load_world
from simkit.core.limits import Limits
from simkit.core.messages import ToolCall
from simkit.errors import ComponentNotFound, DataMissing, UsageError
from simkit.models.config import ModelConfig
from simkit.rewards.end_measures import floor
from simkit.rewards.final_state import FinalState
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.testing.conformance import check_reward, check_world
from simkit.tools.tau import RetailWorld
from simkit.tools.tau.rows import Draft
from support.tau_players import GoldAgent, Patient, played

pytestmark = pytest.mark.anyio


@pytest.fixture
def retail(small_cache: Path) -> RetailWorld:
    return RetailWorld(cache=small_cache)


async def test_both_domains_keep_the_promises_of_a_world(small_cache: Path) -> None:
    for name in ("tau:retail", "tau:airline"):
        await check_world(load_world(name, cache=str(small_cache)))


async def test_the_reward_keeps_its_promises(retail: RetailWorld) -> None:
    tools = retail.tools()
    state = tools.start(StartTools(retail.tasks("test")[0])).state
    for goals in ("actions", "writes", "state", "said"):
        await check_reward(FinalState(retail, goals), retail.tasks("test"), world=state)


def test_a_name_with_a_domain_names_a_world() -> None:
    assert isinstance(load_world("tau:retail"), RetailWorld)
    assert load_world("tau:airline", release="2025").name == "tau:airline"
    with pytest.raises(UsageError, match="`tau` is a family of worlds; choose one of them: tau:retail, tau:airline"):
        load_world("tau")
    with pytest.raises(ComponentNotFound, match=r"`tau` has no `retial` \(did you mean `retail`\?\)"):
        load_world("tau:retial")
    with pytest.raises(UsageError, match="has no release `2024`; it has: josh, 2025"):
        RetailWorld(cast("Any", "2024"))


def test_without_data_the_command_that_fetches_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="run `simkit data tau` once"):
        RetailWorld(cache=tmp_path).tasks("test")


def test_equal_gold_actions_are_copies_of_one_goal(retail: RetailWorld) -> None:
    task = retail.tasks("dev")[0]
    assert [goal.key for goal in task.goals] == ["get_order_details", "get_order_details:2", "get_order_details"]
    assert (task.id, task.world, task.data["outputs"]) == ("dev-0", "tau:retail", ["20.5"])
    assert task.instructions == "You are Ada Reed. This is wish 0."


async def test_calls_write_to_their_branch_only(retail: RetailWorld) -> None:
    task, server = retail.tasks("test")[0], retail.tools()
    start = server.start(StartTools(task))
    assert start.policy == "# The rules of retail\n"
    cancel = ToolCall.of("c", "cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})
    reply = await server.call(CallTool(task, cancel, start.state))
    assert (reply.result.error, reply.end) == (False, False)
    (write,) = reply.writes
    assert (write["table"], write["id"], write["row"]["status"]) == ("orders", "#W1", "cancelled")
    again = await server.call(CallTool(task, cancel, reply.state))
    assert (again.result.error, again.writes, again.state) == (True, (), reply.state)
    assert again.result.text == "Error: non-pending order cannot be cancelled"
    first = await server.call(CallTool(task, cancel, start.state))
    assert first.state == reply.state != start.state
    assert retail.digest(reply.state) == retail.expected(task).digest != retail.digest(start.state)


@pytest.mark.parametrize("arguments", ["not json", "[1]", '"text"'])
async def test_arguments_that_are_no_object_are_an_error(retail: RetailWorld, arguments: str) -> None:
    task, server = retail.tasks("test")[0], retail.tools()
    call = ToolCall.of("c", "think", {}).model_copy()
    call = call.model_copy(update={"function": call.function.model_copy(update={"arguments": arguments})})
    reply = await server.call(CallTool(task, call, server.start(StartTools(task)).state))
    assert reply.result.error
    assert "must be one JSON object" in reply.result.text


def test_what_is_expected_differs_between_the_releases(small_cache: Path) -> None:
    older, newer = (RetailWorld(release, small_cache) for release in ("josh", "2025"))
    with_outputs, without = older.tasks("test")[1], older.tasks("test")[0]
    assert older.expected(with_outputs).basis == ("said",)
    assert older.expected(without).basis == newer.expected(with_outputs).basis == ("state", "said")
    assert older.expected(with_outputs).said == ("1000", "Kettle")
    assert older.expected(without).writes == ("cancel_pending_order",)
    assert older.expected(without) is older.expected(without)


@pytest.mark.parametrize(
    ("index", "say", "release", "reward", "parts"),
    [
        (0, "", "josh", 1.0, {"state": 1.0}),
        (1, "It is 1,000, dear. A kettle.", "josh", 1.0, {"state": 1.0, "said:1000": 1.0, "said:Kettle": 1.0}),
        (1, "It is 1,000, dear.", "josh", 0.0, {"state": 1.0, "said:1000": 1.0, "said:Kettle": 0.0}),
        (2, "", "josh", 1.0, {"state": 1.0}),
    ],
)
async def test_a_rollout_is_rewarded_by_its_end(
    small_cache: Path, index: int, say: str, release: Any, reward: float, parts: Mapping[str, float]
) -> None:
    world = RetailWorld(release, small_cache)
    task = world.tasks("test")[index]
    episode = await played(world, task, Rollout(), GoldAgent(task, say=[say or "Done."]))
    assert (episode.outcome, episode.reward) == ("user_ended", reward)
    found = {part["name"]: part["value"] for part in episode.parts}
    assert {name: found[name] for name in found if name.partition(":")[0] in ("state", "said")} == parts


@pytest.mark.parametrize(("release", "reward"), [("josh", 1.0), ("2025", 0.0)])
async def test_the_older_release_does_not_compare_the_state_if_outputs_are_due(
    small_cache: Path, release: Any, reward: float
) -> None:
    world = RetailWorld(release, small_cache)
    idle = GoldAgent(world.tasks("test")[2], say=["1000 Kettle"])
    episode = await played(world, world.tasks("test")[1], Rollout(), idle)
    assert episode.reward == reward
    assert next(part for part in episode.parts if part["name"] == "state")["value"] == 0.0


@pytest.mark.parametrize(
    ("variant", "said", "reward", "others"),
    [
        ("paper", "21000 Kettles", 1.0, {"token:1000": 0.0, "token:Kettle": 0.0}),
        ("fixed", "21000 Kettles", 0.0, {"substring:1000": 1.0, "substring:Kettle": 1.0}),
        ("fixed", "1,000.00 for a kettle.", 1.0, {"substring:1000": 1.0, "substring:Kettle": 1.0}),
        ("paper", "1 000 Kettle", 0.0, {"token:1000": 0.0, "token:Kettle": 1.0}),
    ],
)
async def test_due_texts_are_looked_for_in_two_ways_of_which_the_variant_chooses_one(
    small_cache: Path, variant: Any, said: str, reward: float, others: Mapping[str, float]
) -> None:
    world = RetailWorld(cache=small_cache, variant=variant)
    task = world.tasks("test")[1]
    episode = await played(world, task, Rollout(), GoldAgent(task, say=[said]))
    assert episode.reward == reward
    found = [part for part in episode.parts if part["name"].partition(":")[0] in ("token", "substring")]
    assert {part["name"]: part["value"] for part in found} == others
    assert {part["weight"] for part in found} == {0.0}


async def test_the_repaired_variant_checks_calls_and_judges_state_and_outputs(small_cache: Path) -> None:
    world = load_world("tau:retail,variant=fixed", cache=str(small_cache))
    assert isinstance(world, RetailWorld)
    with_outputs, server = world.tasks("test")[1], world.tools()
    assert (world.variant, world.expected(with_outputs).basis) == ("fixed", ("state", "said"))
    start = server.start(StartTools(with_outputs)).state
    wrong = await server.call(CallTool(with_outputs, ToolCall.of("c", "cancel_pending_order", {"id": "#W1"}), start))
    assert (wrong.result.error, wrong.state) == (True, start)
    assert wrong.result.text.startswith("Error: cancel_pending_order was not called: `id` is unknown")
    unchanged = await played(world, with_outputs, Rollout(), GoldAgent(world.tasks("test")[2], say=["1000 Kettle"]))
    assert unchanged.reward == 0.0
    with pytest.raises(UsageError, match="has no variant `best`; it has: paper, fixed"):
        RetailWorld(variant=cast("Any", "best"))


def test_numbers_of_equal_value_are_the_same_state_in_the_repaired_variant_only(small_cache: Path) -> None:
    for variant, equal in (("paper", False), ("fixed", True)):
        world = RetailWorld(cache=small_cache, variant=cast("Any", variant))
        rows = world.tools().start(StartTools(world.tasks("test")[0])).state
        made = list[str]()
        for amount in (25, 25.0):
            draft = Draft(rows)
            draft.edit("orders", "#W1")["amount"] = amount
            made.append(world.digest(draft.done()[0]))
        assert (made[0] == made[1]) is equal


async def test_an_episode_that_a_limit_ends_has_no_reward(retail: RetailWorld) -> None:
    task = retail.tasks("test")[2]
    episode = await played(retail, task, Rollout(), GoldAgent(task), user=Patient(100))
    assert (episode.outcome, episode.reward, episode.turns) == ("turn_limit", 0.0, 30)
    assert episode.parts[-1] == {"name": "ended", "value": 0.0, "weight": 1.0, "evidence": "turn_limit"}


async def test_thirty_decisions_end_an_episode(retail: RetailWorld) -> None:
    class Restless(GoldAgent):
        async def act(self, request: Act[int]) -> Decision[int]:
            return Decision.call(ToolCall.of(f"c{request.state}", "think", {"thought": ""}), state=request.state + 1)

    episode = await played(retail, retail.tasks("test")[0], Rollout(), Restless(retail.tasks("test")[0]))
    assert (episode.outcome, episode.reward, episode.calls) == ("decision_limit", 0.0, 30)
    chosen = Rollout(Limits(decisions=3))
    shorter = await played(retail, retail.tasks("test")[0], chosen, Restless(retail.tasks("test")[0]))
    assert (shorter.outcome, shorter.calls) == ("decision_limit", 3)


async def test_a_transfer_ends_the_conversation(retail: RetailWorld) -> None:
    task = retail.tasks("test")[3]
    episode = await played(retail, task, Rollout(), GoldAgent(task))
    assert (episode.outcome, episode.reward, episode.turns) == ("agent_ended", 1.0, 1)


@pytest.mark.parametrize(
    ("goals", "index", "keys"),
    [
        ("actions", 0, ["get_order_details", "cancel_pending_order"]),
        ("writes", 0, ["cancel_pending_order"]),
        ("state", 0, ["state"]),
        ("said", 1, ["said:1000", "said:Kettle"]),
        ("actions", 3, ["cancel_pending_order", "transfer_to_human_agents"]),
    ],
)
async def test_josh_harvests_the_chosen_goals(retail: RetailWorld, goals: Any, index: int, keys: list[str]) -> None:
    task = retail.tasks("test")[index]
    search = Josh(BeamSearch(beam=8), Limits(turns=30))
    agent, reward = GoldAgent(task, say=["1000 Kettle"], errs=True), FinalState(retail, goals)
    episode = await played(retail, task, search, agent, user=Patient(40), reward=reward)
    assert (episode.outcome, episode.reward) == ("goals_done", 1.0)
    assert sorted(episode.achieved) == sorted(keys) == sorted(episode.goals)


async def test_josh_does_not_play_what_has_no_goals(retail: RetailWorld) -> None:
    task = retail.tasks("test")[2]
    for goals in ("actions", "writes", "state", "said"):
        reward = FinalState(retail, goals)
        episode = await played(retail, task, Josh(), GoldAgent(task, errs=True), reward=reward)
        assert (episode.outcome, episode.reward) == ("no_goals", None)


def test_the_reward_needs_a_world_that_says_how_episodes_end(retail: RetailWorld) -> None:
    with pytest.raises(UsageError, match="does not say how its episodes should end"):
        FinalState(load_world("builtin"))
    wrong: Any = "reads"
    with pytest.raises(UsageError, match="has no goals `reads`; choose one of: actions, writes, state, said"):
        FinalState(retail, wrong)
    with pytest.raises(UsageError, match="cannot look for texts by `reads`; choose substring or token"):
        FinalState(retail, said=wrong)


async def test_the_user_of_a_named_model_is_the_world_s(small_cache: Path, tmp_path: Path) -> None:
    for models in (
        ModelConfig(model="scripted/Hello."),
        ModelConfig(model="scripted/Hello.", user_model="scripted/Hi."),
    ):
        async with Run(store=tmp_path, models=models) as run:
            cast_ = run.cast(run.world("tau:retail", cache=str(small_cache)))
            assert (cast_.agent.name, cast_.user.name) == ("function_calling", "tau")


async def test_a_run_reports_the_floor_and_the_calls_of_the_solution(retail: RetailWorld, tmp_path: Path) -> None:
    tasks = retail.tasks("test")
    assert floor(retail, "test") == (0.0, 0.0, 1.0, 0.0)
    async with Run(store=tmp_path, seed=5) as run:
        cast_ = run.cast(retail, agent=GoldAgent(tasks[0]), user=Patient())
        await run.play(Rollout(), cast_, [tasks[0], tasks[2], tasks[3]])
        summary = run.summary()
        measured = await run.query("SELECT task_id, floor, reads_made, writes_made FROM end_measures")
        ended = await run.query("SELECT outcome, episodes, share, average_reward FROM outcome_counts")
    assert measured.rows == [("test-0", 0.0, 1.0, 1.0), ("test-2", 1.0, None, None), ("test-3", 0.0, 0.0, 1.0)]
    assert summary.measures == {"floor": 1 / 3, "reads_made": 0.5, "writes_made": 1.0}
    assert summary.floor_tasks == (1, 3)
    assert summary.to_json()["measures"] == summary.measures
    assert ended.rows == [("user_ended", 3, 1.0, pytest.approx(2 / 3))]


async def test_a_run_without_such_a_reward_reports_no_measures(tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=5) as run:
        world = run.world("builtin")
        await run.play(Rollout(), run.cast(world), run.tasks(world, "test", 1))
        measured = await run.query("SELECT count(*) FROM end_measures")
        assert (run.summary().measures, measured.rows) == ({}, [(0,)])
        assert "measures" not in run.summary().to_json()


async def test_a_run_records_parts_writes_and_limits(retail: RetailWorld, tmp_path: Path) -> None:
    task = retail.tasks("test")[0]
    async with Run(store=tmp_path, seed=5) as run:
        cast = run.cast(retail, agent=GoldAgent(task), user=Patient())
        (episode,) = await run.play(Rollout(), cast, [task])
        found = await run.query("SELECT name, writes FROM tool_calls ORDER BY seq")
    assert (episode.reward, episode.goals) == (1.0, ("get_order_details", "cancel_pending_order"))
    assert [name for name, _ in found.rows] == ["get_order_details", "cancel_pending_order"]
    assert [len(json.loads(writes)) if isinstance(writes, str) else len(writes) for _, writes in found.rows] == [0, 1]
