"""Conversations of an earlier run, for judges, and the loop that judges them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread
import orjson

from simkit.components.results import RecordedEpisode
from simkit.core.cancellation import require_results, unasked
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import parse_message
from simkit.core.safe_text import visible_line
from simkit.data.result_files import recorded_run
from simkit.errors import ModelFault, NothingJudged, NoVerdict, RewardFault, UsageError
from simkit.run.run import Run
from simkit.store import Store

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One finished episode of an earlier run.

    Attributes:
        goals: the sparse goals of its task, with their details; `missed` are the keys of those it did not reach.
        full_reward: the highest reward it could get.
    """

    episode: RecordedEpisode
    conversation: Conversation
    goals: tuple[Mapping[str, Any], ...] = ()
    missed: tuple[str, ...] = ()
    full_reward: float = 1.0

    @property
    def name(self) -> str:
        """Task and trial."""
        return f"{self.episode.task_id}/{self.episode.trial}"

    def key(self, seed: int) -> TurnKey:
        """The key of calls about it, for records and seeds."""
        return TurnKey(seed, self.episode.task_id, self.episode.trial, "", 0)


@dataclass(frozen=True, slots=True)
class RecordedEpisodes:
    """The finished episodes of a run with their conversations."""

    run_id: str
    episodes: tuple[Recorded, ...] = field(repr=False)

    @classmethod
    async def of(cls, run: Run, name: str, *, allow_incomplete: bool = False) -> RecordedEpisodes:
        """Those of another run of the store.

        Raises:
            UsageError: there is no such run, or it has no finished episode.
            StoreIncomplete: lines of its journals could not be read.
        """
        await run.commit()
        read = partial(_read, run.store, name, allow_incomplete=allow_incomplete)
        found = await anyio.to_thread.run_sync(read)
        if found.run_id == run.id:
            raise UsageError(f"`{name}` is the run that judges; name the run whose conversations it should judge")
        if not found.episodes:
            raise UsageError(f"the run {name} has no finished conversation; play some first (`simkit run rollout`)")
        return found


def _read(store: Store, name: str, *, allow_incomplete: bool) -> RecordedEpisodes:
    with store.reading(allow_incomplete=allow_incomplete) as reader:
        known = reader.resolve(name)
        reader.require_complete([known.run_id], "judging its conversations")
        rows = {row["episode_id"]: row for row in reader.rows(_GOALS, [known.run_id])}
        recorded = recorded_run(reader, known)
    return RecordedEpisodes(
        known.run_id, tuple(_recorded(each, rows[each.episode_id]) for each in recorded.episodes if each.messages)
    )


def _recorded(episode: RecordedEpisode, row: Mapping[str, Any]) -> Recorded:
    entries = (Entry(parse_message(each.message), each.author, turn=0, heard=each.heard) for each in episode.messages)
    left = list(row["achieved"] or ())
    missed = tuple(goal for goal in row["goals"] or () if goal not in left or left.remove(goal))
    goals = cast("list[Mapping[str, Any]]", orjson.loads(row["details"] or "[]"))
    return Recorded(episode, Conversation(entries), tuple(goals), missed, row["full_reward"] or 1.0)


def first(episodes: Sequence[V], limit: int | None) -> Sequence[V]:
    """As many as the limit allows, from the first.

    Raises:
        UsageError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; it must be at least 1; leave it out for no limit")
    return episodes[:limit]


_GOALS = """
SELECT e.episode_id, e.goals, e.achieved, e.full_reward, t.goals AS details FROM episodes e
LEFT JOIN (SELECT task_id, any_value(goals) AS goals FROM tasks WHERE run_id = $1 GROUP BY ALL) t USING (task_id)
WHERE e.run_id = $1
"""


LONGEST_ANSWER = 2000
"""Characters of an answer without a verdict that are stored with the conversation; the model call has all of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an episode has no verdict, with the judge's last answer, if it gave any."""

    why: str
    answer: str = ""

    @classmethod
    def of(cls, fault: ModelFault | RewardFault) -> Problem:
        """The problem that an error describes."""
        if isinstance(fault, NoVerdict):
            return cls(fault.why, fault.answer[:LONGEST_ANSWER])
        return cls(str(fault))

    def __str__(self) -> str:
        return f"{self.why} (it answered: {visible_line(self.answer)[:200]})" if self.answer else self.why


async def judge_all(
    run: Run, episodes: Sequence[Recorded], judge: Callable[[Recorded], Awaitable[V]]
) -> tuple[dict[str, V], dict[str, Problem]]:
    """The verdict on each episode by its name, and the problem of each that got none; as many at once as the run may.

    Raises:
        RunStopped: a budget is used up, or an endpoint is down.
    """
    found: dict[str, V] = {}
    problems: dict[str, Problem] = {}
    limiter = anyio.CapacityLimiter(run.concurrency)

    async def one(each: Recorded) -> None:
        with unasked(f"the verdict on {each.name}"):
            async with limiter:
                try:
                    found[each.name] = await judge(each)
                except (ModelFault, RewardFault) as fault:
                    problems[each.name] = Problem.of(fault)
                run.progress.note = f"{len(found) + len(problems)} of {len(episodes)} conversations judged"

    async with anyio.create_task_group() as group:
        for each in episodes:
            group.start_soon(one, each)
    await require_results(len(found) + len(problems), len(episodes), "verdicts")
    return found, problems


def require_verdicts(found: Mapping[str, object], problems: Mapping[str, Problem], query: str) -> None:
    """Check that there is a verdict. The problems have to be recorded before, so that `query` finds them.

    Raises:
        NothingJudged: no conversation got a verdict.
    """
    if problems and not found:
        name, first = min(problems.items())
        raise NothingJudged(
            f"the judge gave no verdict on any of {len(problems)} conversations. On {name}: {first}. "
            f'All of them: simkit sql "{query}". Choose a judge that can do it (--model)'
        )
