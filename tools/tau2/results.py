"""Result files as tau2-bench writes them, which its own programs read and score again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from simkit.components.results import RecordedEpisode, RecordedMessage, RecordedRun
from simkit.core.messages import JsonObject
from simkit.errors import UsageError

Json = Mapping[str, Any]

_ENDS: Final[Mapping[str, str]] = {
    "user_ended": "user_stop",
    "agent_ended": "agent_stop",
    "goals_done": "agent_stop",
    "error_limit": "too_many_errors",
    "agent_fault": "agent_error",
    "user_fault": "user_error",
    "time_limit": "timeout",
    "context_limit": "context_window_exceeded",
    "tool_fault": "infrastructure_error",
    "model_fault": "infrastructure_error",
    "reward_fault": "infrastructure_error",
}
"""Reasons for the end by outcome; every other outcome is a limit, `max_steps`."""

_OLDER: Final[Mapping[str, str]] = {
    "timeout": "max_steps",
    "context_window_exceeded": "agent_error",
    "infrastructure_error": "agent_error",
}
"""What the programs of release 2025 know instead of newer reasons."""

_BASIS: Final[Mapping[str, str]] = {
    "state": "DB",
    "check": "ENV_ASSERTION",
    "said": "COMMUNICATE",
    "action": "ACTION",
    "judged": "NL_ASSERTION",
}
"""Components of a reward by the beginning of a part's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What a result file says about the benchmark.

    Attributes:
        older: the file is for the programs of release 2025, which know fewer reasons for an end.
        tasks: the release's tasks by id; `instructions` their texts, as runs record them.
    """

    domain: str
    policy: str
    older: bool
    solo: bool
    tasks: Mapping[str, Json]
    instructions: Mapping[str, str]
    max_messages: int
    max_errors: int


def tau2_results(run: RecordedRun, benchmark: Benchmark) -> JsonObject:
    """A run as tau2-bench's results.

    Calls whose arguments are no JSON object are left out, since the format cannot hold them.

    Raises:
        UsageError: a task is not one of this release.
    """
    for episode in run.episodes:
        if benchmark.instructions.get(episode.task_id) != episode.instructions:
            raise UsageError(
                f"the task {episode.task_id} of the run is not that of this release of tau2-bench; results can be "
                "written only for runs of the release that the world opens (`release=`)"
            )
    played = {episode.task_id for episode in run.episodes}
    return {
        "timestamp": _moment(run.started),
        "info": _info(run, benchmark),
        "tasks": [task for name, task in benchmark.tasks.items() if name in played],
        "simulations": [_simulation(episode, run, benchmark) for episode in run.episodes],
    }


def _info(run: RecordedRun, benchmark: Benchmark) -> JsonObject:
    agent, user = ("llm_agent_solo", "dummy_user") if benchmark.solo else (run.agent or "llm_agent", run.user or "user")
    return {
        "git_commit": f"simkit {run.version}",
        "num_trials": 1 + max((episode.trial for episode in run.episodes), default=0),
        "max_steps": benchmark.max_messages,
        "max_errors": benchmark.max_errors,
        "user_info": {"implementation": user, "llm": run.user_model, "llm_args": None},
        "agent_info": {"implementation": agent, "llm": run.model, "llm_args": None},
        "environment_info": {"domain_name": benchmark.domain, "policy": benchmark.policy, "tool_defs": None},
        "seed": run.seed,
    }


def _simulation(episode: RecordedEpisode, run: RecordedRun, benchmark: Benchmark) -> JsonObject:
    reason = _ENDS.get(episode.outcome, "max_steps")
    messages = list(_messages(episode.messages))
    return {
        "id": episode.episode_id,
        "task_id": episode.task_id,
        "timestamp": _moment(episode.finished),
        "start_time": _moment(episode.started),
        "end_time": _moment(episode.finished),
        "duration": max(0.0, episode.finished - episode.started),
        "termination_reason": _OLDER.get(reason, reason) if benchmark.older else reason,
        "reward_info": _reward(episode),
        "messages": [{**message, "turn_idx": place} for place, message in enumerate(messages)],
        "trial": episode.trial,
        "seed": run.seed,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _reward(episode: RecordedEpisode) -> JsonObject | None:
    """The reward with its breakdown; None for a fault."""
    if episode.reward is None:
        return None
    held: dict[str, bool] = {}
    for part in episode.parts:
        if part.weight and (name := _BASIS.get(part.name.partition(":")[0])):
            held[name] = held.get(name, True) and bool(part.value)
    state = next((part.value for part in episode.parts if part.name == "state"), None)
    return {
        "reward": episode.reward,
        "db_check": None if state is None else {"db_match": bool(state), "db_reward": state},
        "reward_basis": list(held) or None,
        "reward_breakdown": {name: float(value) for name, value in held.items()} or None,
    }


def _messages(messages: Sequence[RecordedMessage]) -> Iterator[JsonObject]:
    """The messages of both sides, each call with its result.

    Notes of the runtime are left out, and so are decisions of the agent that neither called nor spoke.
    """
    waiting: dict[str, None] = {}
    for place, message in enumerate(messages):
        match message.author:
            case "user":
                yield {"role": "user", "content": message.heard or ""}
            case "system" | "runtime":
                pass
            case "agent" | "tool" | "user_tool":
                if message.call is None and message.message["role"] == "assistant":
                    calls = _calls(messages, place)
                    waiting = dict.fromkeys(call["id"] for call in calls)
                    yield from _decision(message, calls)
                else:
                    result = _result(message)
                    if result["id"] in waiting:
                        del waiting[result["id"]]
                        yield result


def _calls(messages: Sequence[RecordedMessage], place: int) -> list[JsonObject]:
    """The calls of the decision at `place`: as its message has them, or those of a text agent by their results."""
    decision = messages[place]
    made = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in _written(decision)]
    if not made:
        for message in messages[place + 1 :]:
            if message.author != "tool" or message.call is None:
                break
            made.append((message.call["id"], message.call["name"], message.call["arguments"]))
    requestor = _requestor(decision)
    return [
        {"id": id, "name": name, "arguments": arguments, "requestor": requestor}
        for id, name, text in made
        if (arguments := _arguments(text)) is not None
    ]


def _written(message: RecordedMessage) -> Sequence[JsonObject]:
    return message.message.get("tool_calls") or ()


def _requestor(message: RecordedMessage) -> str:
    return "user" if message.author == "user_tool" else "assistant"


def _decision(message: RecordedMessage, calls: list[JsonObject]) -> Iterator[JsonObject]:
    role = _requestor(message)
    if calls:
        yield {
            "role": role,
            "content": message.message.get("content") if _written(message) else None,
            "tool_calls": calls,
        }
    elif message.heard is not None:
        yield {"role": role, "content": message.heard}


def _result(message: RecordedMessage) -> JsonObject:
    """The result of a call; for text agents, which read it in a form of their own, as the tool gave it."""
    if message.message["role"] == "tool":
        id, text = message.message["tool_call_id"], message.message["content"]
    else:
        id, text = (message.call["id"], message.call["text"]) if message.call else ("", "")
    return {"id": id, "role": "tool", "content": text, "requestor": _requestor(message), "error": message.error}


def _arguments(text: str) -> JsonObject | None:
    try:
        arguments: Any = json.loads(text or "{}")
    except ValueError:
        return None
    return cast("JsonObject", arguments) if isinstance(arguments, dict) else None
