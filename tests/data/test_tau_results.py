"""Result files of tau-bench and tau2-bench as runs of the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.core.messages import AssistantMessage, ToolMessage
from simkit.data.conversation_files import read_conversations
from simkit.errors import DataCorrupt, UsageError
from simkit.store import Store

GOLD = [
    {"name": "get_order_details", "kwargs": {"order_id": "#1"}},
    {"name": "cancel_pending_order", "kwargs": {"order_id": "#1", "reason": "no longer needed"}},
]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": f"c-{name}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def tau_row(task: int = 3, trial: int = 0, reward: Any = 1.0, **more: Any) -> dict[str, Any]:
    traj = [
        {"role": "system", "content": "Rules."},
        {"role": "user", "content": "Cancel my order."},
        {"role": "assistant", "content": None, "tool_calls": [call("cancel_pending_order", order_id="#1")]},
        {
            "role": "tool",
            "tool_call_id": "c-cancel_pending_order",
            "name": "cancel_pending_order",
            "content": "Error: x",
        },
        {"role": "assistant", "content": "It did not work, 12 dollars."},
        {"role": "user", "content": "Pity. ###STOP###"},
    ]
    about = {"user_id": "u", "actions": GOLD, "instruction": "You want to cancel.", "outputs": ["12"]}
    judged = {"reward": reward, "info": {"r_actions": reward, "gt_data_hash": "x"}, "actions": GOLD}
    info = {"task": about, "source": "user", "user_cost": 0.1, "reward_info": judged}
    return {"task_id": task, "reward": reward, "info": info, "traj": traj, "trial": trial, **more}


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_tau_bench_results_are_read_with_rewards_trials_and_goals(tmp_path: Path) -> None:
    found = read_conversations(written(tmp_path / "results.json", [tau_row(), tau_row(trial=1, reward=0.0)]))
    assert (found.format, found.world, found.reward) == ("tau-bench", "tau:retail", "final_state")
    first, second = found.conversations
    assert (first.task_id, first.trial, first.reward, first.outcome) == ("test-3", 0, 1.0, "user_ended")
    assert (second.trial, second.reward) == (1, 0.0)
    assert [goal.key for goal in first.goals] == ["get_order_details", "cancel_pending_order"]
    assert first.goals[0].detail == {"tool": "get_order_details", "arguments": {"order_id": "#1"}}
    assert [(part.name, part.value) for part in first.parts] == [("state", 1.0)]


def test_the_parts_of_a_reward_for_words_are_the_due_texts(tmp_path: Path) -> None:
    row = tau_row()
    row["info"]["reward_info"]["info"] = {"r_outputs": 0.0, "outputs": {"12": True, "north": False}}
    (found,) = read_conversations(written(tmp_path / "results.json", [row])).conversations
    assert [(part.name, part.value) for part in found.parts] == [("said:12", 1.0), ("said:north", 0.0)]


def test_an_error_of_the_benchmark_is_a_fault_and_no_reward(tmp_path: Path) -> None:
    broken = tau_row(reward=0.0, info={"error": "no quota", "traceback": "..."}, traj=[])
    found = read_conversations(written(tmp_path / "results.json", [tau_row(), broken]))
    assert (found.conversations[1].reward, found.conversations[1].error) == (None, "no quota")
    assert any("1 conversations ended in an error" in note for note in found.notes)


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        ({"role": "tool", "tool_call_id": "c", "name": "transfer_to_human_agents", "content": "Done"}, "agent_ended"),
        ({"role": "user", "content": "And then?"}, "decision_limit"),
        ({"role": "user", "content": "Bye ###STOP###"}, "user_ended"),
    ],
)
def test_how_a_conversation_of_tau_bench_ended(tmp_path: Path, last: dict[str, Any], outcome: str) -> None:
    row = tau_row()
    row["traj"][-1] = last
    (found,) = read_conversations(written(tmp_path / "results.json", [row])).conversations
    assert found.outcome == outcome


def test_text_agents_of_tau_bench_become_calls_and_words(tmp_path: Path) -> None:
    action = {"name": "cancel_pending_order", "arguments": {"order_id": "#1"}}
    reply = {"name": "respond", "arguments": {"content": "Done."}}
    traj = [
        {"role": "user", "content": "Cancel my order."},
        {"role": "assistant", "content": f"Thought:\nI cancel.\nAction:\n{json.dumps(action)}"},
        {"role": "user", "content": "API output: Error: no such order"},
        {"role": "assistant", "content": f"Thought:\nSay it.\nAction:\n{json.dumps(reply)}"},
        {"role": "user", "content": "API output: is what I call you. ###STOP###"},
        {"role": "assistant", "content": "Action: {not JSON"},
    ]
    (found,) = read_conversations(written(tmp_path / "results.json", [tau_row(traj=traj)])).conversations
    _, made, result, said, answer, odd = found.messages
    assert isinstance(made, AssistantMessage)
    assert made.tool_calls is not None
    assert (made.tool_calls[0].name, json.loads(made.tool_calls[0].function.arguments)) == (
        "cancel_pending_order",
        {"order_id": "#1"},
    )
    assert (made.model_extra or {})["reasoning_content"] == "I cancel."
    assert isinstance(result, ToolMessage)
    assert result.content == "Error: no such order"
    assert (result.model_extra or {})["error"] is True
    assert said.content == "Done."
    assert answer.role == "user"
    assert odd.content == "{not JSON"


# --- tau2-bench -------------------------------------------------------------------------------------------------------


def simulation(name: str = "s1", **more: Any) -> dict[str, Any]:
    toggle: dict[str, Any] = {"id": "u1", "name": "toggle_data", "arguments": {}, "requestor": "user"}
    look = {"id": "a1", "name": "get_line", "arguments": {"line": "L1"}, "requestor": "assistant"}
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": "Hi! How can I help?", "turn_idx": 0, "cost": 0.0},
        {"role": "user", "content": "No data.", "turn_idx": 1},
        {"role": "assistant", "content": None, "tool_calls": [look]},
        {"id": "a1", "role": "tool", "content": "{}", "requestor": "assistant", "error": False},
        {"role": "assistant", "content": "Switch data on."},
        {"role": "user", "content": None, "tool_calls": [toggle]},
        {"id": "u1", "role": "tool", "content": "Error: locked", "requestor": "user", "error": True},
        {"role": "user", "content": "It works. ###STOP###"},
    ]
    judged: dict[str, Any] = {
        "reward": 1.0,
        "db_check": {"db_match": False, "db_reward": 0.0},
        "env_assertions": [{"env_assertion": {"func_name": "assert_data"}, "met": True, "reward": 1.0}],
        "action_checks": [{"action": {"name": "get_line"}, "action_match": False, "action_reward": 0.0}],
        "communicate_checks": [{"info": "12", "met": True, "justification": ""}],
        "reward_basis": ["ENV_ASSERTION"],
        "reward_breakdown": {"ENV_ASSERTION": 1.0},
    }
    about = {"start_time": "", "end_time": "", "duration": 1.0, "termination_reason": "user_stop", "trial": 0}
    return {"id": name, "task_id": "[t]", **about, "reward_info": judged, "messages": messages, **more}


def results(*simulations: dict[str, Any], **more: Any) -> dict[str, Any]:
    agent, user = {"implementation": "llm_agent", "llm": "gpt-x"}, {"implementation": "user_simulator", "llm": "gpt-y"}
    environment = {"domain_name": "telecom", "policy": "Rules.", "tool_defs": None}
    info = {"git_commit": "abc", "num_trials": 1, "max_steps": 200, "max_errors": 10, "seed": 300}
    info |= {"user_info": user, "agent_info": agent, "environment_info": environment}
    scenario = {
        "persona": None,
        "instructions": {"domain": "telecom", "reason_for_call": "No data.", "known_info": "Line L1."},
    }
    tasks = [{"id": "[t]", "user_scenario": scenario, "evaluation_criteria": None}]
    return {"timestamp": "", "info": info, "tasks": tasks, "simulations": list(simulations), **more}


def test_tau2_results_are_read_with_parts_and_the_users_own_calls(tmp_path: Path) -> None:
    path = written(tmp_path / "telecom.json", results(simulation()))
    found = read_conversations(path)
    assert (found.format, found.world, found.model) == ("tau2-bench", "tau2:telecom", "gpt-x")
    assert found.details["user_model"] == "gpt-y"
    (each,) = found.conversations
    assert (each.task_id, each.reward, each.outcome) == ("[t]", 1.0, "user_ended")
    parts = {part.name: (part.value, part.weight) for part in each.parts}
    assert parts == {
        "state": (0.0, 0.0),
        "check:assert_data": (1.0, 1.0),
        "said:12": (1.0, 0.0),
        "action:get_line": (0.0, 0.0),
    }
    text = "Instructions:\n\tDomain: telecom\n\tReason for call:\n\t\tNo data.\n\tKnown info:\n\t\tLine L1."
    assert each.instructions == text

    store = tmp_path / "store"
    done = CliRunner().invoke(app, ["import", str(path), "--name", "theirs", "--store", str(store)])
    assert done.exit_code == 0, done.output
    opened = Store(store)
    turns = opened.query("select turn, author from messages order by seq").rows
    assert turns[:3] == [(0, "agent"), (0, "user"), (1, "agent")]
    said = opened.query("select author, heard from messages order by seq").rows
    assert said[-1] == ("user", "It works. ###STOP###")
    assert [author for author, _ in said].count("user_tool") == 2
    calls = opened.query("select name, side, error from tool_calls order by seq").rows
    assert calls == [("get_line", "agent", False), ("toggle_data", "user", True)]


@pytest.mark.parametrize(
    ("reason", "outcome", "reward"),
    [
        ("agent_stop", "agent_ended", 1.0),
        ("max_steps", "message_limit", 1.0),
        ("too_many_errors", "error_limit", 1.0),
        ("context_window_exceeded", "context_limit", 1.0),
        ("infrastructure_error", None, None),
    ],
)
def test_how_a_simulation_of_tau2_ended(tmp_path: Path, reason: str, outcome: str | None, reward: float | None) -> None:
    path = written(tmp_path / "telecom.json", results(simulation(termination_reason=reason)))
    (each,) = read_conversations(path).conversations
    assert (each.outcome, each.reward) == (outcome, reward)
    assert (each.error is None) == (reward is not None)


def test_a_folder_of_tau2_is_read_and_a_missing_simulation_is_named(tmp_path: Path) -> None:
    index = [{"id": "s1", "task_id": "[t]", "trial": 0}, {"id": "s2", "task_id": "[t]", "trial": 1}]
    written(tmp_path / "results.json", results(simulation_index=index))
    (tmp_path / "simulations").mkdir()
    written(tmp_path / "simulations" / "s1.json", simulation("s1"))
    with pytest.raises(DataCorrupt, match="s2"):
        read_conversations(tmp_path)
    written(tmp_path / "simulations" / "s2.json", simulation("s2", trial=1))
    assert [each.trial for each in read_conversations(tmp_path).conversations] == [0, 1]


def test_several_results_in_one_message_are_taken_apart(tmp_path: Path) -> None:
    one = simulation()
    one["messages"][3:4] = [{"role": "tool", "tool_messages": [one["messages"][3]]}]
    (each,) = read_conversations(written(tmp_path / "telecom.json", results(one))).conversations
    assert [message.role for message in each.messages][3] == "tool"


def test_voice_simulations_other_scores_and_empty_files_are_refused(tmp_path: Path) -> None:
    voice = simulation()
    voice["messages"] = None
    with pytest.raises(DataCorrupt, match="voice"):
        read_conversations(written(tmp_path / "voice.json", results(voice)))
    with pytest.raises(UsageError, match="no simulations"):
        read_conversations(written(tmp_path / "empty.json", results()))
    with pytest.raises(UsageError, match="--score"):
        read_conversations(written(tmp_path / "other.json", [tau_row()]), "pass")


def test_damaged_rows_are_named_and_nothing_else_is_raised(tmp_path: Path) -> None:
    for damaged in (
        tau_row(reward="high"),
        tau_row(traj=[{"role": "assistant"}, 3]),
        tau_row(info={"task": {"actions": [{}]}}),
    ):
        with pytest.raises(DataCorrupt):
            read_conversations(written(tmp_path / "damaged.json", [damaged]))
