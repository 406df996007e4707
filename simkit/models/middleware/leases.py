"""Limits of a run in its workers: budget, rates and concurrency are leased from the driver.

Wants and leases ride on the exchanges between driver and workers. A worker reserves from its part of the budget without
asking, and asks for more when a call does not fit. Calls that wait for a slot of `--rpm` or `--tpm` are told how long
to wait, as a number of seconds, since machines have no common clock. Adaptive limits of concurrency stay with each
worker, and are cut in all of them after a 429.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count

import anyio

from simkit.core.limits import Clock
from simkit.errors import BudgetExhausted
from simkit.models.base import CallKey, ChatRequest
from simkit.models.config import Adaptive
from simkit.models.middleware.budget import Allowances, Amount, Budget, Reservation
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit
from simkit.models.middleware.metrics import CallMetrics
from simkit.models.middleware.rate_limit import RateLimits

NOTHING = Amount()

MOST_WANTS = 64
"""Calls without room in the budget that a worker reports at once."""


@dataclass(frozen=True)
class Places:
    """Use of an endpoint by one worker: calls in flight, and calls that wait for a place."""

    in_flight: int
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Wants:
    """What a worker has used and wants.

    Attributes:
        spent, held: amounts used so far, and reserved by calls in flight.
        returned: part of its lease that comes back, since the driver asked for it.
        calls: amounts of calls that do not fit into its lease, by number.
        places: use of each endpoint with a fixed concurrency.
        slots: likely tokens of calls that wait for a slot, by endpoint and in order.
        corrections: tokens used beyond those that were taken, by endpoint.
        cuts: endpoints whose adaptive limit was cut.
    """

    spent: Amount = NOTHING
    held: Amount = NOTHING
    returned: Amount = NOTHING
    calls: tuple[tuple[int, Amount], ...] = ()
    places: Mapping[str, Places] = field(default_factory=dict[str, Places])
    slots: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    corrections: Mapping[str, float] = field(default_factory=dict[str, float])
    cuts: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Leases:
    """What the driver grants.

    Attributes:
        granted: amount added to the worker's part of the budget.
        refused: messages for calls that will not fit, by number.
        recall: whether unused parts of the budget have to come back.
        places: concurrency of each endpoint.
        delays: seconds for each call that waits for a slot, in the order of `Wants.slots`.
        cuts: endpoints whose adaptive limit has to be cut.
        seconds: seconds until the run's time is up; None without a bound.
    """

    granted: Amount = NOTHING
    refused: Mapping[int, str] = field(default_factory=dict[int, str])
    recall: bool = False
    places: Mapping[str, int] = field(default_factory=dict[str, int])
    delays: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    cuts: frozenset[str] = frozenset()
    seconds: float | None = None


def endpoint_name(endpoint: Hashable) -> str:
    """A name for an endpoint, the same in driver and workers, that does not reveal its key."""
    return sha256(repr(endpoint).encode()).hexdigest()[:16]


class LeasedBudget(Budget):
    """The budget of a run in one of its workers: its part of the run's tokens and cost is leased from the driver.

    Args:
        allowances: those of the run; budgets of episodes and branches hold here, because each is played by one worker.
        wake: called when the driver has to hear of something.
        clock: time source.
    """

    def __init__(self, allowances: Allowances, wake: Callable[[], None], clock: Clock | None = None) -> None:
        super().__init__(allowances, clock=clock)
        self._granted = Amount()
        self._returned = Amount()
        self._ask = wake
        self._numbers = count()
        self._wanted: dict[int, Amount] = {}
        self._refused: dict[int, str] = {}

    def wants(self) -> Wants:
        """What to tell the driver."""
        returned, self._returned = self._returned, Amount()
        calls = tuple(self._wanted.items())[:MOST_WANTS]
        return Wants(spent=self.spent, held=self.held, returned=returned, calls=calls)

    def take(self, leases: Leases) -> None:
        """Take what the driver grants."""
        self._granted = self._granted.plus(leases.granted)
        self._refused |= {number: text for number, text in leases.refused.items() if number in self._wanted}
        if leases.recall:
            unused = self._granted.less(self.spent).less(self.held)
            unused = Amount(max(0.0, unused.tokens), max(0.0, unused.cost))
            self._granted, self._returned = self._granted.less(unused), self._returned.plus(unused)
        if leases.seconds is not None:
            self._deadline = self._clock.timer() + leases.seconds
        if leases.granted != NOTHING or leases.refused:
            self._wake()

    async def reserve(self, amount: Amount, key: CallKey) -> Reservation:
        """Reserve an amount, after waiting for other calls or for the driver if necessary.

        Raises:
            BudgetExhausted: the amount exceeds the remaining budget of the run.
            LimitHit: the amount exceeds the remaining budget of the episode or branch.
        """
        while (refusal := self._refusal(amount, key)) is not None:
            account, error = refusal
            if account is self._run:
                await self._more(amount)
            elif account.calls == 0:
                raise error
            else:
                await self._settled.wait()
        return self._hold(amount, key)

    async def charge(self, used: Amount, key: CallKey) -> None:
        """Charge a failed attempt that is about to be repeated, in addition to the reservation of its call.

        Raises:
            BudgetExhausted, LimitHit: the reservation no longer fits.
        """
        for account in self._accounts_of(key):
            account.spent = account.spent.plus(used)
        if self._short_of_run(Amount()):
            await self._more(Amount())
        if (refusal := self._refusal(Amount(), key)) is not None:
            raise refusal[1]

    def _short_of_run(self, amount: Amount) -> str:
        used, bound = self.spent.plus(self.held).plus(amount), self.allowances.run
        if bound.tokens is not None and used.tokens > self._granted.tokens:
            return "tokens"
        if bound.cost is not None and used.cost > self._granted.cost + 1e-12:
            return "cost"
        return ""

    async def _more(self, amount: Amount) -> None:
        """Wait until an amount fits into the lease."""
        number = next(self._numbers)
        self._wanted[number] = amount
        self._ask()
        try:
            while self._short_of_run(amount):
                if number in self._refused:
                    raise BudgetExhausted(self._refused[number])
                await self._settled.wait()
        finally:
            del self._wanted[number]
            self._refused.pop(number, None)


class LeasedConcurrency(ConcurrencyLimit):
    """A limit of concurrency in a worker: a fixed one is leased and begins with no place, an adaptive one is its own.

    Args:
        limit: the limit of the run.
        workers: number of workers among which an adaptive limit is divided.
        wake: called when the driver has to hear of something.
        metrics, clock: as for `ConcurrencyLimit`.
    """

    def __init__(
        self, limit: int | Adaptive, workers: int, wake: Callable[[], None], metrics: CallMetrics, clock: Clock
    ) -> None:
        super().__init__(_part(limit, workers), metrics, clock)
        self._ask = wake
        self.was_cut = False
        if not self.adaptive:
            self._set(0.0)

    def places(self) -> Places:
        """Calls in flight and waiting."""
        return Places(self._in_flight, len(self._waiting))

    def lease(self, places: int) -> None:
        """Take this many places; calls in flight beyond it end first."""
        self._set(float(places))
        self._admit()

    async def enter(self) -> None:
        """Wait for a place. Every `enter` needs a `leave`."""
        if self.free <= 0:
            self._ask()
        await super().enter()

    def cut(self) -> bool:
        """Reduce the adaptive limit after a 429; the other workers hear of it."""
        was_cut = super().cut()
        self.was_cut = self.was_cut or was_cut
        return was_cut

    def cut_elsewhere(self) -> None:
        """Reduce the adaptive limit after a 429 of another worker."""
        super().cut()


def _part(limit: int | Adaptive, workers: int) -> int | Adaptive:
    if isinstance(limit, int):
        return limit
    most = max(limit.least, limit.most // workers)
    return replace(limit, start=min(most, max(limit.least, limit.start // workers)), most=most)


class LeasedRates(RateLimits):
    """Rate limits in a worker: the driver says how long each call has to wait."""

    def __init__(
        self, *, rpm: float | None, tpm: float | None, wake: Callable[[], None], clock: Clock | None = None
    ) -> None:
        super().__init__(rpm=rpm, tpm=tpm, clock=clock)
        self._ask = wake
        self._queue: list[_Turn] = []
        self._sent: list[_Turn] = []
        self._correction = 0.0

    def slots(self) -> tuple[float, ...]:
        """Likely tokens of the calls that wait for the driver's answer, in order; it comes with `take_delays`."""
        self._sent, self._queue = self._queue, []
        return tuple(turn.tokens for turn in self._sent)

    def correction(self) -> float:
        """Tokens used beyond those taken, since the last call."""
        correction, self._correction = self._correction, 0.0
        return correction

    def take_delays(self, delays: tuple[float, ...]) -> None:
        """Take the delays for the calls of the last `slots`."""
        for turn, delay in zip(self._sent, delays, strict=True):
            turn.delay = delay
            turn.known.set()
        self._sent = []

    async def wait(self, request: ChatRequest) -> float:
        """Wait until a request may be sent. Returns the tokens taken for it."""
        turn = _Turn(self.likely(request))
        self._queue.append(turn)
        self._ask()
        await turn.known.wait()
        if turn.delay > 0:
            await self.clock.sleep(turn.delay)
        return turn.tokens

    def correct(self, tokens: float) -> None:
        """Correct by the tokens used beyond those taken; the driver hears of it."""
        self._correction += tokens


