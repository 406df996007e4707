"""The driver's side of leases: it lends parts of a run's limits to workers, and never more than there is.

The run's own `Budget`, `ConcurrencyLimit` and `RateLimits` are the accounts, so calls that the driver makes itself draw
on the same limits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field

from simkit.models.middleware.budget import Amount, Budget
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit
from simkit.models.middleware.leases import NOTHING, Leases, Places, Wants
from simkit.models.middleware.rate_limit import RateLimits

NO_PLACES = Places(0, 0)

PIECE = 0.02
"""Share of the remaining budget that a worker gets at a time, if it asks for less."""


@dataclass(frozen=True, slots=True)
class EndpointAccounts:
    """The limits of one endpoint."""

    concurrency: ConcurrencyLimit
    rates: RateLimits | None = None


@dataclass(slots=True)
class _Borrower:
    """What one worker has: `lent` is the part of its lease that it has not reported as spent."""

    lent: Amount = NOTHING
    spent: Amount = NOTHING
    wants: Wants = field(default_factory=Wants)
    places: dict[str, int] = field(default_factory=dict[str, int])
    sent: dict[str, int] = field(default_factory=dict[str, int])
    cuts: set[str] = field(default_factory=set[str])
    recalled: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What one worker holds: a part of the budget, and places for calls at endpoints with a fixed concurrency."""

    budget: Amount = NOTHING
    places: int = 0


class Lender:
    """Lends the limits of a run to the workers of one play.

    Args:
        budget: the run's budget.
        endpoints: limits of the run's endpoints, by name.
    """

    def __init__(self, budget: Budget, endpoints: Mapping[str, EndpointAccounts]) -> None:
        self._budget = budget
        self._endpoints = endpoints
        self._borrowers: dict[int, _Borrower] = {}
        self._demands = {name: Demands() for name in endpoints}

    def held(self, worker: int) -> Held:
        """What a worker has leased and not used."""
        borrower = self._borrowers.get(worker)
        return Held() if borrower is None else Held(borrower.lent, sum(borrower.places.values()))

    def enter(self, worker: int) -> None:
        """A worker begins."""
        self._borrowers[worker] = _Borrower()
        for demands in self._demands.values():
            demands.set(worker, 0)
        self._budget.lending(1)

    def leave(self, worker: int, *, lost: bool = False) -> None:
        """A worker has ended. What a lost one had counts as spent, since its last calls are not known."""
        borrower = self._borrowers.pop(worker)
        if lost:
            self._budget.spend_lent(borrower.lent)
        else:
            self._budget.lend(NOTHING.less(borrower.lent))
        for name, places in borrower.places.items():
            self._endpoints[name].concurrency.lend(-places)
        for demands in self._demands.values():
            demands.remove(worker)
        self._budget.lending(-1)

    def settle(self, worker: int, wants: Wants) -> None:
        """Account for what a worker has used and given back."""
        borrower, budget = self._borrowers[worker], self._budget
        used = wants.spent.less(borrower.spent)
        budget.spend_lent(used)
        budget.lend(NOTHING.less(wants.returned))
        borrower.lent = borrower.lent.less(used).less(wants.returned)
        borrower.spent, borrower.wants = wants.spent, wants
        for name, demands in self._demands.items():
            use = wants.places.get(name, NO_PLACES)
            demands.set(worker, use.in_flight + use.waiting)
        for name, use in wants.places.items():
            self._give_back(borrower, name, use)
        for name, tokens in wants.corrections.items():
            if (rates := self._endpoints[name].rates) is not None:
                rates.correct(tokens)
        for other in self._borrowers.values():
            if other is not borrower:
                other.cuts |= wants.cuts

    def leases(self, worker: int) -> Leases:
        """What a worker gets with the next exchange."""
        borrower = self._borrowers[worker]
        granted, refused = self._amounts(borrower)
        delays: dict[str, tuple[float, ...]] = {}
        for name, slots in borrower.wants.slots.items():
            rates = self._endpoints[name].rates
            delays[name] = tuple(0.0 if rates is None else rates.take(tokens) for tokens in slots)
        places = {name: self._places(worker, borrower, name) for name in borrower.wants.places}
        changed = {name: number for name, number in places.items() if borrower.sent.get(name) != number}
        borrower.sent |= changed
        cuts, borrower.cuts = frozenset(borrower.cuts), set[str]()
        recall = borrower.recalled and granted == NOTHING  # else it would give back what it has just got
        borrower.recalled = False
        return Leases(
            granted=granted,
            refused=refused,
            recall=recall,
            places=changed,
            delays=delays,
            cuts=cuts,
            seconds=self._budget.seconds_left(),
        )

    # --- budget -------------------------------------------------------------------------------------------------------

    def _amounts(self, borrower: _Borrower) -> tuple[Amount, dict[int, str]]:
        """The amount to add to a lease, and messages for calls that will never fit."""
        granted, refused, held = NOTHING, dict[int, str](), borrower.wants.held
        for number, amount in borrower.wants.calls:
            held = held.plus(amount)
            needed = _positive(held.less(borrower.lent))
            if not self._budget.room(needed):
                piece = self._piece(needed)
                self._budget.lend(piece)
                borrower.lent, granted = borrower.lent.plus(piece), granted.plus(piece)
                continue
            held = held.less(amount)
            if amount == NOTHING or self._alone():  # a failed attempt is charged while its call holds its own part
                refused[number] = str(self._budget.exhausted(self._budget.room(needed), amount))
            else:
                for other in self._borrowers.values():
                    other.recalled = True
        return granted, refused

    def _piece(self, needed: Amount) -> Amount:
        """At least what is needed, at most what is left."""
        run, used = self._budget.allowances.run, self._budget.spent.plus(self._budget.held)
        tokens = 0.0 if run.tokens is None else PIECE * (run.tokens - used.tokens)
        cost = 0.0 if run.cost is None else PIECE * (run.cost - used.cost)
        return Amount(max(needed.tokens, float(int(tokens))), max(needed.cost, cost))

    def _alone(self) -> bool:
        """Whether nothing is lent and no call of the driver is in flight, so that nothing can come back."""
        lent = all(_is_nothing(each.lent) for each in self._borrowers.values())
        return lent and self._budget.calls == len(self._borrowers)

    # --- concurrency --------------------------------------------------------------------------------------------------

    def _give_back(self, borrower: _Borrower, name: str, use: Places) -> None:
        """Take back places that a worker no longer uses, beyond those that it was told to keep."""
        keeps = max(borrower.sent.get(name, 0), use.in_flight)
        had = borrower.places.get(name, 0)
        if keeps < had:
            self._endpoints[name].concurrency.lend(keeps - had)
            borrower.places[name] = keeps

    def _places(self, worker: int, borrower: _Borrower, name: str) -> int:
        """The concurrency of a worker at an endpoint: its share by demand, as far as places are free."""
        gate, had = self._endpoints[name].concurrency, borrower.places.get(name, 0)
        share = self._demands[name].share(worker, gate.limit)
        if share > had:
            more = min(share - had, max(0, gate.free))
            gate.lend(more)
            borrower.places[name] = had = had + more
        return min(share, had)


