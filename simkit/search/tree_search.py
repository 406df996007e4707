"""Base class for custom searches, and the tree that they grow.

    class BestOfTwo(TreeSearch):
        name = "best_of_two"
        conversations = 2

        async def explore(self, tree: SearchTree) -> Ending:
            first, second = await tree.score(*await tree.play_out(*tree.fork(tree.root, 2)))
            best = first if first.value >= second.value else second
            tree.harvest(best)
            return tree.ending(best)

docs/write-a-search.md explains it step by step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import anyio

from simkit.components.cast import Cast
from simkit.core.events import BranchAdded, BranchEnded, BranchExtended, Episode, Event, Outcome, TreeHarvested
from simkit.core.limits import Limits
from simkit.core.recorder import Recorder
from simkit.core.records import Counts
from simkit.core.tasks import Task
from simkit.errors import Fault, UsageError
from simkit.search.base import Watch, WorkUnit, refuse_unforkable
from simkit.search.episode import (
    Ending,
    EpisodeContext,
    PreparedEpisode,
    fault_outcome,
    play_episode,
    record_fault,
    score_ending,
)
from simkit.search.playout import Playout, end, ending_of, play_round
from simkit.search.tree import EndedLeaf, fork, open_tree, together


@dataclass(frozen=True, kw_only=True)
class TreeSearch(ABC):
    """Base class of searches: implement `explore`, which grows the tree of one episode.

    Attributes:
        name: the name in the store; episodes of different searches are never compared.
        limits: limits of an episode; the wall-clock limit applies to all its branches together.

    Raises:
        UsageError: `conversations` is less than 1.
    """

    name: ClassVar[str]
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.conversations < 1:
            raise UsageError(
                f"{self.name} would play {self.conversations} conversations of each task; it must play at least 1"
            )

    @property
    def conversations(self) -> int:
        """Maximum number of conversations played concurrently, for components that limit their sessions."""
        return 1

    @abstractmethod
    async def explore(self, tree: SearchTree) -> Ending:
        """Play the episode from `tree.root`, and return `tree.ending(...)` of the conversation that it is scored by.

        Not called for an episode that ended with its opening.
        """

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        """Play one work unit to its end. Its branches are recorded when the episode ends, in path order.

        Raises:
            NotForkable: a component of the cast cannot be forked; raised before any work is done.
            UsageError: the agent is deterministic, so that all branches would be the same.
            StoreError: events cannot be recorded.
        """
        refuse_unforkable(self.name, cast)
        context = EpisodeContext(cast, unit, self.limits, recorder, watch)
        return await play_episode(context, self.name, self._play, self.conversations)

    async def _play(self, prepared: PreparedEpisode) -> Ending:
        events = _DeferredEvents()
        try:
            leaf, closed = await open_tree(PreparedEpisode(replace(prepared.context, recorder=events), prepared.state))
            root = Playout(leaf, prepared.context.goals, closed=closed)
            tree = SearchTree(replace(prepared.context, recorder=events), root, events, self.conversations)
            return tree.ending(root) if closed is not None else await self.explore(tree)
        finally:
            for event in events.in_path_order():
                prepared.context.recorder.record(event)


class SearchTree:
    """The tree of one episode, with the operations of a search.

    Every method that plays takes up to `conversations` playouts and plays them concurrently. Playouts are immutable: a
    search can continue or fork one any number of times.

    Attributes:
        root: the conversation after the user's opening.
    """

    def __init__(self, context: EpisodeContext, root: Playout, events: _DeferredEvents, most: int) -> None:
        self.root = root
        self._most = most
        self._context = context
        self._events = events
        seconds = context.limits.wall_seconds
        self._deadline = anyio.current_time() + seconds if seconds is not None else float("inf")

    @property
    def task(self) -> Task:
        """The task that is played."""
        return self._context.task

    def fork(self, playout: Playout, arms: int) -> tuple[Playout, ...]:
        """The same conversation `arms` times, to be continued in different ways: each arm has its own seeds.

        Raises:
            UsageError: `arms` is less than 1.
        """
        if arms < 1:
            raise UsageError(f"a conversation cannot be forked into {arms} arms; there must be at least 1")
        return tuple(replace(playout, leaf=leaf) for leaf in fork(playout.leaf, arms))

    async def play_turn(self, *playouts: Playout) -> tuple[Playout, ...]:
        """Play one turn of the agent and the user's answer in each; ended conversations are returned unchanged."""
        return await self._together(playouts, 1)

    async def play_out(self, *playouts: Playout) -> tuple[Playout, ...]:
        """Play each to its end."""
        return await self._together(playouts, None)

    async def score(self, *playouts: Playout) -> tuple[Playout, ...]:
        """Score each conversation in its current state; `reward` stays None if a fault ended the conversation.

        A fault of the reward ends its playout.
        """
        return tuple(await together([partial(self._score, each) for each in playouts]))

    def end(self, playout: Playout, outcome: Outcome = "dropped") -> Playout:
        """End a conversation that has not ended yet."""
        return replace(playout, closed=playout.closed or end(self._context, playout, outcome))

    def harvest(self, winner: Playout, *successful: Playout) -> None:
        """Keep a conversation: its branches become golden, and those of `successful` ones are not negative examples.

        Several conversations can be kept; only the goals of the last one are credited.
        """
        marked = [name for each in (winner, *successful) for name in each.leaf.lineage]
        self._events.harvests.append(
            TreeHarvested(
                episode_id=self._context.unit.episode_id,
                harvest=len(self._events.harvests),
                winner_id=winner.leaf.id,
                goals=tuple(hit.goal for hit in winner.achieved),
                successful=tuple(dict.fromkeys(marked)),
                golden=winner.leaf.lineage,
            )
        )

    def ending(self, playout: Playout) -> Ending:
        """The end of the episode, which is scored by this conversation; the counts cover the whole tree."""
        ending = ending_of(self._context, playout)
        turns = self._events.turns
        counts = Counts(
            turns=max((event.turn for event in turns), default=0),
            branches=len(turns),
            faults=self._events.faults,
            calls=self._events.calls,
        )
        return replace(ending, counts=counts, reward=playout.reward)

    async def _together(self, playouts: tuple[Playout, ...], turns: int | None) -> tuple[Playout, ...]:
        if len(playouts) > self._most:
            raise UsageError(
                f"the search plays {len(playouts)} conversations side by side, and its `conversations` is "
                f"{self._most}; let that property return how many there can be"
            )
        return tuple(await together([partial(self._advance, each, turns) for each in playouts]))

    async def _advance(self, playout: Playout, turns: int | None) -> Playout:
        self._context.watch.live(1)
        try:
            with anyio.CancelScope(deadline=self._deadline):
                while playout.closed is None and turns != 0:
                    playout = await play_round(self._context, playout)
                    turns = None if turns is None else turns - 1
                return playout
            return self.end(playout, "time_limit")
        finally:
            self._context.watch.live(-1)

    async def _score(self, playout: Playout) -> Playout:
        closed = playout.closed
        if closed is not None and closed.error is not None:
            return playout
        outcome = "dropped" if closed is None else closed.outcome
        final, failed = playout.leaf.final(), outcome == "context_limit"
        try:
            ending = Ending(outcome=outcome, final=final, achieved=playout.achieved, failed=failed)
            reward = await score_ending(self._context, ending)
        except Fault as fault:
            self._events.reward_faults += 1
            record_fault(self._context, playout.leaf.id, fault)
            return replace(playout, closed=EndedLeaf(playout.leaf.id, fault_outcome(fault), str(fault)))
        return replace(playout, reward=reward, rewarded=self._context.cast.is_rewarded(reward.value))


