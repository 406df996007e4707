"""The list-driven agent and user: a whole conversation in a few lines, without a model."""

from __future__ import annotations

import pytest

from simkit.actors.scope import open_scope
from simkit.components.cast import Cast
from simkit.components.reward import Reward
from simkit.core.events import BranchAdded
from simkit.errors import UsageError
from simkit.search.base import NoWatch, WorkUnit
from simkit.search.rollout import Rollout
from simkit.testing import MemoryRecorder, fixed_agent, fixed_user
from simkit.tools.builtin import BuiltinWorld

pytestmark = pytest.mark.anyio


async def test_a_conversation_without_a_model() -> None:
    world, recorder = BuiltinWorld(), MemoryRecorder()
    agent = fixed_agent([("search_hotel", {"area": "harbour"}), "Here is one.", "You are welcome."])
    user = fixed_user(["A hotel in the harbour, please.", "Thank you.", "Goodbye."])
    async with open_scope() as scope:
        cast = Cast(scope.spawn(agent), scope.spawn(user), scope.spawn(world.tools()), scope.spawn(Reward()))
        episode = await Rollout().play(cast, WorkUnit("run", 0, world.tasks("val")[0]), recorder, NoWatch())
    assert (episode.outcome, episode.turns, episode.faults) == ("user_ended", 2, 0)
    (called,) = [call for event in recorder.events if isinstance(event, BranchAdded) for call in event.tool_calls]
    assert called.result[0]["area"] == "harbour"


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one decision"):
        fixed_agent([])
    with pytest.raises(UsageError, match="at least one line"):
        fixed_user([])