class Demands:
    """Demands of all workers at one endpoint, from the smallest to the greatest: how its places are shared."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self._order: list[tuple[int, int]] = []
        self._total = 0

    def set(self, worker: int, demand: int) -> None:
        """Note what a worker demands now."""
        if self._of.get(worker) == demand:
            return
        self.remove(worker)
        insort(self._order, (demand, worker))
        self._of[worker] = demand
        self._total += demand

    def remove(self, worker: int) -> None:
        """Forget a worker."""
        demand = self._of.pop(worker, None)
        if demand is not None:
            del self._order[bisect_left(self._order, (demand, worker))]
            self._total -= demand

    def share(self, worker: int, limit: int) -> int:
        """Fair share of a worker: no worker gets more than it wants while another wants more."""
        own, count = self._of[worker], len(self._order)
        if self._total <= limit:
            return own + (limit - self._total) // count
        place, left = bisect_left(self._order, (own, worker)), limit
        for rank, (demand, _) in enumerate(self._order):
            level, more = divmod(left, count - rank)
            if demand > level:  # it and all greater ones get the same, and the last ones what remains
                return own if place < rank else level + (place >= count - more)
            left -= demand
        return own


def _positive(amount: Amount) -> Amount:
    return Amount(max(0.0, amount.tokens), max(0.0, amount.cost))


def _is_nothing(amount: Amount) -> bool:
    return amount.tokens < 0.5 and amount.cost < 1e-9