@dataclass(slots=True)
class _Turn:
    tokens: float
    delay: float = 0.0
    known: anyio.Event = field(default_factory=anyio.Event)


class WorkerLeases:
    """All limits of a run in one of its workers.

    Args:
        allowances: those of the run.
        workers: number of workers.
        wake: called when the driver has to hear of something.
        clock: time source.
    """

    def __init__(
        self, allowances: Allowances, workers: int, wake: Callable[[], None], clock: Clock | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.budget = LeasedBudget(allowances, wake, self.clock)
        self._workers = workers
        self._wake = wake
        self._gates: dict[str, LeasedConcurrency] = {}
        self._rates: dict[str, LeasedRates] = {}

    def concurrency(self, endpoint: Hashable, limit: int | Adaptive, metrics: CallMetrics) -> ConcurrencyLimit:
        """The limit of concurrency of an endpoint."""
        gate = LeasedConcurrency(limit, self._workers, self._wake, metrics, self.clock)
        self._gates[endpoint_name(endpoint)] = gate
        return gate

    def rates(self, endpoint: Hashable, rpm: float | None, tpm: float | None) -> RateLimits:
        """The rate limits of an endpoint."""
        rates = LeasedRates(rpm=rpm, tpm=tpm, wake=self._wake, clock=self.clock)
        self._rates[endpoint_name(endpoint)] = rates
        return rates

    def wants(self) -> Wants:
        """What to tell the driver."""
        slots = {name: rates.slots() for name, rates in self._rates.items()}
        corrections = {name: rates.correction() for name, rates in self._rates.items()}
        cuts = frozenset(name for name, gate in self._gates.items() if gate.was_cut)
        for gate in self._gates.values():
            gate.was_cut = False
        return replace(
            self.budget.wants(),
            places={name: gate.places() for name, gate in self._gates.items() if not gate.adaptive},
            slots={name: each for name, each in slots.items() if each},
            corrections={name: each for name, each in corrections.items() if each},
            cuts=cuts,
        )

    def take(self, leases: Leases) -> None:
        """Take what the driver grants."""
        self.budget.take(leases)
        for name, places in leases.places.items():
            self._gates[name].lease(places)
        for name, delays in leases.delays.items():
            self._rates[name].take_delays(delays)
        for name in leases.cuts:
            if name in self._gates:
                self._gates[name].cut_elsewhere()
