from __future__ import annotations

from pathlib import Path

import pytest

from simkit import Run
from simkit.components.user import Speak, User, UserTurn
from simkit.core.messages import AssistantMessage, ToolCall
from simkit.models import CallKey, ChatRequest, ScriptedModel
from simkit.search.rollout import Rollout
from simkit.users.goal import GoalUser

pytestmark = pytest.mark.anyio


class Doubtful(User):
    """Doubts its second turn, and hangs up in the third."""

    name = "doubtful"

    async def speak(self, request: Speak) -> UserTurn:
        turn = request.key.turn
        flags = ("repeated", "unknown_value: south", "unknown_value: east") if turn == 1 else ()
        return UserTurn(f"turn {turn}", end=turn == 2, flags=flags)


async def test_flags_are_a_column_of_the_messages_and_a_view(tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=1, name="doubts") as run:
        world = run.world("builtin")
        await run.play(Rollout(), run.cast(world, user=Doubtful()), run.tasks(world, "test", 2))
        said = await run.query("FROM messages SELECT DISTINCT content, flags WHERE author = 'user' ORDER BY content")
        counts = await run.query("FROM user_flags SELECT run, flag, turns, share_of_turns, episodes")
        others = await run.query("FROM messages SELECT count(*) WHERE author <> 'user' AND len(flags) > 0")
    assert said.rows == [
        ("turn 0", []),
        ("turn 1", ["repeated", "unknown_value: south", "unknown_value: east"]),
        ("turn 2", []),
    ]
    assert counts.rows == [("doubts", "repeated", 2, 2 / 6, 2), ("doubts", "unknown_value", 2, 2 / 6, 2)]
    assert others.rows == [(0,)]


def hasty(request: ChatRequest, key: CallKey) -> AssistantMessage:
    """A user's model that hangs up in its first answer to the agent."""
    if key.turn.turn == 0:
        return AssistantMessage.of("Hello there.")
    return AssistantMessage.of(None, (ToolCall.of("c", "end_conversation", {"message": "Bye.", "reason": "done"}),))


async def test_a_goal_user_that_leaves_early_is_on_record(tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=1) as run:
        world = run.world("builtin")
        cast = run.cast(world, user=GoalUser(ScriptedModel(hasty), world))
        (episode,) = await run.play(Rollout(), cast, run.tasks(world, "test", 1))
        flags = await run.query("FROM user_flags SELECT flag, turns, average_reward")
    assert episode.outcome == "user_ended"
    assert flags.rows == [("ended_early", 1, 0.0)]
