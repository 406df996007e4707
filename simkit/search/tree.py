"""The live part of a search tree: its leaves in path order, and the ids on the paths to them.

Inner nodes are only ids; their states are released, because the store has them. A node is one turn of one path (with
`branch_by="action"`: one decision), even where nothing was forked.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import anyio

from simkit.components.reward import Hit
from simkit.components.state import BranchState
from simkit.core.cancellation import require_results, unasked
from simkit.core.conversation import Author, Conversation
from simkit.core.events import BranchAdded, BranchEnded, BranchExtended, Outcome
from simkit.core.ids import TurnKey, branch_id, child_path
from simkit.core.records import CallRecord, MessageRow, RewardRow
from simkit.core.tasks import Goal
from simkit.errors import Fault
from simkit.search.answer import UserAnswer, ask_user
from simkit.search.episode import EpisodeContext, FinalBranch, PreparedEpisode, grown, record_fault
from simkit.search.turn import Turn, fork_branch, play_turn, score_answer, score_turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A branch that can continue.

    `turn` is the last agent turn it played (0 for the opening). `step` is the number of decisions made in that turn, 0
    once the turn is over. `lineage` holds the ids from the current root to this leaf, `calls` all calls since the
    opening.
    """

    id: str
    path: str
    turn: int
    state: BranchState
    lineage: tuple[str, ...]
    step: int = 0
    calls: tuple[CallRecord, ...] = ()
    forked: bool = False

    @property
    def next_turn(self) -> int:
        """Number of the turn it plays next; equal to `turn` while that turn is not over."""
        return self.turn if self.step else self.turn + 1

    def answered(self, answer: UserAnswer) -> Leaf:
        """The leaf after the user's answer."""
        return Leaf(self.id, self.path, self.turn, answer.state, self.lineage, self.step, self.calls + answer.calls)

    def final(self) -> FinalBranch:
        """This leaf as the end of a path that is scored."""
        return FinalBranch(self.id, self.state.conversation, self.state.world, self.calls, self.path, self.turn)


@dataclass(frozen=True, slots=True)
class PlayedTurn:
    """A turn that was played from `parent`, with the goals it reached."""

    parent: Leaf
    id: str
    turn: Turn
    hits: tuple[Hit, ...] = ()

    @property
    def lineage(self) -> tuple[str, ...]:
        """Ids from the current root to this branch."""
        return (*self.parent.lineage, self.id)

    @property
    def key(self) -> TurnKey:
        """Key of the turn."""
        return self.turn.key

    @property
    def state(self) -> BranchState:
        """The branch after it."""
        return self.turn.state

    @property
    def end(self) -> EndedLeaf | None:
        """Its end, if it ended the branch."""
        turn = self.turn
        return None if turn.outcome is None else EndedLeaf(self.id, turn.outcome, turn.error)

    def failed(self, fault: Fault) -> PlayedTurn:
        """The turn as ended by a fault, without its goals."""
        return PlayedTurn(self.parent, self.id, self.turn.failed(fault))

    def leaf(self) -> Leaf:
        """The branch as a leaf that can be continued."""
        turn, parent = self.turn, self.parent
        step = 0 if turn.over else turn.steps
        return Leaf(self.id, parent.path, parent.next_turn, turn.state, self.lineage, step, parent.calls + turn.calls)


@dataclass(frozen=True, slots=True)
class AnsweredTurn:
    """The user's answer to the turn of `parent`, on the same branch, with the goals that the user's calls reached."""

    parent: Leaf
    key: TurnKey
    answer: UserAnswer
    hits: tuple[Hit, ...] = ()

    @property
    def id(self) -> str:
        """Id of the branch."""
        return self.parent.id

    @property
    def lineage(self) -> tuple[str, ...]:
        """Ids from the current root to this branch."""
        return self.parent.lineage

    @property
    def state(self) -> BranchState:
        """The branch after it."""
        return self.answer.state

    @property
    def end(self) -> EndedLeaf | None:
        """Its end, if it ended the branch."""
        answer = self.answer
        return None if answer.outcome is None else EndedLeaf(self.id, answer.outcome, answer.error)

    def failed(self, fault: Fault) -> AnsweredTurn:
        """The answer as ended by a fault, without its goals."""
        return AnsweredTurn(self.parent, self.key, self.answer.failed(fault))

    def leaf(self) -> Leaf:
        """The branch as a leaf that can be continued."""
        return self.parent.answered(self.answer)


