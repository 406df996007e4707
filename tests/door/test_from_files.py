"""Components in a file of one's own, by `path/to/file.py:Class`: the whole way, from the command line to SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simkit.cli.app import app
from simkit.store import Store

COMPONENTS = """
import math
from simkit import AssistantMessage, Decision
from simkit.components.reward import EpisodeReward
from simkit.components.tools import (ToolReturn, ToolServer)
from simkit.components.user import UserTurn
from simkit.rewards.goal_calls import GoalCalls
from simkit.tools.builtin import BuiltinWorld
from simkit.users.agenda import AgendaUser
from simkit.agents.scripted import ScriptedAgent

ODD = "test-00001"

class Agent(ScriptedAgent):
    name = "my_agent"
    async def act(self, request):
        if request.key.task_id == ODD:
            return Decision(AssistantMessage.of("x"), say="x", tokens=-1)
        return await super().act(request)

class User(AgendaUser):
    name = "my_user"
    async def speak(self, request):
        return UserTurn(b"hello") if request.key.task_id == ODD else await super().speak(request)

class Tools(ToolServer):
    name = "my_tools"
    def __init__(self, inner):
        self.inner = inner
    def start(self, request):
        return self.inner.start(request)
    async def call(self, request):
        reply = await self.inner.call(request)
        row = {}
        row["row"] = row
        return ToolReturn(reply.result, reply.state, (row,)) if request.task.id == ODD else reply

class World(BuiltinWorld):
    def tools(self):
        return Tools(super().tools())

class Rewarding(GoalCalls):
    name = "my_reward"
    value = math.nan
    async def score_episode(self, request):
        return EpisodeReward(self.value) if request.task.id == ODD else await super().score_episode(request)

class Nan(Rewarding):
    pass

class Inf(Rewarding):
    value = math.inf

class Minus(Rewarding):
    value = -5

class Text(Rewarding):
    value = "0.7"
"""

CASES = [
    ("--agent", "Agent", "agent", "my_agent"),
    ("--user", "User", "user", "my_user"),
    ("--world", "World", "tool", "my_tools"),
    ("--reward", "Nan", "reward", "my_reward"),
    ("--reward", "Inf", "reward", "my_reward"),
    ("--reward", "Minus", "reward", "my_reward"),
    ("--reward", "Text", "reward", "my_reward"),
]


def refuse(name: str) -> None:
    raise AssertionError(f"`{name}` is no JSON")


def simkit(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    return Store(store).query(query).rows


@pytest.mark.parametrize(("flag", "name", "component", "who"), CASES)
def test_one_odd_value_costs_one_episode_and_everything_goes_on(
    flag: str, name: str, component: str, who: str, tmp_path: Path
) -> None:
    parts, store = tmp_path / "parts.py", tmp_path / "store"
    parts.write_text(COMPONENTS)
    tasks = ("--split", "test", "--tasks", "3", "--max-turns", "6", "--max-faults", "0.5")
    done = simkit("run", "rollout", *tasks, flag, f"{parts}:{name}", "--store", str(store), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1], parse_constant=refuse)
    assert (found["episodes"], found["scored"], found["faulted"]) == (3, 2, 1)
    assert found["outcomes"][f"{component}_fault"] == 1
    ((error, reward),) = rows(store, "select error, reward from episodes where task_id = 'test-00001'")
    assert who in error
    assert reward is None
    assert rows(store, "select count(*) from episode_scores where reward between 0 and 1") == [(2,)]
    assert rows(store, "select status from runs") == [("done",)]
    assert rows(store, "select count(*) from unreadable_lines") == [(0,)]
    again = simkit("resume", "last", "--store", str(store), "--json")
    assert again.exit_code == 0, again.output
    resumed = json.loads(again.stdout.splitlines()[-1], parse_constant=refuse)
    assert (resumed["episodes"], resumed["scored"], resumed["faulted"]) == (3, 2, 1)


MODEL = """
from simkit import AssistantMessage
from simkit.models.base import ChatResponse, Usage

class Claiming:
    name = "claiming"
    async def complete(self, request, key):
        return ChatResponse(message=AssistantMessage.of("Hello."), usage=Usage(-5000, 1 << 63))
"""


def test_a_usage_that_cannot_be_is_recorded_as_unknown_and_doctor_tells(tmp_path: Path) -> None:
    own, store = tmp_path / "own.py", tmp_path / "store"
    own.write_text(MODEL)
    tasks = ("--split", "test", "--tasks", "2", "--max-turns", "2", "--store", str(store), "--json")
    done = simkit("run", "rollout", *tasks, "--model", f"{own}:Claiming", "--agent", "function_calling")
    assert done.exit_code == 0, done.output
    json.loads(done.stdout.splitlines()[-1], parse_constant=refuse)
    (row,) = rows(store, "select sum(prompt_tokens), sum(completion_tokens), count(*) > 0 from model_calls")
    assert row == (0, 0, True)
    told = simkit("doctor", "last", "--store", str(store))
    assert "implausible usage (prompt_tokens is -5000)" in " ".join(told.stdout.split())
