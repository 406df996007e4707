"""Runs on tau2-bench's worlds, written as tau2-bench writes its results and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from simkit import Act, Agent, AgentStart, Decision, Run, Speak, StartAgent, User, UserTurn
from simkit.cli.app import app
from simkit.core.messages import ToolCall
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.tools.tau2 import MockWorld

UPDATE = ToolCall.of("a1", "update_task_status", {"task_id": "task_1", "status": "completed"})
BROKEN = ToolCall.of("a0", "update_task_status", {}).model_copy(
    update={"function": UPDATE.function.model_copy(update={"arguments": "[1]"})}
)


class Helper(Agent[int]):
    """Makes a call without arguments, a good one, and speaks; breaks down in the task `data`."""

    name = "helper"

    def start(self, request: StartAgent) -> AgentStart[int]:
        return AgentStart(request.policy, 0)

    async def act(self, request: Act[int]) -> Decision[int]:
        if request.key.task_id == "data":
            raise ValueError("no idea")
        match request.step:
            case 0:
                return Decision.call(BROKEN, state=1)
            case 1:
                return Decision.call(UPDATE, text="One moment.", state=1)
            case _:
                return Decision.speak("Dismiss it.", state=1)


class Customer(User[int]):
    """Dismisses the notification before it hangs up."""

    name = "customer"
    calls_tools = True

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        if request.key.turn == 0:
            return UserTurn("Help me.", state=0)
        if request.step == 0:
            return UserTurn.call(ToolCall.of("u1", "dismiss_notification", {"notification_id": "n1"}), state=0)
        return UserTurn("Thanks. ###STOP###", end=True, state=0)


async def played(cache: Path, store: Path, release: Any) -> None:
    world = MockWorld(cache=cache, release=release)
    async with Run(name="mine", store=store, config={"world": f"tau2:mock,release={release},cache={cache}"}) as run:
        cast = run.cast(world, agent=Helper(), user=Customer())
        await run.play(Rollout(), cast, world.tasks("all"), trials=1)


def command(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def written(cache: Path, folder: Path, release: str = "1.0") -> dict[str, Any]:
    """The results of a run of all tasks, by task."""
    anyio.run(played, cache, folder / "store", release)
    out = folder / "results.json"
    done = command("export", "results", "--run", "mine", "--out", str(out), "--store", str(folder / "store"))
    assert done.exit_code == 0, done.output
    return json.loads(out.read_text())


def test_messages_of_both_sides_calls_and_rewards_are_written(small_cache: Path, tmp_path: Path) -> None:
    results = written(small_cache, tmp_path)
    assert results["info"]["environment_info"]["domain_name"] == "mock"
    assert [task["id"] for task in results["tasks"]] == ["plain", "history", "data", "both"]
    both = next(each for each in results["simulations"] if each["task_id"] == "both")
    assert (both["termination_reason"], both["reward_info"]["reward"]) == ("user_stop", 1.0)
    assert both["reward_info"]["reward_breakdown"] == {"DB": 1.0, "ACTION": 1.0}
    said = [(each["role"], each["content"]) for each in both["messages"] if not each.get("tool_calls")]
    assert said[:2] == [("assistant", "Good day!"), ("user", "Help me.")]
    assert said[-1] == ("user", "Thanks. ###STOP###")
    calls = [(each["role"], call) for each in both["messages"] for call in each.get("tool_calls") or ()]
    update = {"id": "a1", "name": "update_task_status", "requestor": "assistant"}
    dismiss = {"id": "u1", "name": "dismiss_notification", "requestor": "user"}
    assert calls == [  # the call without arguments has no place in the format
        ("assistant", {**update, "arguments": {"task_id": "task_1", "status": "completed"}}),
        ("user", {**dismiss, "arguments": {"notification_id": "n1"}}),
    ]
    found = [(each["id"], each["requestor"], each["error"]) for each in both["messages"] if each["role"] == "tool"]
    assert found == [("a1", "assistant", False), ("u1", "user", False)]
    assert [each["turn_idx"] for each in both["messages"]] == list(range(len(both["messages"])))


def test_earlier_messages_belong_to_the_conversation(small_cache: Path, tmp_path: Path) -> None:
    results = written(small_cache, tmp_path)
    history = next(each for each in results["simulations"] if each["task_id"] == "history")
    assert [each["role"] for each in history["messages"]][:4] == ["user", "assistant", "tool", "assistant"]
    assert history["messages"][1]["tool_calls"][0]["name"] == "create_task"
    assert history["messages"][2]["id"] == history["messages"][1]["tool_calls"][0]["id"]


@pytest.mark.parametrize(("release", "reason"), [("1.0", "agent_error"), ("2025", "agent_error")])
def test_a_fault_has_no_reward(small_cache: Path, tmp_path: Path, release: str, reason: str) -> None:
    results = written(small_cache, tmp_path, release)
    broken = next(each for each in results["simulations"] if each["task_id"] == "data")
    assert (broken["termination_reason"], broken["reward_info"]) == (reason, None)


def test_what_was_written_is_read_back_and_can_be_compared(small_cache: Path, tmp_path: Path) -> None:
    written(small_cache, tmp_path)
    store = str(tmp_path / "store")
    again = command("import", str(tmp_path / "results.json"), "--name", "theirs", "--store", store)
    assert again.exit_code == 0, again.output
    query = "select e.task_id, e.reward, e.outcome, t.instructions, t.goals from episodes e join runs r using (run_id) "
    query += "join tasks t on t.run_id = e.run_id and t.task_id = e.task_id where r.name = ? order by all"
    mine, theirs = (Store(store).query(query, [name]).rows for name in ("mine", "theirs"))
    assert mine == theirs
    calls = "select c.name, c.side, c.error from tool_calls c join episodes e using (episode_id) "
    calls += "join runs r using (run_id) where r.name = ? and e.task_id = 'both' and c.name <> 'none' order by c.seq"
    assert Store(store).query(calls, ["theirs"]).rows == Store(store).query(calls, ["mine"]).rows[1:]
    compared = command("compare", "mine", "theirs", "--store", store, "--json")
    assert compared.exit_code == 0, compared.output