@dataclass(frozen=True, slots=True)
class EndedLeaf:
    """The end of a branch."""

    id: str
    outcome: Outcome
    error: str | None = None


def fork(leaf: Leaf, arms: int) -> tuple[Leaf, ...]:
    """Leaves of a fork with `arms` arms; for one arm, the leaf itself. States are forked when the arms are played."""
    if arms == 1:
        return (leaf,)
    return tuple(
        [
            Leaf(
                leaf.id,
                child_path(leaf.path, arm, arms),
                leaf.turn,
                leaf.state,
                leaf.lineage,
                leaf.step,
                leaf.calls,
                forked=True,
            )
            for arm in range(arms)
        ]
    )


def expand(leaves: Sequence[Leaf], factor: int, beam: int) -> tuple[Leaf, ...]:
    """The leaves to play next, left to right: `factor` for every leaf if they all fit in the beam, else one each."""
    arms = factor if factor * len(leaves) <= beam else 1
    return tuple(arm for leaf in leaves for arm in fork(leaf, arms))


async def take_turn(
    context: EpisodeContext, leaf: Leaf, remaining: tuple[Goal, ...], at_most: int | None = None
) -> PlayedTurn:
    """Play a leaf's next turn (up to `at_most` decisions) and find out which of the remaining goals it reached."""
    key, step = context.key(leaf.path, leaf.next_turn), leaf.step
    name = branch_id(context.unit.episode_id, leaf.path, leaf.next_turn) + (f".{step}" if step else "")
    try:
        state = fork_branch(leaf.state, key) if leaf.forked else leaf.state
    except Fault as fault:
        return PlayedTurn(leaf, name, Turn(key, leaf.state, steps=step).failed(fault))
    turn = await play_turn(context, key, state, step=step, at_most=at_most)
    turn, hits = await score_turn(context, turn, remaining)
    context.watch.turn()
    return PlayedTurn(leaf, name, turn, hits)


async def together(calls: Sequence[Callable[[], Awaitable[T]]], enough: Callable[[T], bool] | None = None) -> list[T]:
    """Run all calls concurrently and return their results in the order of the calls.

    The first result for which `enough` is true cancels the other calls, which then have no result.

    Raises:
        Exception: the first error of any call.
        StrayCancellation: a call was cancelled by something other than this code.
    """
    if len(calls) < 2:  # nothing runs beside it
        return [await call() for call in calls]
    results: dict[int, T] = {}
    first, *others = enumerate(calls)

    async def run(index: int, call: Callable[[], Awaitable[T]]) -> None:
        with unasked("a branch"):
            results[index] = result = await call()
        if enough is not None and enough(result):
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for index, call in others:
                group.start_soon(run, index, call)
            await run(*first)  # without a task of its own, which would add a tenth to the cost of a turn
    except ExceptionGroup as errors:
        cause = first_error(errors)
        raise cause from cause.__cause__ or errors
    if not (enough and any(map(enough, results.values()))):
        await require_results(len(results), len(calls), "branches")
    return [results[index] for index in sorted(results)]


def first_error(errors: ExceptionGroup[Exception]) -> Exception:
    """The first error of a group that is not a group itself."""
    first = errors.exceptions[0]
    return first_error(cast("ExceptionGroup[Exception]", first)) if isinstance(first, ExceptionGroup) else first


