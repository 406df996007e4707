"""Result files of tau-bench and tau2-bench, to be imported as a run.

tau-bench writes one JSON list of `{task_id, trial, reward, info, traj}`. tau2-bench writes one JSON object with `info`,
`tasks` and `simulations`, or a folder with that object in `results.json` and a file for each simulation. The packages
are not needed. Task ids, worlds and the names of parts are those of the worlds `tau:...` and `tau2:...`, so that a run
of simkit can be compared with an imported one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from simkit.components.reward import RewardPart
from simkit.core.events import Outcome
from simkit.core.messages import AssistantMessage
from simkit.core.tasks import goals_of_calls
from simkit.data.imported import REQUESTOR, ImportedConversation, ImportedFile
from simkit.data.message_forms import MessageReader
from simkit.data.row_files import FileRow, as_list, as_number, as_object, as_objects, parsed
from simkit.data.tau2_tasks import goals_of, scenario_text
from simkit.errors import DataCorrupt, UsageError

Row = Mapping[str, Any]

STOP = "###STOP###"
"""What the simulated users of both benchmarks say to hang up."""

_REWARD = "final_state"
"""The reward of simkit that these benchmarks' rewards are compared with."""

_RESPOND = "respond"
"""The action of tau-bench's text agents that speaks to the user."""

_OBSERVED = "API output: "
"""Beginning of a result in the conversations of tau-bench's text agents."""


# --- tau-bench --------------------------------------------------------------------------------------------------------


def is_tau_bench(first: Row) -> bool:
    """Whether a row is a result of tau-bench."""
    return {"task_id", "reward", "info", "traj", "trial"} <= first.keys()


def read_tau_bench(rows: Sequence[FileRow], path: Path, score: str | None) -> ImportedFile:
    """Read the results of tau-bench.

    Raises:
        DataCorrupt: a row is not one of its results.
        UsageError: another score than `reward` was named.
    """
    _check_score(score, path)
    found = [_tau_bench_row(as_object(row.value), f"{row.place} of {path}") for row in rows]
    tools = {str(goal.detail["tool"]) for each in found for goal in each.goals}
    answers = [message for each in found for message in each.messages if isinstance(message, AssistantMessage)]
    tools |= {call.name for message in answers for call in message.tool_calls or ()}
    faults = sum(each.error is not None for each in found)
    split = "the tasks are taken for those of the split `test`, since the file does not name it"
    counted = f"{faults} conversations ended in an error; tau-bench counts them with the reward 0"
    return ImportedFile(
        format="tau-bench",
        world=_domain(tools) or path.stem,
        reward=_REWARD,
        conversations=tuple(found),
        score="reward",
        notes=(split, counted) if faults else (split,),
    )


def _domain(tools: set[str]) -> str:
    for world, words in (("tau:airline", ("reservation", "flight")), ("tau:retail", ("order", "product"))):
        if any(word in tool for tool in tools for word in words):
            return world
    return ""


def _tau_bench_row(row: Row, place: str) -> ImportedConversation:
    task = as_object(row, "info", "task")
    error = as_object(row, "info").get("error")
    actions = _named(task.get("actions"), place)
    return ImportedConversation(
        task_id=f"test-{row.get('task_id')}",
        split="test",
        messages=MessageReader(place).messages(list(_as_calls(as_objects(row.get("traj")))), "traj")[0],
        instructions=str(task.get("instruction") or ""),
        goals=goals_of_calls((action["name"], as_object(action, "kwargs")) for action in actions),
        trial=_trial(row),
        reward=None if error else _number(row.get("reward"), place),
        parts=tuple(_tau_bench_parts(as_object(row, "info", "reward_info", "info"))),
        outcome=None if error else _tau_bench_outcome(as_objects(row.get("traj"))),
        error=str(error)[:2000] if error else None,
    )


def _tau_bench_parts(info: Row) -> Iterator[RewardPart]:
    """The parts of a reward: the state, or each due text (the release reports one or the other)."""
    if (state := as_number(info.get("r_actions"))) is not None:
        yield RewardPart("state", state)
    for text, said in as_object(info.get("outputs")).items():
        yield RewardPart(f"said:{text}", float(bool(said)))


def _tau_bench_outcome(messages: Sequence[Row]) -> Outcome:
    last: Row = messages[-1] if messages else {}
    if last.get("role") == "user" and STOP in str(last.get("content")):
        return "user_ended"
    transferred = last.get("name") == "transfer_to_human_agents" or "Transfer successful" in str(last.get("content"))
    return "agent_ended" if transferred else "decision_limit"


