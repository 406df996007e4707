"""Places of an endpoint are shared as one after the other would share them, from the smallest demand on."""

from __future__ import annotations

from random import Random

from simkit.models.middleware.lending import Demands


def shares_one_by_one(demands: dict[int, int], limit: int) -> dict[int, int]:
    """The shares of all workers, each computed from what the ones before it have left."""
    left, found = limit, dict[int, int]()
    for rank, (demand, worker) in enumerate(sorted((demand, worker) for worker, demand in demands.items())):
        found[worker] = min(demand, left // (len(demands) - rank))
        left -= found[worker]
    return {worker: share + left // len(demands) for worker, share in found.items()}


def test_shares_are_those_of_one_after_the_other() -> None:
    random = Random(1)
    for _ in range(300):
        demands, expected = Demands(), dict[int, int]()
        for _ in range(random.randrange(1, 30)):
            worker, demand = random.randrange(8), random.choice((0, 0, 1, 2, 3, 5, 40))
            if random.random() < 0.2:
                demands.remove(worker)
                expected.pop(worker, None)
            else:
                demands.set(worker, demand)
                expected[worker] = demand
        limit = random.choice((1, 2, 7, 10, 64))
        if expected:
            shares = {worker: demands.share(worker, limit) for worker in expected}
            assert shares == shares_one_by_one(expected, limit)
            assert sum(shares.values()) <= max(limit, 0)
