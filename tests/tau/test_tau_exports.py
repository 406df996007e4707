"""Runs on tau-bench's worlds, written as tau-bench writes its results and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
from typer.testing import CliRunner

from simkit import Act, Agent, AgentStart, Decision, Run, Speak, StartAgent, User, UserTurn
from simkit.cli.app import app
from simkit.core.messages import ToolCall
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.tools.tau import RetailWorld


class Canceller(Agent[int]):
    """Cancels the first order, says a text, and fails in the third conversation."""

    name = "canceller"

    def start(self, request: StartAgent) -> AgentStart[int]:
        return AgentStart(request.policy, 0)

    async def act(self, request: Act[int]) -> Decision[int]:
        if request.key.task_id == "test-2":
            raise ValueError("no idea")
        if request.state == 0:
            arguments = {"order_id": "#W1", "reason": "no longer needed"}
            return Decision.call(ToolCall.of("c0", "cancel_pending_order", arguments), state=1)
        return Decision.speak("It was 1,000 dollars.", state=1)


class Brief(User[int]):
    """Says one thing, and then hangs up."""

    name = "brief"

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        said = request.state or 0
        return UserTurn("Bye. ###STOP###" if said else "Cancel it.", end=said > 0, state=said + 1)


async def played(cache: Path, store: Path) -> None:
    world = RetailWorld(cache=cache)
    async with Run(name="mine", store=store, config={"world": f"tau:retail,cache={cache}"}) as run:
        cast = run.cast(world, agent=Canceller(), user=Brief())
        await run.play(Rollout(), cast, world.tasks("test")[:3], trials=1)


def command(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_run_is_written_as_tau_bench_does_and_read_back_with_its_rewards(small_cache: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "results.json"
    anyio.run(played, small_cache, store)
    done = command("export", "results", "--run", "mine", "--out", str(out), "--store", str(store))
    assert done.exit_code == 0, done.output
    first, second, third = json.loads(out.read_text())
    assert (first["task_id"], first["trial"], first["reward"]) == (0, 0, 1.0)
    assert first["info"]["task"]["actions"][1] == {
        "name": "cancel_pending_order",
        "kwargs": {"order_id": "#W1", "reason": "no longer needed"},
    }
    assert first["info"]["reward_info"]["info"]["r_actions"] == 1.0
    assert [message["role"] for message in first["traj"]][:4] == ["system", "user", "assistant", "tool"]
    assert second["info"]["reward_info"]["info"] == {"r_outputs": 0.0, "outputs": {"1000": True, "Kettle": False}}
    assert third["reward"] == 0.0
    assert "no idea" in third["info"]["error"]
    origins = [json.loads(line) for line in (tmp_path / "results.origin.jsonl").read_text().splitlines()]
    rewards = {each["task_id"]: each["reward"] for each in origins}
    assert rewards == {"test-0": 1.0, "test-1": 0.0, "test-2": None}
    assert {each["world"] for each in origins} == {"tau:retail"}

    again = command("import", str(out), "--name", "theirs", "--store", str(store))
    assert again.exit_code == 0, again.output
    rows = Store(store).query(
        "select name, task_id, e.reward, e.outcome from episodes e join runs using (run_id) order by all"
    )
    mine, theirs = ([row[1:] for row in rows.rows if row[0] == name] for name in ("mine", "theirs"))
    assert [row[:2] for row in mine] == [row[:2] for row in theirs]
    assert [row[2] for row in theirs][:2] == ["user_ended", "user_ended"]
    results = json.loads(out.read_text())
    del results[2]["info"]["task"]  # as tau-bench writes it
    out.write_text(json.dumps(results))
    assert command("import", str(out), "--name", "theirs too", "--store", str(store)).exit_code == 0
    for other in ("theirs", "theirs too"):
        compared = command("compare", "mine", other, "--store", str(store), "--json")
        assert compared.exit_code == 0, compared.output


def test_results_of_another_release_several_runs_and_flags_for_examples_are_refused(
    small_cache: Path, tmp_path: Path
) -> None:
    store, out = tmp_path / "store", tmp_path / "results.json"
    anyio.run(played, small_cache, store)
    for words, said in (
        (("--run", "mine", "--run", "mine"), "one by one"),
        (("--run", "mine", "--limit", "3"), "limit"),
    ):
        refused = command("export", "results", *words, "--out", str(out), "--store", str(store))
        assert refused.exit_code == 2
        assert said in refused.output
    refused = command("export", "results", "--run", "mine", "--out", "results.txt", "--store", str(store))
    assert refused.exit_code == 2
    assert not out.exists()


def test_worlds_without_a_format_say_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = command("run", "rollout", "--tasks", "1", "--name", "plain", "--store", str(store))
    assert made.exit_code == 0, made.output
    refused = command("export", "results", "--run", "plain", "--out", str(tmp_path / "a.json"), "--store", str(store))
    assert refused.exit_code == 2
    assert "no result format of its own" in refused.output
