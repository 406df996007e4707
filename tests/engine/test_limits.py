"""Limits hold for all workers together: budgets, rates and concurrency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from simkit.core.ids import TurnKey
from simkit.core.limits import Limits
from simkit.errors import BudgetExhausted
from simkit.models.base import CallKey
from simkit.models.config import Adaptive, ModelConfig
from simkit.models.middleware.budget import Allowance, Allowances, Amount, Budget
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit
from simkit.models.middleware.leases import LeasedBudget, Leases, Places, Wants, WorkerLeases, endpoint_name
from simkit.models.middleware.lending import EndpointAccounts, Lender
from simkit.models.middleware.metrics import CallMetrics
from simkit.models.middleware.rate_limit import RateLimits
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.memory_engine import InMemory

pytestmark = pytest.mark.anyio

ASKING = f"{Path(__file__).parent.parent / 'resume' / 'asking.py'}:AskingAgent"
KEY = CallKey(TurnKey(0, "task", 0, "", 1), "agent")
ENDPOINT = ("http://here", "key")
NAME = endpoint_name(ENDPOINT)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 0.0

    def timer(self) -> float:
        return self.at

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here: {seconds}")


async def asked(store: Path, base_url: str, workers: int, **limits: Any) -> Run:
    models = ModelConfig(model="openai/load", base_url=base_url, max_tokens=8, **limits)
    run = Run(store=store, engine=InMemory(workers), models=models, seed=3, concurrency=8)
    try:
        async with run:
            world = run.world("builtin")
            cast = run.cast(world, agent=ASKING)
            await run.play(Rollout(Limits(turns=5)), cast, run.tasks(world, "train", "12"))
    except BudgetExhausted:
        pass
    return run


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
async def test_a_budget_is_never_overspent_and_used_up_to_one_reservation(tmp_path: Path, workers: int) -> None:
    async with serve(Behaviour()) as server:
        free = await asked(tmp_path / "free", server.base_url, 1)
        assert free.progress.metrics is not None
        whole = free.progress.metrics.usage.tokens
        bound = whole // 2
        run = await asked(tmp_path / "bound", server.base_url, workers, max_tokens_total=bound)
    assert run.progress.metrics is not None
    used = run.progress.metrics.usage.tokens
    assert run.status == "stopped"
    assert "--max-tokens-total" in str(run.problem)
    assert bound - 600 < used <= bound  # a call reserves up to a token per byte of its prompt at first


@pytest.mark.parametrize("workers", [2, 3])
async def test_workers_together_keep_a_fixed_concurrency(tmp_path: Path, workers: int) -> None:
    async with serve(Behaviour(latency=0.002)) as server:
        run = await asked(tmp_path, server.base_url, workers, api_concurrency=4)
        stats = await server.stats()
    assert run.status == "done"
    assert 1 <= stats.in_flight_max <= 4


async def test_one_place_is_enough_for_three_workers(tmp_path: Path) -> None:
    async with serve(Behaviour()) as server:
        run = await asked(tmp_path, server.base_url, 3, api_concurrency=1)
        stats = await server.stats()
    assert run.status == "done"
    assert stats.in_flight_max == 1


# --- leases and the lender --------------------------------------------------------------------------------------------


def lent(tokens: int, workers: int, **accounts: EndpointAccounts) -> tuple[Budget, Lender]:
    budget = Budget(Allowances(run=Allowance(tokens=tokens)))
    lender = Lender(budget, {NAME: accounts["at"]} if accounts else {})
    for number in range(workers):
        lender.enter(number)
    return budget, lender


def wanting(*calls: float, spent: float = 0, held: float = 0, returned: float = 0) -> Wants:
    return Wants(
        spent=Amount(spent),
        held=Amount(held),
        returned=Amount(returned),
        calls=tuple((number, Amount(tokens)) for number, tokens in enumerate(calls)),
    )


async def test_a_worker_gets_what_it_needs_or_a_fiftieth_of_what_is_left() -> None:
    budget, lender = lent(10_000, 2)
    lender.settle(0, wanting(50))
    assert lender.leases(0).granted == Amount(200)
    lender.settle(1, wanting(900))
    assert lender.leases(1).granted == Amount(900)
    assert budget.held == Amount(1100)


async def test_parts_that_others_do_not_use_come_back_before_a_call_is_refused() -> None:
    _, lender = lent(1000, 2)
    lender.settle(0, wanting(400, 300))
    assert lender.leases(0).granted == Amount(700)
    lender.settle(0, wanting(spent=100, held=0))
    lender.settle(1, wanting(600))
    assert lender.leases(1) == Leases(recall=True)  # not refused: the first worker has a part that it does not use
    assert lender.leases(0).recall
    lender.settle(0, wanting(spent=100, returned=600))
    assert lender.leases(1).granted == Amount(600)


async def test_a_call_is_refused_once_nothing_can_come_back() -> None:
    _, lender = lent(1000, 2)
    lender.settle(0, wanting(400))
    lender.leases(0)
    lender.settle(0, wanting(held=400))
    lender.settle(1, wanting(700))
    assert not lender.leases(1).refused  # a call in flight may use less than it reserved
    lender.settle(0, wanting(spent=400))
    found = lender.leases(1).refused
    assert list(found) == [0]
    assert "400 of the run's 1000 tokens are used, and the next call may use 700" in found[0]


async def test_what_a_lost_worker_had_counts_as_spent() -> None:
    budget, lender = lent(1000, 2)
    lender.settle(0, wanting(300))
    lender.leases(0)
    lender.settle(0, wanting(spent=100, held=150))
    lender.leave(0, lost=True)
    assert (budget.spent, budget.held) == (Amount(300), Amount(0))
    lender.settle(1, wanting(500))
    lender.leases(1)
    lender.leave(1)
    assert (budget.spent, budget.held, budget.calls) == (Amount(300), Amount(0), 0)


async def test_a_leased_budget_asks_for_more_and_gives_back_what_it_does_not_use() -> None:
    woken: list[int] = []
    budget = LeasedBudget(Allowances(run=Allowance(tokens=1000)), lambda: woken.append(1))
    async with anyio.create_task_group() as group:

        async def reserve() -> None:
            hold = await budget.reserve(Amount(80), KEY)
            budget.settle(hold, Amount(30))

        group.start_soon(reserve)
        await anyio.wait_all_tasks_blocked()
        assert woken
        assert budget.wants().calls == ((0, Amount(80)),)
        budget.take(Leases(granted=Amount(100)))
    budget.take(Leases(recall=True))
    assert budget.wants() == Wants(spent=Amount(30), returned=Amount(70))
    refused: list[str] = []

    async def refuse() -> None:
        try:
            await budget.reserve(Amount(1), KEY)
        except BudgetExhausted as error:
            refused.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(refuse)
        await anyio.wait_all_tasks_blocked()
        number = budget.wants().calls[0][0]
        budget.take(Leases(refused={number: "all is used"}))
    assert refused == ["all is used"]


async def test_the_driver_says_how_long_each_call_waits_and_no_burst_is_given_twice() -> None:
    clock: Any = Clock()
    rates = RateLimits(rpm=60, clock=clock)
    accounts = EndpointAccounts(ConcurrencyLimit(8, clock=clock), rates)
    _, lender = lent(1000, 2, at=accounts)
    lender.settle(0, Wants(slots={NAME: (0.0, 0.0, 0.0)}))
    lender.settle(1, Wants(slots={NAME: (0.0, 0.0)}))
    assert lender.leases(0).delays == {NAME: (0.0, 0.0, 1.0)}
    assert lender.leases(1).delays == {NAME: (2.0, 3.0)}


async def test_places_follow_demand_and_are_lent_only_once() -> None:
    gate = ConcurrencyLimit(10)
    _, lender = lent(1000, 2, at=EndpointAccounts(gate))
    lender.settle(0, using(0, 20))
    assert lender.leases(0).places == {NAME: 10}
    lender.settle(1, using(0, 20))
    assert lender.leases(1).places == {NAME: 0}  # all are in use; the first worker has to give some back
    lender.settle(0, using(10, 10))
    assert lender.leases(0).places == {NAME: 5}
    lender.settle(0, using(7, 10))
    lender.settle(1, using(0, 20))
    assert lender.leases(1).places == {NAME: 3}
    assert gate.free == 0
    lender.leave(0)
    lender.leave(1)
    assert gate.free == 10


def using(in_flight: int, waiting: int) -> Wants:
    return Wants(places={NAME: Places(in_flight, waiting)})


async def test_adaptive_limits_are_divided_and_cut_in_all_workers() -> None:
    clock: Any = Clock()
    limit = Adaptive(start=64, most=1000)
    workers = [WorkerLeases(Allowances(), 2, lambda: None, clock) for _ in range(2)]
    metrics = [CallMetrics() for _ in workers]
    gates = [each.concurrency(ENDPOINT, limit, seen) for each, seen in zip(workers, metrics, strict=True)]
    assert [gate.limit for gate in gates] == [32, 32]
    _, lender = lent(1000, 2, at=EndpointAccounts(ConcurrencyLimit(limit)))
    gates[0].cut()
    lender.settle(0, workers[0].wants())
    lender.settle(1, workers[1].wants())
    workers[0].take(lender.leases(0))
    workers[1].take(lender.leases(1))
    assert [gate.limit for gate in gates] == [22, 22]
    assert [seen.limit for seen in metrics] == [22, 22]
    lender.settle(1, workers[1].wants())
    assert not lender.leases(0).cuts  # a cut that was passed on is not passed back


async def test_a_budget_of_time_is_that_of_the_run() -> None:
    clock: Any = Clock()
    budget = Budget(Allowances(wall_seconds=10), clock=clock)
    lender = Lender(budget, {})
    lender.enter(0)
    assert lender.leases(0).seconds == 10
    clock.at = 4
    worker = LeasedBudget(Allowances(wall_seconds=10), lambda: None, clock)
    worker.take(lender.leases(0))
    assert worker.seconds_left() == 6


def test_names_of_endpoints_hide_their_keys() -> None:
    assert "secret" not in endpoint_name(("http://here", "secret"))
    assert endpoint_name(("a", "b")) != endpoint_name(("a", "c"))