class _DeferredEvents:
    """Recorder that holds back the events of a tree until the golden branches are known."""

    def __init__(self) -> None:
        self.harvests: list[TreeHarvested] = []
        self.reward_faults = 0
        self._events: list[Event] = []

    @property
    def turns(self) -> list[BranchAdded]:
        """The agent turns of all branches."""
        return [event for event in self._events if isinstance(event, BranchAdded) and event.turn]

    @property
    def calls(self) -> int:
        """Number of tool calls of all branches, the agent's and the user's."""
        return sum(len(event.tool_calls) for event in self._events if isinstance(event, (BranchAdded, BranchExtended)))

    @property
    def faults(self) -> int:
        """Number of faults of all branches, including failed scorings."""
        failed = [event for event in self._events if isinstance(event, (BranchAdded, BranchEnded)) and event.error]
        return len(failed) + self.reward_faults

    def record(self, event: Event) -> None:
        """Keep an event for later."""
        self._events.append(event)

    async def commit(self) -> None:
        """Do nothing: the episode commits its events at its end."""

    def in_path_order(self) -> Iterator[Event]:
        """The events sorted by path, so that one seed gives one journal; only the last winner's goals are credited."""
        credited = self.harvests[-1].golden if self.harvests else ()
        paths = {event.branch_id: event.path for event in self._events if isinstance(event, BranchAdded)}
        for event in sorted(self._events, key=lambda event: paths[getattr(event, "branch_id", "")]):
            if isinstance(event, (BranchAdded, BranchExtended)) and event.rewards and event.branch_id not in credited:
                yield replace(event, rewards=tuple(replace(reward, credited=False) for reward in event.rewards))
            else:
                yield event
        yield from self.harvests
