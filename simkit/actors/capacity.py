"""Capacities with FIFO queues: concurrent requests and open sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter

import anyio

from simkit.errors import UsageError


class Capacity:
    """A fixed number of places with a FIFO queue for callers that find too few free ones.

    Each caller waits only for its places, so the queue is never longer than the number of callers: that is the
    back-pressure.

    Attributes:
        places: total number of places.
        rank: position in the order in which several capacities are acquired.
        in_use: number of places taken.
        most_waiting: maximum length of the queue so far.
        waited: total seconds spent in the queue by callers that have left it.
    """

    __slots__ = ("_closed", "_queue", "in_use", "most_waiting", "places", "rank", "waited")

    def __init__(self, places: int, rank: int = 0) -> None:
        self.places = places
        self.rank = rank
        self.in_use = 0
        self.most_waiting = 0
        self.waited = 0.0
        self._closed = False
        self._queue: OrderedDict[anyio.Event, int] = OrderedDict()

    @property
    def waiting(self) -> int:
        """The length of the queue."""
        return len(self._queue)

    async def take(self, places: int = 1) -> None:
        """Take all requested places at once, waiting in the queue. A cancelled caller leaves it and takes none."""
        if not self._queue and self.in_use + places <= self.places:
            self.in_use += places
            return
        turn, began = anyio.Event(), perf_counter()
        self._queue[turn] = places
        self.most_waiting = max(self.most_waiting, len(self._queue))
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.in_use -= places
            else:
                del self._queue[turn]
            self._admit()
            raise
        finally:
            self.waited += perf_counter() - began

    def give_back(self, places: int = 1) -> None:
        """Release places that were taken."""
        self.in_use -= places
        self._admit()

    def close(self) -> None:
        """Wake all callers in the queue, because the actor has ended."""
        self._closed = True
        self._admit()

    def _admit(self) -> None:
        while self._queue:
            turn, places = next(iter(self._queue.items()))
            if not self._closed and self.in_use + places > self.places:
                return
            del self._queue[turn]
            self.in_use += places
            turn.set()


class HeldPlaces:
    """Places of several capacities, for an `async with` block.

    They are acquired in the order of their ranks, and nothing more is acquired inside the block, so two blocks cannot
    deadlock.
    """

    __slots__ = ("_capacities", "_places", "_taken")

    def __init__(self, capacities: Sequence[Capacity], places: int) -> None:
        self._capacities = sorted(dict.fromkeys(capacities), key=_rank)
        self._places = places
        self._taken: list[Capacity] = []

    async def __aenter__(self) -> None:
        try:
            for capacity in self._capacities:
                await capacity.take(self._places)
                self._taken.append(capacity)
        except BaseException:
            self._free()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._free()

    def _free(self) -> None:
        while self._taken:
            self._taken.pop().give_back(self._places)


def _rank(capacity: Capacity) -> int:
    return capacity.rank


def declared_capacity(actor: object, name: str, attribute: str, rank: int, share: int = 1) -> Capacity | None:
    """The capacity an actor declares in an attribute (`concurrency`, `sessions`); None for no limit.

    `share` is the number of processes among which it is divided.

    Raises:
        UsageError: it is neither None nor a whole number of at least 1, or less than `share`.
    """
    places: object = getattr(actor, attribute, None)
    if places is None:
        return None
    if not isinstance(places, int) or isinstance(places, bool) or places < 1:
        raise UsageError(f"`{name}` declares `{attribute} = {places!r}`; it must be at least 1, or None for no limit")
    if places < share:
        raise UsageError(
            f"`{name}` declares `{attribute} = {places}`, which cannot be divided among {share} workers; use --workers "
            f"{places}"
        )
    return Capacity(places // share, rank)
