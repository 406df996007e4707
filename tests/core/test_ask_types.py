"""What pyright must infer; running it proves nothing, type-checking it does."""

from __future__ import annotations

from typing import assert_type

from simkit.actors.actor import ActorRef, Request
from simkit.components.agent import Act, Decision
from simkit.components.reward import EpisodeReward as Score
from simkit.components.reward import ListGoals, ScoreEpisode
from simkit.components.user import Speak, UserTurn
from simkit.core.tasks import Goal


async def typed_asks(ref: ActorRef, act: Act, speak: Speak, goals: ListGoals, episode: ScoreEpisode) -> None:
    assert_type(await ref.ask(act), Decision)
    assert_type(await ref.ask(speak), UserTurn)
    assert_type(await ref.ask(goals), tuple[Goal, ...])
    assert_type(await ref.ask(episode), Score)


def upcast(request: Request[Decision]) -> Request[object]:
    return request


def test_a_request_names_its_reply_at_run_time_too() -> None:
    assert Request[Decision] in Act.__orig_bases__  # type: ignore[attr-defined]
