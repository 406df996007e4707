"""JOSH: a beam search over whole agent turns that harvests the tree at every reward.

From "Sparse Rewards Can Self-Train Dialogue Agents" (arXiv 2409.04617), section 3; the defaults are the paper's. All
live leaves step at the same time; decisions and records are in path order, so one seed gives one tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal, TypeAlias, TypeVar, assert_never, get_args

import anyio

from simkit.components.cast import Cast
from simkit.components.reward import Hit
from simkit.components.state import State
from simkit.core.events import Episode, Outcome, TreeHarvested
from simkit.core.limits import Limits
from simkit.core.recorder import Recorder
from simkit.core.records import Counts
from simkit.core.tasks import Goal
from simkit.errors import Fault, UsageError
from simkit.search.base import Watch, WorkUnit, refuse_unforkable
from simkit.search.episode import (
    Ending,
    EpisodeContext,
    FinalBranch,
    PreparedEpisode,
    fault_outcome,
    play_episode,
    record_fault,
)
from simkit.search.tree import (
    AnsweredTurn,
    EndedLeaf,
    Leaf,
    PlayedTurn,
    ask_users,
    end_branches,
    expand,
    living,
    open_tree,
    record_answer,
    record_played,
    take_turn,
    together,
)
from simkit.search.turn import kept_world, without

Winner: TypeAlias = Literal["first", "earliest", "most_goals"]
BranchBy: TypeAlias = Literal["turn", "action"]

NOT_THE_AGENTS: frozenset[str] = frozenset({"tool_fault", "model_fault", "reward_fault"})
"""Outcomes that say nothing about the agent; a search that ended only with these is not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamSearch:
    """Settings for growing and pruning a tree.

    Attributes:
        factor: number of children per leaf when the tree expands.
        beam: maximum number of live leaves.
        winner: the leaf whose reward is taken if several leaves earn one in a step. `first`: the leftmost in path order
            (as in the paper). `earliest`: the one with the fewest decisions, then the leftmost. `most_goals`: the one
            with the most goals, then the leftmost.
        eager: the first reward cancels siblings in progress. This saves their calls but loses them as negative
            examples, and reruns may differ, because the first leaf then depends on timing.
        branch_by: fork before each `turn` (as in the paper) or before each `action`, i.e. each decision within a turn.

    Raises:
        UsageError: a value is invalid.
    """

    factor: int = 2
    beam: int = 8
    winner: Winner = "first"
    eager: bool = False
    branch_by: BranchBy = "turn"

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise UsageError(
                f"the branching factor is {self.factor}; it must be at least 2 (for no branching: rollout)"
            )
        if self.beam < 1:
            raise UsageError(f"the beam is {self.beam}; it must be at least 1")
        _one_of("winner", self.winner, get_args(Winner))
        _one_of("branch_by", self.branch_by, get_args(BranchBy))

    @property
    def conversations(self) -> int:
        """Maximum number of leaves that a tree can have at once."""
        return max(1, self.beam // self.factor * self.factor)


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"`{name}` is {value!r}; choose one of: {', '.join(choices)}")


@dataclass(frozen=True, slots=True)
class SearchState:
    """A search between two of its phases.

    `final` is the last winner's branch, or the opening before the first winner. `ended` is the provisional outcome: the
    most recent leaf that ended normally decides; a fault counts only if no leaf has ended normally.
    """

    leaves: tuple[Leaf, ...]
    remaining: tuple[Goal, ...]
    final: FinalBranch
    achieved: tuple[Hit, ...] = ()
    harvests: int = 0
    ended: EndedLeaf | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def going(self) -> bool:
        """Whether the search continues; once all goals are taken, no leaf is left."""
        return bool(self.leaves)

    def count(self, played: Sequence[PlayedTurn]) -> SearchState:
        """The tree with its counts updated by the turns of one step."""
        calls = sum(len(one.turn.calls) for one in played)
        turn = max(one.parent.next_turn for one in played)
        return replace(self, counts=self.counts.plus(turn=turn, branches=len(played), calls=calls))

    def close(self, closed: Sequence[EndedLeaf]) -> SearchState:
        """The tree with the ends of some leaves registered."""
        faults = [end for end in closed if end.error is not None]
        orderly = [end for end in closed if end.error is None]
        ended = self.ended
        if orderly:
            ended = orderly[0]
        elif faults and (ended is None or ended.error is not None):
            ended = faults[0]
        return replace(self, ended=ended, counts=self.counts.plus(faults=len(faults)))