async def open_tree(prepared: PreparedEpisode) -> tuple[Leaf, EndedLeaf | None]:
    """Play and record the root of an episode (system prompt and opening); returns it, and its end if it ended.

    The user is not asked if it spoke last in the world's own opening, or if there is none.
    """
    context, before = prepared.context, prepared.state
    if context.solo or _heard_last(before.conversation) == "user":
        answer = UserAnswer(before)
    else:
        answer = await ask_user(context, context.key("", 0), before)
    name = branch_id(context.unit.episode_id, "", 0)
    context.recorder.record(
        BranchAdded(
            branch_id=name,
            episode_id=context.unit.episode_id,
            parent_id=None,
            path="",
            turn=0,
            messages=_rows(before.conversation) + answer.messages,
            tool_calls=answer.calls,
            rewards=(),
            outcome=answer.outcome,
            error=answer.error,
            at=time.time(),
        )
    )
    record_fault(context, name, answer.fault)
    root = Leaf(name, "", 0, answer.state, (name,), calls=answer.calls)
    return root, None if answer.outcome is None else EndedLeaf(name, answer.outcome, answer.error)


def _heard_last(conversation: Conversation) -> Author | None:
    return next((entry.author for entry in reversed(conversation.tail(0)) if entry.heard is not None), None)


def _rows(conversation: Conversation) -> tuple[MessageRow, ...]:
    prefix = Conversation()
    rows: list[MessageRow] = []
    for entry in conversation:
        prefix, row = grown(prefix, entry)
        rows.append(row)
    return tuple(rows)


def record_played(context: EpisodeContext, played: PlayedTurn, *, credited: bool, outcome: Outcome | None) -> None:
    """Record a turn as a branch; `credited` if the search takes its hits."""
    turn = played.turn
    context.recorder.record(
        BranchAdded(
            branch_id=played.id,
            episode_id=context.unit.episode_id,
            parent_id=played.parent.id,
            path=played.parent.path,
            turn=played.parent.next_turn,
            messages=turn.messages,
            tool_calls=turn.calls,
            rewards=_reward_rows(played.hits, credited),
            outcome=outcome,
            error=turn.error,
            at=time.time(),
        )
    )
    record_fault(context, played.id, turn.fault)


def record_answer(context: EpisodeContext, answered: AnsweredTurn, *, credited: bool) -> None:
    """Record a user's answer with its branch; `credited` if the search takes its hits. The end is recorded later."""
    answer = answered.answer
    if answer.messages:
        rewards = _reward_rows(answered.hits, credited)
        context.recorder.record(BranchExtended(answered.id, answer.messages, answer.calls, rewards))
    record_fault(context, answered.id, answer.fault)


def _reward_rows(hits: tuple[Hit, ...], credited: bool) -> tuple[RewardRow, ...]:
    return tuple([RewardRow(hit.goal, hit.evidence, hit.step, credited) for hit in hits])


def living(leaves: Sequence[Leaf], closed: Sequence[EndedLeaf]) -> tuple[Leaf, ...]:
    """The leaves that have not ended."""
    ended = {end.id for end in closed}
    return tuple(leaf for leaf in leaves if leaf.id not in ended)


def end_branches(context: EpisodeContext, closed: Iterable[EndedLeaf]) -> None:
    """Record the end of branches that were recorded before."""
    for end in closed:
        context.recorder.record(BranchEnded(end.id, end.outcome, end.error))


async def ask_users(
    context: EpisodeContext, leaves: Sequence[Leaf], remaining: tuple[Goal, ...]
) -> Sequence[AnsweredTurn]:
    """Get the users' answers for all leaves whose turn is over, concurrently, and score the calls in them.

    A user's fault ends only its leaf.
    """
    return await together([partial(_ask, context, leaf, remaining) for leaf in leaves if not leaf.step])


async def _ask(context: EpisodeContext, leaf: Leaf, remaining: tuple[Goal, ...]) -> AnsweredTurn:
    key = context.key(leaf.path, leaf.turn)
    answer = await ask_user(context, key, leaf.state)
    if not answer.calls or answer.fault is not None:
        return AnsweredTurn(leaf, key, answer)
    answer, hits = await score_answer(context, key, answer, remaining)
    return AnsweredTurn(leaf, key, answer, hits)
