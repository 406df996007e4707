"""The driver's loop: gives units to workers, writes what they send, and survives the loss of any of them.

Units are pulled: a worker holds as many as it plays at once and a few more, the rest stay here. The open units of a
lost worker are played again by another one, with the answers that are in the journal. A unit that was open in two lost
workers is played alone, so that a third loss is certainly its own; it is then recorded as a fault.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, cast

import anyio

from simkit.core.events import EndpointAdjusted, Episode, EpisodeStarted, Event, WorkerGone
from simkit.core.recorder import LineRecorder
from simkit.errors import Fault, SimkitError, UsageError, WorkerLost
from simkit.run.accounting import NO_END, STOPPED_AT_FAULT
from simkit.run.contract import Down, Engine, Link, Order, PlaySpec, Result, Up, unpacked_error
from simkit.run.engine import FaultPolicy, RunProgress, is_faulted, sole_error
from simkit.run.worker_counts import CountedWorkers
from simkit.run.worker_states import WorkerState
from simkit.search.base import WorkUnit
from simkit.search.episode import fault_outcome, toolset
from simkit.store.encoding import ADJUSTED, FINISHED, decode, finished_episode

if TYPE_CHECKING:
    from simkit.models.middleware.lending import Lender

EXTRA = 2
"""Units that a worker holds beyond those that it plays, so that it never waits for the next one."""

LIVES = 3
"""Lost workers after which a unit is a fault; also the number of workers in a row that may end before they play."""

STOP_SECONDS = 5.0
"""Seconds that workers get to end after a cancellation or an error."""


class Past(Protocol):
    """Recorded answers of units."""

    def of(self, unit: WorkUnit) -> bytes:
        """Recorded answers of a unit's episode."""
        ...

    async def renew(self) -> None:
        """Read what this run has recorded so far, because a worker was lost."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverContext:
    """What the driver of one play uses.

    Attributes:
        spec: what each worker is told.
        search: name of the search.
        full_reward: the highest attainable reward.
        recorder: the run's recorder; the only writer.
        progress, policy: counts of the run, and what it does about faults.
        past: recorded answers.
        lender: lends the limits of the run; None if it calls no model.
        adjusted: called with adjustments that workers have learned; records those that are new.
    """

    spec: PlaySpec
    search: str
    full_reward: float
    recorder: LineRecorder
    progress: RunProgress
    policy: FaultPolicy
    past: Past
    lender: Lender | None
    adjusted: Callable[[EndpointAdjusted], None]


@dataclass(slots=True)
class _Open:
    """A unit on its way: its number, and the number of workers that were lost with it."""

    index: int
    unit: WorkUnit
    losses: int = 0


@dataclass(slots=True)
class _Seat:
    """One worker's place; after a loss another worker takes it."""

    number: int
    concurrency: int
    open: dict[int, _Open] = field(default_factory=dict[int, _Open])
    ready: bool = False
    done: bool = False
    alone: bool = False
    acked: int = 0
    starting: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    place: str = ""
    heard: float = field(default_factory=time.monotonic)
    finished: int = 0
    lost: int = 0


async def play_with_workers(
    context: DriverContext, engine: Engine, units: Sequence[WorkUnit], concurrency: int
) -> tuple[Episode, ...]:
    """Play units with workers, at most `concurrency` at once, and return their episodes in the order of the units.

    Raises:
        UsageError: the concurrency is less than 1, a worker cannot build its cast, or no worker can be started.
        RunStopped, StoreError: as `play_units`.
    """
    if concurrency < 1:
        raise UsageError(f"the concurrency is {concurrency}; it must be at least 1")
    context.progress.planned += len(units)
    if not units:
        return ()
    return await _Driver(context, engine, units, concurrency).play()