@dataclass(frozen=True, slots=True)
class Josh:
    """Searches for every sparse goal of a task, and marks the branches that led to them.

    The reward component scores an episode by the last winner and the achieved goals; by default the reward is their
    share of all goals. A fault ends only one branch. An episode is unscored (reward None) if it could not start, or if
    no leaf ended normally because models, tools or rewards failed. A wall-clock limit drops the step in progress and
    scores the goals achieved before it. A branch that exceeds the context of the agent's model ends like one that
    reached a limit, and reaches no goal in that turn.
    """

    name: ClassVar[str] = "josh"
    search: BeamSearch = field(default_factory=BeamSearch)
    limits: Limits = field(default_factory=Limits)

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        """Play one work unit to its end.

        Raises:
            NotForkable: a component of the cast cannot be forked; raised before any work is done.
            UsageError: the agent is deterministic (temperature 0), so that all branches would be the same, or a
                component allows fewer sessions than the tree may have leaves.
            StoreError: events cannot be recorded.
        """
        refuse_unforkable(self.name, cast)
        context = EpisodeContext(cast, unit, self.limits, recorder, watch)
        return await play_episode(context, self.name, self._play, self.search.conversations)

    async def _play(self, prepared: PreparedEpisode) -> Ending:
        context = prepared.context
        root, closed = await open_tree(prepared)
        final, counts = FinalBranch(None, root.state.conversation, calls=root.calls), Counts(calls=len(root.calls))
        if closed is None:
            try:
                final = replace(final, world=kept_world(root.state, context.key("", 0)))
            except Fault as fault:
                closed = EndedLeaf(root.id, fault_outcome(fault), str(fault))
                end_branches(context, (closed,))
                record_fault(context, root.id, fault)
        await context.recorder.commit()
        if closed is not None:
            return _ending(SearchState((), context.goals, final, counts=counts).close([closed]))
        return _ending(await self._grow(context, SearchState((root,), context.goals, final, counts=counts)))

    async def _grow(self, context: EpisodeContext, tree: SearchState) -> SearchState:
        """Step until the search is finished; at a wall-clock limit, return the tree after the last complete phase."""
        live = LiveLeafCount(context.watch)
        try:
            with anyio.move_on_after(context.limits.wall_seconds):
                while live.of(tree).going:
                    tree = live.of(await self._agents(context, tree))
                    if tree.going:
                        tree = await self._users(context, tree)
                    await context.recorder.commit()
            return _end_all(context, tree, "time_limit") if tree.going else tree
        finally:
            live.stop()

    async def _agents(self, context: EpisodeContext, tree: SearchState) -> SearchState:
        """Expand the tree, play a turn of all leaves concurrently, and harvest if one reached a goal."""
        leaves = expand(tree.leaves, self.search.factor, self.search.beam)
        at_most = 1 if self.search.branch_by == "action" else None
        turns = [partial(take_turn, context, leaf, tree.remaining, at_most) for leaf in leaves]
        played = await together(turns, enough=_rewarded if self.search.eager else None)
        played, winner, world = _won(played, self.search.winner)
        tree = tree.count(played)
        if winner is not None:
            remaining = without(tree.remaining, winner.hits)
            for one in played:
                outcome = _harvested_outcome(one, winner, remaining)
                record_played(context, one, credited=one is winner, outcome=outcome)
            return _harvest(context, tree, played, winner, world)
        for one in played:
            record_played(context, one, credited=False, outcome=one.turn.outcome)
        going = tuple(one.leaf() for one in played if one.turn.outcome is None)
        return replace(tree.close(_ends(played)), leaves=going)

    async def _users(self, context: EpisodeContext, tree: SearchState) -> SearchState:
        """Get the users' answers, harvest if their calls reached a goal, and end the leaves that reached a limit."""
        answered, winner, world = _won(await ask_users(context, tree.leaves, tree.remaining), self.search.winner)
        tree = replace(tree, counts=tree.counts.plus(calls=sum(len(one.answer.calls) for one in answered)))
        for one in answered:
            record_answer(context, one, credited=one is winner)
        if winner is None:
            ends, after = _ends(answered), {leaf.id: leaf for leaf in tree.leaves}
            end_branches(context, ends)
            after |= {one.id: one.leaf() for one in answered}
            tree = replace(tree.close(ends), leaves=living(tuple(after.values()), ends))
        else:
            end_branches(context, _harvested_ends(tree, answered, winner))
            tree = _harvest(context, tree, answered, winner, world)
        limited: list[EndedLeaf] = []
        for leaf in tree.leaves:
            outcome = leaf.state.spent.exceeded(context.limits)
            if outcome is not None:
                limited.append(EndedLeaf(leaf.id, outcome))
        end_branches(context, limited)
        return replace(tree.close(limited), leaves=living(tree.leaves, limited))