def _as_calls(messages: Sequence[Row]) -> Iterator[Row]:
    """The messages of a conversation, those of text agents in the form of tool calls.

    Text agents write `Action:` and a JSON object; results come back as messages of the user.
    """
    waiting: str | None = None
    for number, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role == "user" and waiting and str(content).startswith(_OBSERVED):
            text = str(content).removeprefix(_OBSERVED)
            yield {"role": "tool", "tool_call_id": waiting, "content": text, **_failed(text)}
        elif role == "tool":
            yield {**message, **_failed(content)}
        else:
            message = _text_action(message, number) if role == "assistant" else message
            calls = as_objects(message.get("tool_calls"))
            waiting = str(calls[0].get("id")) if calls else None
            yield message


def _failed(text: object) -> dict[str, bool]:
    return {"error": True} if isinstance(text, str) and text.startswith(("Error", "Unknown action ")) else {}


def _text_action(message: Row, number: int) -> Row:
    """A message of a text agent as a call or as words; others stay."""
    content = message.get("content")
    if message.get("tool_calls") or not isinstance(content, str) or "Action:" not in content:
        return message
    thought, _, written = content.rpartition("Action:")
    action: Row = {}
    with suppress(ValueError):
        action = as_object(json.loads(written))
    name, arguments = action.get("name", _RESPOND), action.get("arguments")
    reasoning = thought.strip().removeprefix("Thought:").strip()
    kept = {"role": "assistant"} | ({"reasoning_content": reasoning} if reasoning else {})
    if name == _RESPOND:
        return {**kept, "content": str(as_object(arguments).get("content", written.strip()))}
    call = {"id": f"call_{number}", "type": "function", "function": {"name": str(name), "arguments": arguments}}
    return {**kept, "content": None, "tool_calls": [call]}


# --- tau2-bench -------------------------------------------------------------------------------------------------------

_ENDS: Mapping[str, Outcome] = {
    "user_stop": "user_ended",
    "agent_stop": "agent_ended",
    "max_steps": "message_limit",
    "timeout": "time_limit",
    "too_many_errors": "error_limit",
    "context_window_exceeded": "context_limit",
    "agent_error": "agent_fault",
    "user_error": "user_fault",
}
_BROKEN = ("infrastructure_error", "unexpected_error")
"""Ends that say nothing about the agent."""

_PARTS = (
    ("ENV_ASSERTION", "env_assertions", "check", "met"),
    ("COMMUNICATE", "communicate_checks", "said", "met"),
    ("ACTION", "action_checks", "action", "action_match"),
    ("NL_ASSERTION", "nl_assertions", "judged", "met"),
)
"""Components of a reward: name, field with its checks, beginning of the parts' names here, field of the result."""


def is_tau2(first: Row) -> bool:
    """Whether a row is the whole of a result file of tau2-bench."""
    return {"info", "tasks"} <= first.keys() and "environment_info" in as_object(first, "info")


def read_tau2(results: Row, path: Path, score: str | None) -> ImportedFile:
    """Read the results of tau2-bench; the simulations may be files in a folder beside `path`.

    Raises:
        DataCorrupt: a task or simulation is not one of its own, or files of simulations are missing.
        UsageError: another score than `reward` was named, or there are no simulations.
    """
    _check_score(score, path)
    info = as_object(results, "info")
    tasks = {str(task.get("id")): task for task in as_objects(results["tasks"])}
    simulations = as_objects(results.get("simulations")) or _simulation_files(results, path)
    if not simulations:
        raise UsageError(f"{path} has no simulations; there is nothing to import")
    found = [_simulation(each, tasks, f"simulation {each.get('id')} of {path}") for each in simulations]
    agent, user = (as_object(info, f"{side}_info") for side in ("agent", "user"))
    facts = {"agent": agent.get("implementation"), "user": user.get("implementation"), "user_model": user.get("llm")}
    facts |= {name: info.get(name) for name in ("git_commit", "seed", "max_steps", "max_errors")}
    return ImportedFile(
        format="tau2-bench",
        world=f"tau2:{as_object(info, 'environment_info').get('domain_name')}",
        reward=_REWARD,
        model=agent.get("llm"),
        conversations=tuple(sorted(found, key=lambda each: each.trial or 0)),
        score="reward",
        details={name: value for name, value in facts.items() if value is not None},
    )


def _simulation_files(results: Row, path: Path) -> list[Row]:
    """The simulations of a folder; each that the index names must be there."""
    files = {file.stem: file for file in sorted((path.parent / "simulations").glob("*.json"))}
    named = [str(entry.get("id")) for entry in as_objects(results.get("simulation_index"))]
    missing = [name for name in named if name not in files]
    if missing:
        raise DataCorrupt(
            f"{path} names {len(missing)} simulations that have no file in {path.parent / 'simulations'} (first: "
            f"{missing[0]}.json); copy the whole folder"
        )
    return [as_object(parsed(file.read_bytes(), f"{file}")[0]) for file in files.values()]


