"""The local engine: plays work units concurrently in one event loop, with a limit. No task outlives it.

A fault inside an episode is data: it counts against the policy and the other episodes continue. Any other error (a full
disk, a bug in a search) ends the run. Results are in the order of the units, not in the order of completion.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from simkit.components.cast import Cast
from simkit.core.cancellation import is_cancellation, leaves, unasked
from simkit.core.events import Episode
from simkit.core.recorder import Recorder
from simkit.core.records import ComponentLoad
from simkit.errors import Fault, StrayCancellation, UsageError
from simkit.run.accounting import NO_END, STOPPED_AT_FAULT
from simkit.run.observers import Lag
from simkit.run.worker_states import WorkerState
from simkit.search.base import Search, WorkUnit

if TYPE_CHECKING:
    from simkit.models.middleware.metrics import CallMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPolicy:
    """Policy that decides when faulted episodes make a run fail (exit code 1), and what becomes of them.

    Attributes:
        fail_fast: the first faulted episode stops the run.
        max_share: maximum share of faulted episodes, 0 to 1, in a successful run.
        retry: a resumed run plays its faulted episodes again. By default they are kept as they ended.
        raises: with `fail_fast`, `Run.play` raises the fault of that episode, with the component's own exception as its
            cause. Otherwise it returns the finished episodes.
    """

    fail_fast: bool = False
    max_share: float = 0.1
    retry: bool = False
    raises: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise UsageError(f"the largest share of faulted episodes is {self.max_share}; give a number from 0 to 1")

    def keeps(self, episode: Episode) -> bool:
        """Whether a resumed run keeps this finished episode."""
        return not (self.retry and is_faulted(episode))

    def broken(self, faulted: int, episodes: int) -> str | None:
        """Message that the faults exceed the policy; None if they do not."""
        if self.fail_fast and faulted:
            return "an episode faulted and the run stops at the first fault (--fail-fast)"
        if episodes and faulted / episodes > self.max_share:
            return (
                f"{faulted} of {episodes} episodes faulted, more than the share of {self.max_share:g} that is allowed "
                "(--max-faults)"
            )
        return None


def is_faulted(episode: Episode) -> bool:
    """Whether a component's failure ended the episode."""
    return episode.outcome.endswith("_fault")


KEPT_FAULTS = 64
"""Number of faults that are kept at most."""


@dataclass(slots=True)
class RunProgress:
    """Live counts of a run, for the progress display and for the report of a stopped run.

    It is the `Watch` of every search of the run. Only the event loop's thread writes to it.

    `kept` counts episodes that an earlier attempt of the run finished. `missed` holds the reasons why units were not
    played, by episode id. `flags` counts doubts about messages. `metrics` counts model calls once there are models.
    `workers` are the worker processes that play now, `workers_lost` those that ended or hung; `worker_states` tells
    what each of them does.
    `note` describes the progress of a stage without episodes, for the display. `stages` are those of the run's stages
    that are open. `load` returns the load of components that declare `concurrency` or `sessions`. `keeps_faults` keeps
    the latest faults, with everything that their frames refer to.
    """

    planned: int = 0
    kept: int = 0
    running: int = 0
    branches: int = 0
    turns: int = 0
    hits: int = 0
    faulted: int = 0
    reward_total: float = 0.0
    scored: int = 0
    stopping: bool = False
    note: str = ""
    started_at: float = field(default_factory=monotonic)
    episodes: list[Episode] = field(default_factory=list[Episode])
    missed: dict[str, str] = field(default_factory=dict[str, str])
    flags: Counter[str] = field(default_factory=Counter[str])
    metrics: CallMetrics | None = None
    workers: int = 0
    workers_lost: int = 0
    lag: Lag = field(default_factory=Lag)
    load: Callable[[], Sequence[ComponentLoad]] = tuple
    worker_states: Callable[[], Sequence[WorkerState]] = tuple
    keeps_faults: bool = False
    stages: list[RunProgress] = field(default_factory=lambda: list[RunProgress](), compare=False, repr=False)
    _faults: deque[Fault] = field(default_factory=lambda: deque[Fault](maxlen=KEPT_FAULTS))

    def live(self, change: int) -> None:
        """Add `change` to the number of live branches."""
        self.branches += change

    def turn(self) -> None:
        """Count one agent turn."""
        self.turns += 1

    def hit(self, goals: int) -> None:
        """Add `goals` to the number of goals taken."""
        self.hits += goals

    def fault(self, fault: Fault) -> None:
        """Keep a fault for a run that stops at the first faulted episode."""
        if self.keeps_faults:
            self._faults.append(fault)

    def taken_faults(self) -> tuple[Fault, ...]:
        """The faults kept so far, which are then kept no longer."""
        faults = tuple(self._faults)
        self._faults.clear()
        return faults

    def first_fault(self) -> Fault | None:
        """The fault of the first faulted episode; None if it was not kept."""
        error = next((episode.error for episode in self.episodes if is_faulted(episode)), None)
        return next((fault for fault in self._faults if str(fault) == error), None)

    def flag(self, flags: Sequence[str]) -> None:
        """Count doubts about a message, as `kind: detail`."""
        self.flags.update(flags)

    def finished(self, episode: Episode) -> None:
        """Count an episode that ended."""
        self.episodes.append(episode)
        self.faulted += is_faulted(episode)
        if episode.reward is not None:
            self.scored += 1
            self.reward_total += episode.reward

    def keep(self, episodes: Iterable[Episode]) -> None:
        """Count episodes that were already played and are kept."""
        for episode in episodes:
            self.planned += 1
            self.kept += 1
            self.finished(episode)

    @property
    def shown(self) -> RunProgress:
        """What a display shows: the stage that has something to play or to tell, else this run."""
        for stage in reversed(self.stages):
            inner = stage.shown
            if inner.note or len(inner.episodes) < inner.planned:
                return inner
        return self

    async def stage(self, progress: RunProgress) -> None:
        """Show the progress of a stage in the place of this one, until cancelled; the `ProgressDisplay` of stages."""
        self.stages.append(progress)
        try:
            await anyio.sleep_forever()
        finally:
            self.stages[:] = [each for each in self.stages if each is not progress]

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self.started_at

    @property
    def left(self) -> float | None:
        """Estimated seconds until the planned episodes are done, at the rate so far; None before the first one is."""
        done = len(self.episodes) - self.kept
        return (self.planned - len(self.episodes)) * self.seconds / done if done else None

    def to_json(self) -> dict[str, Any]:
        """Statistics as stored: seconds, event-loop lag, component load and model calls."""
        stats: dict[str, Any] = {"seconds": round(self.seconds, 3), "lag": self.lag.to_json(), "kept": self.kept}
        if load := self.load():
            stats["components"] = [asdict(state) for state in load]
        if self.workers_lost:
            stats["workers_lost"] = self.workers_lost
        metrics = self.metrics
        if metrics is not None:
            stats["models"] = {
                "calls": metrics.calls,
                "replayed": metrics.replayed,
                "rate_limited": metrics.rate_limited,
                "failed": metrics.failed,
                "prompt_tokens": metrics.usage.prompt_tokens,
                "completion_tokens": metrics.usage.completion_tokens,
                "cost": metrics.usage.cost,
            }
        return stats