Scored = TypeVar("Scored", PlayedTurn, AnsweredTurn)
"""What a reward has scored: an agent's turn, or a user's answer with calls."""


def pick(scored: Sequence[Scored], policy: Winner) -> Scored | None:
    """The branch whose goals are taken; None if no branch reached one."""
    rewarded = [one for one in scored if one.hits]
    if not rewarded:
        return None
    match policy:
        case "first":
            return rewarded[0]
        case "earliest":
            return min(rewarded, key=lambda one: min(hit.step for hit in one.hits))
        case "most_goals":
            return max(rewarded, key=lambda one: len(one.hits))
        case _:
            assert_never(policy)


def _won(scored: Sequence[Scored], policy: Winner) -> tuple[Sequence[Scored], Scored | None, State]:
    """What was scored, the winner and a fork of its world for scoring; one whose world cannot be forked has failed."""
    while (winner := pick(scored, policy)) is not None:
        try:
            return scored, winner, kept_world(winner.state, winner.key)
        except Fault as fault:
            failed = winner.failed(fault)
            scored = [failed if one is winner else one for one in scored]
    return scored, None, None


def _harvest(
    context: EpisodeContext, tree: SearchState, scored: Sequence[Scored], winner: Scored, world: State
) -> SearchState:
    """Take the winner's goals: mark the branches that led to rewards, drop other leaves, continue from the winner."""
    remaining = without(tree.remaining, winner.hits)
    marked = [name for one in scored if one.hits for name in one.lineage]
    context.recorder.record(
        TreeHarvested(
            episode_id=context.unit.episode_id,
            harvest=tree.harvests,
            winner_id=winner.id,
            goals=tuple(hit.goal for hit in winner.hits),
            successful=tuple(dict.fromkeys(marked)),
            golden=winner.lineage,
        )
    )
    context.watch.hit(len(winner.hits))
    root = replace(winner.leaf(), lineage=(winner.id,))
    return replace(
        tree.close(_ends(scored)),
        leaves=(root,) if winner.end is None and remaining else (),
        remaining=remaining,
        final=replace(root.final(), world=world),
        achieved=(*tree.achieved, *winner.hits),
        harvests=tree.harvests + 1,
        ended=winner.end,
    )


def _harvested_outcome(one: Scored, winner: Scored, remaining: tuple[Goal, ...]) -> Outcome | None:
    if one.end is not None:
        return one.end.outcome
    if one is not winner:
        return "dropped"
    return None if remaining else "goals_done"


def _harvested_ends(tree: SearchState, answered: Sequence[AnsweredTurn], winner: AnsweredTurn) -> Iterator[EndedLeaf]:
    """The ends of all leaves but the winner's after a harvest, and the winner's if it has ended.

    With `branch_by="action"` some leaves were in the middle of their turn when others were answered.
    """
    remaining, by_id = without(tree.remaining, winner.hits), {one.id: one for one in answered}
    for leaf in tree.leaves:
        one = by_id.get(leaf.id)
        outcome = "dropped" if one is None else _harvested_outcome(one, winner, remaining)
        if outcome is not None:
            yield EndedLeaf(leaf.id, outcome, None if one is None or one.end is None else one.end.error)


def _rewarded(one: PlayedTurn) -> bool:
    return bool(one.hits)


def _ends(scored: Sequence[Scored]) -> list[EndedLeaf]:
    return [one.end for one in scored if one.end is not None]


def _end_all(context: EpisodeContext, tree: SearchState, outcome: Outcome) -> SearchState:
    closed = [EndedLeaf(leaf.id, outcome) for leaf in tree.leaves]
    end_branches(context, closed)
    return replace(tree.close(closed), leaves=())


def _ending(tree: SearchState) -> Ending:
    outcome, error = ("goals_done", None) if tree.ended is None else (tree.ended.outcome, tree.ended.error)
    if not tree.remaining:
        outcome, error = "goals_done", None
    opened = tree.counts.branches > 0 or error is None
    return Ending(
        outcome=outcome,
        final=tree.final,
        achieved=tree.achieved,
        counts=tree.counts,
        error=error,
        scored=opened and outcome not in NOT_THE_AGENTS,
    )


class LiveLeafCount:
    """Reports the number of live leaves to a watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._live = 0

    def of(self, tree: SearchState) -> SearchState:
        """Report the number of leaves of a tree; returns the tree."""
        self._tell(len(tree.leaves))
        return tree

    def stop(self) -> None:
        """Report that no leaf is live."""
        self._tell(0)

    def _tell(self, live: int) -> None:
        if live != self._live:
            self._watch.live(live - self._live)
        self._live = live
