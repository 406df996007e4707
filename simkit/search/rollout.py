"""Rollout: one conversation from start to end, to be scored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import anyio

from simkit.components.cast import Cast
from simkit.components.reward import Hit
from simkit.core.events import Counts, Episode, Outcome, Recorder
from simkit.core.limits import Limits
from simkit.core.tasks import Goal
from simkit.search.base import Watch, WorkUnit
from simkit.search.episode import Ending, Scene, Stage, play_episode
from simkit.search.tree import (
    Closed,
    Leaf,
    Played,
    Seat,
    end_branches,
    open_tree,
    play_seat,
    record_played,
    users_answer,
)
from simkit.search.turn import without


@dataclass(frozen=True, slots=True)
class Line:
    """A conversation between two of its phases; `closed` once it has ended."""

    leaf: Leaf
    remaining: tuple[Goal, ...]
    achieved: tuple[Hit, ...] = ()
    counts: Counts = field(default_factory=Counts)
    closed: Closed | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """Plays one conversation until the user or the agent ends it, a limit hits, or something fails.

    It goes on after the last goal, as evaluations in the field do: how a conversation ends is part of what is measured,
    and rewards on the final state may still be lost. A conversation that anybody's fault ended has no reward (an agent
    that raised included): it is counted in `faults`, and left out of averages. One that outgrew the context of the
    agent's model is the agent's failure: its outcome is `context_limit` and its reward 0.
    """

    limits: Limits = field(default_factory=Limits)

    @property
    def name(self) -> str:
        """What the store calls it."""
        return "rollout"

    @property
    def branching(self) -> bool:
        """It does not fork."""
        return False

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        """Play one work unit to its end.

        Raises:
            StoreError: events cannot be recorded.
        """
        return await play_episode(Stage(cast, unit, self.limits, recorder, watch), self.name, self._play)

    async def _play(self, scene: Scene) -> Ending:
        stage = scene.stage
        stage.watch.live(1)
        try:
            leaf, closed = await open_tree(scene)
            return ending_of(stage, await play_out(stage, Line(leaf, stage.goals, closed=closed)))
        finally:
            stage.watch.live(-1)


async def play_out(stage: Stage, line: Line) -> Line:
    """Play a conversation from where it is to its end, or to the wall-clock limit."""
    with anyio.move_on_after(stage.limits.wall_seconds):
        while line.closed is None:
            line = await _agent(stage, line)
            if line.closed is None:
                line = await _user(stage, line)
            await stage.recorder.commit()
    return line


async def _agent(stage: Stage, line: Line) -> Line:
    played = await play_seat(stage, Seat(line.leaf, line.leaf.path, forked=False), line.remaining)
    record_played(stage, played, credited=True, outcome=played.turn.outcome)
    if played.hits:
        stage.watch.hit(len(played.hits))
    return _after(line, played)


async def _user(stage: Stage, line: Line) -> Line:
    (leaf,), closed = await users_answer(stage, (line.leaf,))
    line = replace(line, leaf=leaf)
    if closed:
        return replace(line, closed=closed[0])
    outcome = line.leaf.state.spent.exceeded(stage.limits)
    return line if outcome is None else replace(line, closed=_end(stage, line, outcome))


def _after(line: Line, played: Played) -> Line:
    turn = played.turn
    return Line(
        leaf=played.leaf(),
        remaining=without(line.remaining, played.hits),
        achieved=(*line.achieved, *played.hits),
        counts=line.counts.plus(turn=played.seat.turn, branches=1, calls=len(turn.calls)),
        closed=None if turn.outcome is None else Closed(played.id, turn.outcome, turn.error),
    )


def _end(stage: Stage, line: Line, outcome: Outcome) -> Closed:
    closed = Closed(line.leaf.id, outcome)
    end_branches(stage, (closed,))
    return closed


def ending_of(stage: Stage, line: Line) -> Ending:
    """How a conversation ended; one that has not was cut by the wall-clock limit."""
    closed = line.closed or _end(stage, line, "time_limit")
    return Ending(
        outcome=closed.outcome,
        final=line.leaf.final(),
        achieved=line.achieved,
        counts=line.counts.plus(faults=int(closed.error is not None)),
        error=closed.error,
        scored=closed.error is None,
        failed=closed.outcome == "context_limit",
    )