class _Driver:
    def __init__(self, context: DriverContext, engine: Engine, units: Sequence[WorkUnit], concurrency: int) -> None:
        self._context = context
        self._engine = engine
        self._units = units
        size = max(1, min(engine.size, concurrency, len(units)))
        self._seats = [_Seat(number, concurrency // size + (number < concurrency % size)) for number in range(size)]
        self._waiting = deque(_Open(index, unit) for index, unit in enumerate(units))
        self._suspects: deque[_Open] = deque()
        self._ends: dict[int, Episode | None] = {}
        self._recorded: dict[str, bytes] = {}  # ends in the journal whose results have not arrived
        self._counts = CountedWorkers(context.progress)
        self._stopping = False
        self._failed_starts = 0

    async def play(self) -> tuple[Episode, ...]:
        """Play all units."""
        context, before = self._context, self._context.progress.load
        context.progress.load = lambda: (*before(), *self._counts.loads())
        context.progress.worker_states = self._states
        try:
            async with anyio.create_task_group() as group:
                for seat in self._seats:
                    group.start_soon(self._occupy, seat)
        except BaseExceptionGroup as errors:
            cause = sole_error(errors)
            raise cause from cause.__cause__ or errors
        finally:
            context.progress.load = before
            context.progress.worker_states = tuple
        stopped = context.policy.fail_fast and any(is_faulted(each) for each in self._ends.values() if each is not None)
        for index, unit in enumerate(self._units):
            if self._ends.get(index) is None:
                context.progress.missed.setdefault(unit.episode_id, STOPPED_AT_FAULT if stopped else NO_END)
        return tuple(episode for _, episode in sorted(self._ends.items()) if episode is not None)

    def _states(self) -> tuple[WorkerState, ...]:
        """What is known of each worker."""
        return tuple(map(self._state, self._seats))

    def _state(self, seat: _Seat) -> WorkerState:
        counts, lender = self._counts.last(seat.number), self._context.lender
        held = None if lender is None else lender.held(seat.number)
        return WorkerState(
            worker=seat.number,
            place=seat.place,
            open=len(seat.open),
            done=seat.finished,
            lag=round(counts.lag, 3),
            heard=round(time.monotonic() - seat.heard, 3),
            lost=seat.lost,
            calls=counts.in_flight + counts.waiting,
            tokens=0.0 if held is None else held.budget.tokens,
            cost=0.0 if held is None else held.budget.cost,
            places=0 if held is None else held.places,
        )

    @property
    def _over(self) -> bool:
        return self._stopping or len(self._ends) == len(self._units)

    async def _occupy(self, seat: _Seat) -> None:
        """Keep a worker in a seat until everything is played."""
        while not self._over:
            try:
                with anyio.CancelScope() as seat.starting:
                    await self._employ(seat)
            except WorkerLost as lost:
                await self._lost(seat, lost)

    async def _employ(self, seat: _Seat) -> None:
        """Start a worker and exchange with it until it ends.

        Raises:
            WorkerLost: it was lost.
        """
        spec = replace(self._context.spec, concurrency=seat.concurrency, workers=len(self._seats))
        seat.open, seat.ready, seat.done, seat.acked, seat.alone = {}, False, False, 0, False
        seat.place, seat.heard = "", time.monotonic()
        async with self._engine.link(spec) as link:
            lender, lost = self._context.lender, True
            if lender is not None:
                lender.enter(seat.number)
            try:
                await self._converse(seat, link)
                lost = False
            except WorkerLost:
                raise
            except BaseException:
                self._stopping = True
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    lost = not await self._dismiss(seat, link)
                raise
            finally:
                self._counts.gone(seat.number)
                if lender is not None:
                    lender.leave(seat.number, lost=lost)

    async def _converse(self, seat: _Seat, link: Link) -> None:
        lender = self._context.lender
        while True:
            down = Down(acked=seat.acked, stop="now" if self._over else "")
            if seat.ready and not down.stop:
                down = replace(down, orders=self._orders(seat))
            if lender is not None:
                down = replace(down, leases=lender.leases(seat.number))
            up = await link.exchange(down)
            seat.ready, self._failed_starts = True, 0
            seat.done = up.done
            await self._receive(seat, up)
            if up.error is not None:
                raise unpacked_error(up.error)
            if up.done:
                return

    async def _dismiss(self, seat: _Seat, link: Link) -> bool:
        """Let a worker end, and write what it still sends. Returns whether it ended in order.

        A worker or a journal that fails now changes nothing.
        """
        with suppress(SimkitError):
            while not seat.done:
                up = await link.exchange(Down(acked=seat.acked, stop="now"))
                seat.done = up.done
                await self._receive(seat, up)
        return seat.done

    # --- what comes up ------------------------------------------------------------------------------------------------

    async def _receive(self, seat: _Seat, up: Up) -> None:
        context = self._context
        seat.place, seat.heard = up.counts.place, time.monotonic()
        if context.lender is not None:
            context.lender.settle(seat.number, up.wants)
        self._counts.update(seat.number, up.counts)
        for fault in up.faults:
            error = unpacked_error(fault)
            if isinstance(error, Fault):
                context.progress.fault(error)
        if up.lines:
            self._record(up.lines)
            await context.recorder.commit()
            seat.acked = up.end
        for result in up.results:
            self._ended(seat, result)

    def _record(self, lines: Sequence[bytes]) -> None:
        adjustments = [line for line in lines if line.startswith(ADJUSTED)]
        for line in adjustments:
            self._context.adjusted(cast("EndpointAdjusted", decode(line)))
        own = lines if not adjustments else [line for line in lines if not line.startswith(ADJUSTED)]
        self._recorded |= {finished_episode(line): line for line in own if line.startswith(FINISHED)}
        self._context.recorder.record_lines(own)

    def _ended(self, seat: _Seat, result: Result) -> None:
        opened, progress = seat.open.pop(result.index), self._context.progress
        seat.finished += 1
        seat.alone = seat.alone and bool(seat.open)
        self._recorded.pop(opened.unit.episode_id, None)
        self._ends[result.index] = result.episode
        if result.missed is not None:
            progress.missed[opened.unit.episode_id] = result.missed
        if result.episode is not None:
            self._finished(result.episode)
        self._release()

    def _release(self) -> None:
        """Once everything is over, wait no longer for workers that have not begun: a cluster may never have room."""
        for seat in self._seats if self._over else ():
            if not seat.ready:
                seat.starting.cancel()

    def _finished(self, episode: Episode) -> None:
        self._context.progress.finished(episode)
        if self._context.policy.fail_fast and is_faulted(episode):
            self._stopping = True

    # --- what goes down -----------------------------------------------------------------------------------------------

    def _orders(self, seat: _Seat) -> tuple[Order, ...]:
        """Units for a worker: suspects alone, others up to its concurrency, and more while many are waiting."""
        if seat.alone:
            return ()
        taken: list[_Open] = []
        if not seat.open and not self._waiting and self._suspects:
            taken.append(self._suspects.popleft())
            seat.alone = True
        spare = EXTRA if len(self._waiting) > len(self._seats) * (seat.concurrency + EXTRA) else 0
        while self._waiting and len(seat.open) + len(taken) < seat.concurrency + spare:
            taken.append(self._waiting.popleft())
        seat.open |= {opened.index: opened for opened in taken}
        past = self._context.past
        return tuple(Order(opened.index, opened.unit, past.of(opened.unit)) for opened in taken)

    # --- losses -------------------------------------------------------------------------------------------------------

    async def _lost(self, seat: _Seat, lost: WorkerLost) -> None:
        """Put the open units of a lost worker back.

        Raises:
            UsageError: workers end before they play anything.
        """
        context, names = self._context, tuple(each.unit.episode_id for each in seat.open.values())
        context.progress.workers_lost += 1
        seat.lost += 1
        gone = WorkerGone(context.spec.run_id, seat.number, seat.place, names, str(lost), time.time())
        context.recorder.record(gone)
        if not seat.ready and not self._over:
            self._failed_starts += 1
            if self._failed_starts >= LIVES:
                raise UsageError(
                    f"no worker can be started: {lost}; --workers 1 --engine processes plays in this process"
                ) from lost
        opened, seat.open = [*seat.open.values()], {}
        if opened:
            await self._context.past.renew()
        for each in reversed(opened):
            line = self._recorded.pop(each.unit.episode_id, None)
            if line is not None:  # it had ended, only its result was lost
                goals = tuple(goal.key for goal in each.unit.task.goals)
                episode = replace(cast("Episode", decode(line)), goals=goals)
                self._ends[each.index] = episode
                self._finished(episode)
                continue
            each.losses += 1
            each.unit = replace(each.unit, attempt=each.unit.attempt + 1)
            if each.losses >= LIVES:
                self._give_up(each, lost)
            elif each.losses == LIVES - 1:
                self._suspects.append(each)
            else:
                self._waiting.appendleft(each)
        self._release()

    def _give_up(self, opened: _Open, lost: WorkerLost) -> None:
        """Record a unit that ends every worker as a fault."""
        unit, recorder, tools = opened.unit, self._context.recorder, toolset(())
        fault = WorkerLost(f"playing {unit.task.id} ended {opened.losses} workers; the last: {lost}")
        goals = tuple(goal.key for goal in unit.task.goals)
        names = (unit.episode_id, unit.run_id, unit.task.id, unit.trial)
        started = EpisodeStarted(*names, self._context.search, tools.toolset_id, goals, time.time(), unit.attempt)
        episode = Episode(
            episode_id=unit.episode_id,
            reward=None,
            outcome=fault_outcome(fault),
            faults=1,
            error=str(fault),
            full_reward=self._context.full_reward,
            goals=goals,
        )
        events: tuple[Event, ...] = (tools, started, episode)
        for event in events:
            recorder.record(event)
        self._context.progress.fault(fault)
        self._ends[opened.index] = episode
        self._finished(episode)
