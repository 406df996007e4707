"""Limited places, given out first come, first served: requests served at once, sessions held open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter

import anyio

from simkit.errors import UsageError


class Capacity:
    """A fixed number of places. Whoever finds too few free waits in a queue, and nobody overtakes in it.

    Everybody in the queue waits for the places and for nothing else, so it is as long as there are askers at most: that
    is the back-pressure.

    Attributes:
        places: how many there are.
        rank: where it stands in the order in which several capacities are taken.
        in_use: how many are taken.
        most_waiting: the greatest length of the queue so far.
        waited: seconds spent in the queue, summed over all that have left it.
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
        """Take places, all at once, waiting for them in the queue. Cancellation leaves the queue and takes none."""
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
        """Free places that were taken."""
        self.in_use -= places
        self._admit()

    def close(self) -> None:
        """Let everybody in the queue go on: what they wait for has ended."""
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


class Held:
    """Places of several capacities, for an `async with` block.

    They are taken in the order of their ranks, and nothing more is taken inside the block: so no two blocks can each
    hold what the other waits for.
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


def declared_capacity(actor: object, name: str, attribute: str, rank: int) -> Capacity | None:
    """The capacity an actor declares in an attribute (`concurrency`, `sessions`); None for no limit.

    Raises:
        UsageError: it is neither None nor a whole number of at least 1.
    """
    places: object = getattr(actor, attribute, None)
    if places is None:
        return None
    if not isinstance(places, int) or isinstance(places, bool) or places < 1:
        raise UsageError(f"`{name}` declares `{attribute} = {places!r}`; it must be at least 1, or None for no limit")
    return Capacity(places, rank)