ProgressDisplay: TypeAlias = Callable[[RunProgress], Coroutine[Any, Any, None]]
"""Coroutine function that displays the progress of a run until it is cancelled."""

TOGETHER = 16
"""Episodes started per pass of the event loop. With one per pass, the first would end before the last starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayContext:
    """Settings and services shared by all work units of one call."""

    search: Search
    cast: Cast
    recorder: Recorder
    progress: RunProgress
    policy: FaultPolicy = FaultPolicy()


async def play_units(context: PlayContext, units: Sequence[WorkUnit], concurrency: int) -> tuple[Episode, ...]:
    """Play units, at most `concurrency` at once, and return their episodes in the order of the units.

    There may be fewer episodes than units: with a `fail_fast` policy only those finished before the first fault, and
    never those whose worker was cancelled by something other than the run. `context.progress.missed` has the reasons
    for the others.

    Raises:
        UsageError: the concurrency is less than 1.
        NotForkable: the search branches, but a component of the cast cannot be forked.
        StoreError: events could not be recorded.
    """
    if concurrency < 1:
        raise UsageError(f"the concurrency is {concurrency}; it must be at least 1")
    context.progress.planned += len(units)
    done: dict[int, Episode] = {}
    waiting = iter(enumerate(units))
    try:
        async with anyio.create_task_group() as group:
            for number in range(min(concurrency, len(units))):
                group.start_soon(_work, context, waiting, done, group.cancel_scope)
                if number % TOGETHER == TOGETHER - 1:  # thousands of starts in a row would block the loop for seconds
                    await anyio.lowlevel.checkpoint()
    except BaseExceptionGroup as errors:
        cause = sole_error(errors)
        raise cause from cause.__cause__ or errors
    stopped = context.policy.fail_fast and any(map(is_faulted, done.values()))
    for index, unit in enumerate(units):
        if index not in done:
            context.progress.missed.setdefault(unit.episode_id, STOPPED_AT_FAULT if stopped else NO_END)
    return tuple(done[index] for index in sorted(done))


async def _work(
    context: PlayContext, waiting: Iterator[tuple[int, WorkUnit]], done: dict[int, Episode], scope: anyio.CancelScope
) -> None:
    for index, unit in waiting:
        episode = await play_unit(context, unit)
        if episode is not None:
            done[index] = episode
            context.progress.finished(episode)
            if context.policy.fail_fast and is_faulted(episode):
                scope.cancel()
        await anyio.lowlevel.checkpoint()


async def play_unit(context: PlayContext, unit: WorkUnit) -> Episode | None:
    """Play one unit; None, with a reason in `context.progress.missed`, if something other than the run cancelled it."""
    context.progress.running += 1
    try:
        with unasked("the episode"):
            return await context.search.play(context.cast, unit, context.recorder, context.progress)
    except StrayCancellation as stray:
        context.progress.missed[unit.episode_id] = str(stray)
        return None
    finally:
        context.progress.running -= 1


def sole_error(error: BaseException) -> BaseException:
    """The first error inside an exception group, or the error itself: the one that the caller needs to see."""
    found = tuple(leaves(error))
    return next((error for error in found if not is_cancellation(error)), found[0])
