"""Plays tasks with the scripted agent and hands back what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from simkit.actors.scope import open_scope
from simkit.agents.scripted import ScriptedAgent
from simkit.components.cast import Cast
from simkit.components.user import User
from simkit.core.events import BranchAdded, BranchExtended, Episode
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Task
from simkit.rewards.goal_calls import GoalCalls
from simkit.search.base import NoWatch, Search, WorkUnit
from simkit.tools.builtin import BuiltinWorld
from simkit.users.agenda import AgendaUser


class Played:
    """An episode with its messages, calls and spoken lines in their order (of all branches)."""

    def __init__(self, task: Task, episode: Episode, recorder: MemoryRecorder) -> None:
        self.task, self.episode = task, episode
        rows = [
            row
            for event in recorder.events
            if isinstance(event, BranchAdded | BranchExtended)
            for row in event.messages
        ]
        self.messages = tuple((row.author, row.message) for row in rows)
        self.said = tuple(row.heard or "" for row in rows if row.author == "agent" and row.heard is not None)
        self.heard = tuple(row.heard or "" for row in rows if row.author == "user")
        self.calls = tuple(
            (str(call["function"]["name"]), dict[str, Any](orjson.loads(call["function"]["arguments"])))
            for row in rows
            for call in row.message.get("tool_calls", ())
        )
        self.call_ids = tuple(str(call["id"]) for row in rows for call in row.message.get("tool_calls", ()))


async def play(
    world: BuiltinWorld,
    tasks: Sequence[Task],
    supervisor: Search,
    agent: ScriptedAgent,
    user: User | None = None,
    seed: int = 0,
) -> list[Played]:
    """Every task once, one after another."""
    played: list[Played] = []
    async with open_scope() as scope:
        cast = Cast(
            agent=scope.spawn(agent, name="agent"),
            user=scope.spawn(user or AgendaUser(world), name="user"),
            tools=scope.spawn(world.tools(), name="tools"),
            reward=scope.spawn(GoalCalls(world), name="reward"),
        )
        for task in tasks:
            recorder = MemoryRecorder()
            episode = await supervisor.play(cast, WorkUnit("run", seed, task), recorder, NoWatch())
            played.append(Played(task, episode, recorder))
    return played


def mean_reward(played: Sequence[Played]) -> float:
    """The average reward of scored episodes."""
    rewards = [one.episode.reward for one in played if one.episode.reward is not None]
    return sum(rewards) / len(rewards)
