"""Playouts: one conversation continued from a leaf to its end, without branches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

import anyio

from simkit.components.reward import EpisodeReward, Hit
from simkit.core.events import Outcome
from simkit.core.records import Counts
from simkit.core.tasks import Goal
from simkit.search.episode import Ending, EpisodeContext
from simkit.search.tree import (
    AnsweredTurn,
    EndedLeaf,
    Leaf,
    PlayedTurn,
    ask_users,
    end_branches,
    record_answer,
    record_played,
    take_turn,
)
from simkit.search.turn import without


@dataclass(frozen=True, slots=True)
class Playout:
    """A conversation as far as it has been played from a leaf.

    Attributes:
        leaf: its current position; `leaf.turn` counts the agent's turns, `leaf.state` holds the conversation.
        remaining, achieved: the goals that are left, and the hits on goals that were reached.
        counts: turns, branches and tool calls so far.
        closed: its end; None while it can continue.
        reward: its reward after scoring; None before, and if a fault ended it.
        rewarded: it was scored, and its reward is higher than that of a failed conversation.
    """

    leaf: Leaf
    remaining: tuple[Goal, ...]
    achieved: tuple[Hit, ...] = ()
    counts: Counts = field(default_factory=Counts)
    closed: EndedLeaf | None = None
    reward: EpisodeReward | None = None
    rewarded: bool = False

    @property
    def value(self) -> float:
        """The reward as a number for comparisons; minus infinity if there is no reward."""
        return -inf if self.reward is None else self.reward.value


async def play_out(context: EpisodeContext, playout: Playout) -> Playout:
    """Play a conversation from its current position to its end, or to the wall-clock limit."""
    with anyio.move_on_after(context.limits.wall_seconds):
        while playout.closed is None:
            playout = await play_round(context, playout)
    return playout


async def play_round(context: EpisodeContext, playout: Playout) -> Playout:
    """Play one turn of the agent, and the user's answer to it."""
    playout = await _agent(context, playout)
    if playout.closed is None:
        playout = await _user(context, playout)
    await context.recorder.commit()
    return playout


async def _agent(context: EpisodeContext, playout: Playout) -> Playout:
    played = await take_turn(context, playout.leaf, playout.remaining)
    record_played(context, played, credited=True, outcome=played.turn.outcome)
    if played.hits:
        context.watch.hit(len(played.hits))
    return _after(playout, played)


async def _user(context: EpisodeContext, playout: Playout) -> Playout:
    (answered,) = await ask_users(context, (playout.leaf,), playout.remaining)
    record_answer(context, answered, credited=True)
    playout = _heard(context, playout, answered)
    if playout.closed is not None:
        end_branches(context, (playout.closed,))
        return playout
    outcome = playout.leaf.state.spent.exceeded(context.limits)
    return playout if outcome is None else replace(playout, closed=end(context, playout, outcome))


def _heard(context: EpisodeContext, playout: Playout, answered: AnsweredTurn) -> Playout:
    """The conversation after the user's answer."""
    playout = replace(playout, leaf=answered.leaf(), closed=answered.end)
    if not answered.answer.calls:
        return playout
    if answered.hits:
        context.watch.hit(len(answered.hits))
    return replace(
        playout,
        remaining=without(playout.remaining, answered.hits),
        achieved=(*playout.achieved, *answered.hits),
        counts=playout.counts.plus(calls=len(answered.answer.calls)),
    )


def _after(playout: Playout, played: PlayedTurn) -> Playout:
    turn = played.turn
    return Playout(
        leaf=played.leaf(),
        remaining=without(playout.remaining, played.hits),
        achieved=(*playout.achieved, *played.hits),
        counts=playout.counts.plus(turn=played.parent.next_turn, branches=1, calls=len(turn.calls)),
        closed=played.end,
    )


def end(context: EpisodeContext, playout: Playout, outcome: Outcome) -> EndedLeaf:
    """Record the end of a conversation; a fork that has not been played yet has no branch to end."""
    closed = EndedLeaf(playout.leaf.id, outcome)
    if not playout.leaf.forked:
        end_branches(context, (closed,))
    return closed


def ending_of(context: EpisodeContext, playout: Playout) -> Ending:
    """The ending of a conversation; one that has not ended was stopped by the wall-clock limit."""
    closed = playout.closed or end(context, playout, "time_limit")
    return Ending(
        outcome=closed.outcome,
        final=playout.leaf.final(),
        achieved=playout.achieved,
        counts=playout.counts.plus(faults=int(closed.error is not None)),
        error=closed.error,
        scored=closed.error is None,
        failed=closed.outcome == "context_limit",
    )