def _simulation(row: Row, tasks: Mapping[str, Row], place: str) -> ImportedConversation:
    if not isinstance(row.get("messages"), list):
        raise DataCorrupt(f"{place} has no messages; simulations of voice agents (`ticks`) cannot be imported")
    task = tasks.get(str(row.get("task_id")), {})
    reason = str(row.get("termination_reason"))
    judged = as_object(row, "reward_info")
    broken = reason in _BROKEN
    given = list(_tau2_messages(row["messages"]))
    actions = _named(as_object(task, "evaluation_criteria").get("actions"), place)
    return ImportedConversation(
        task_id=str(row.get("task_id")),
        opening=_opening(task, given),
        messages=MessageReader(place).messages(given, "messages")[0],
        instructions=scenario_text(as_object(task["user_scenario"])) if task.get("user_scenario") else "",
        goals=goals_of([{**action, "arguments": as_object(action, "arguments")} for action in actions]),
        trial=_trial(row),
        reward=None if broken else _number(judged.get("reward"), place),
        parts=tuple(_tau2_parts(judged)),
        outcome=_ENDS.get(reason),
        error=f"tau2-bench reports {reason}" if broken else None,
    )


def _opening(task: Row, messages: Sequence[Row]) -> int:
    """How many messages came before the agent's model was asked: the task's history, or the fixed greeting."""
    if history := as_list(as_object(task, "initial_state").get("message_history")):
        return len(list(_tau2_messages(history)))
    first: Row = messages[0] if messages else {}
    return int(first.get("role") == "assistant" and not first.get("tool_calls"))


def _tau2_parts(judged: Row) -> Iterator[RewardPart]:
    """The parts of a reward, named as those of `final_state`: those that do not decide have the weight 0.

    A component without its checks is one part.
    """
    decisive = as_object(judged, "reward_breakdown")
    state = as_number(as_object(judged, "db_check").get("db_reward"))
    state = as_number(decisive.get("DB")) if state is None else state
    if state is not None:
        yield RewardPart("state", state, float("DB" in decisive))
    for component, column, name, met in _PARTS:
        checks = as_objects(judged.get(column))
        weight = float(component in decisive)
        for check in checks:
            yield RewardPart(f"{name}:{_checked(check)}", float(bool(check.get(met))), weight)
        value = as_number(decisive.get(component))
        if not checks and value is not None:
            yield RewardPart(name, value)


def _checked(check: Row) -> str:
    """What a check is about: a text, a statement, the function of a condition or the name of a call."""
    named = as_object(check, "env_assertion") or as_object(check, "action")
    found = (check.get("info"), check.get("nl_assertion"), named.get("func_name"), named.get("name"))
    return str(next((each for each in found if each), ""))[:500]


def _tau2_messages(messages: Sequence[Any]) -> Iterator[Row]:
    """The messages in the OpenAI chat form; those of the user's own tools say so in the field `requestor`."""
    for message in as_objects(messages):
        if parts := as_list(message.get("tool_messages")):
            yield from _tau2_messages(parts)
            continue
        role, calls = message.get("role"), as_objects(message.get("tool_calls"))
        kept: dict[str, Any] = {"role": role, "content": message.get("content")}
        if calls:
            kept["tool_calls"] = [_tau2_call(call) for call in calls]
        if role == "tool":
            kept |= {"tool_call_id": str(message.get("id")), "content": message.get("content") or ""}
            kept |= {"error": True} if message.get("error") else {}
        if message.get("requestor") == "user" or (role == "user" and calls):
            kept |= {REQUESTOR: "user", "role": "assistant" if calls else role}
        yield kept


def _tau2_call(call: Row) -> Row:
    function = {"name": str(call.get("name")), "arguments": as_object(call, "arguments")}
    return {"id": str(call.get("id")), "type": "function", "function": function}


# --- both -------------------------------------------------------------------------------------------------------------


def _check_score(score: str | None, path: Path) -> None:
    if score not in (None, "reward"):
        raise UsageError(f"{path} has no score {score!r}; its conversations have one, `reward`: leave --score out")


def _trial(row: Row) -> int | None:
    trial = row.get("trial")
    return trial if isinstance(trial, int) and trial >= 0 else None


def _named(actions: Any, place: str) -> list[Row]:
    """The gold actions of a task."""
    found = as_objects(actions)
    if not all(isinstance(action.get("name"), str) for action in found):
        raise DataCorrupt(f"{place}: an action of the task has no name; write the file again")
    return found


def _number(value: Any, place: str) -> float | None:
    number = as_number(value)
    if number is None and value is not None:
        raise DataCorrupt(f"{place}: the reward is {value!r:.40}; it must be a number")
    return number
