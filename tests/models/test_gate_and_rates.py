from __future__ import annotations

from dataclasses import dataclass, field, replace

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from players_models import HELLO, KEY, Played, Timeline, key, said

from simkit.errors import ServerFailed, UsageError
from simkit.messages import UserMessage
from simkit.models import CallKey, ChatRequest, ChatResponse, Sampling, Usage
from simkit.models.estimate import FRAME, TokenEstimate, request_bytes
from simkit.models.gate import Adaptive, Gate, LimitedModel
from simkit.models.meter import Meter
from simkit.models.rates import Flow, RatedModel, Rates

pytestmark = pytest.mark.anyio


@dataclass
class Held:
    """A model whose answers wait until they are let go, one by one."""

    name: str = "held"
    order: list[int] = field(default_factory=list[int])
    most: int = 0
    under_way: dict[int, anyio.Event] = field(default_factory=dict[int, anyio.Event])

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.order.append(key.call)
        release = self.under_way[key.call] = anyio.Event()
        self.most = max(self.most, len(self.under_way))
        try:
            await release.wait()
        finally:
            del self.under_way[key.call]
        return said()

    def let_go(self) -> None:
        for release in self.under_way.values():
            release.set()


async def test_no_more_than_the_limit_are_let_in_first_come_first_served() -> None:
    inner, meter = Held(), Meter()
    model = LimitedModel(inner, Gate(3, meter))
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(model.complete, HELLO, key(call=number))
            await wait_all_tasks_blocked()  # one at a time: trio starts tasks in any order
        assert (inner.order, meter.in_flight, meter.waiting) == ([0, 1, 2], 3, 7)
        for number in range(10):
            inner.under_way[number].set()
            await wait_all_tasks_blocked()
    assert inner.most == 3
    assert inner.order == list(range(10))
    assert (meter.in_flight, meter.waiting) == (0, 0)


async def test_a_cancelled_wait_leaves_the_place_to_the_next() -> None:
    inner = Held()
    gate = Gate(1)
    model = LimitedModel(inner, gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(model.complete, HELLO, key(call=0))
        await wait_all_tasks_blocked()
        async with anyio.create_task_group() as given_up:
            given_up.start_soon(model.complete, HELLO, key(call=1))
            await wait_all_tasks_blocked()
            given_up.cancel_scope.cancel()
        tasks.start_soon(model.complete, HELLO, key(call=2))
        await wait_all_tasks_blocked()
        inner.let_go()
        await wait_all_tasks_blocked()
        inner.let_go()
    assert inner.order == [0, 2]


async def test_cancelled_at_the_moment_of_entering() -> None:
    inner, meter = Held(), Meter()
    gate = Gate(1, meter)
    await gate.enter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(LimitedModel(inner, gate).complete, HELLO, KEY)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()  # the waiting call is cancelled ...
        gate.leave()  # ... and let in before it notices
    assert (inner.order, meter.in_flight, meter.waiting) == ([], 0, 0)
    with anyio.fail_after(5):
        await gate.enter()


async def test_a_failed_call_gives_its_place_back() -> None:
    model = LimitedModel(Played.of([ServerFailed("x"), said()]), Gate(1))
    with pytest.raises(ServerFailed):
        await model.complete(HELLO, KEY)
    await model.complete(HELLO, KEY)


def use(gate: Gate, calls: int) -> None:
    """So many calls at once, all answered. Enters without waiting, because there is room."""
    for _ in range(calls):
        coroutine = gate.enter()
        with pytest.raises(StopIteration):
            coroutine.send(None)
    for _ in range(calls):
        gate.leave(answered=True)


def adaptive(line: Timeline, **policy: float) -> Gate:
    chosen = Adaptive(start=int(policy.get("start", 4)), most=int(policy.get("most", 100)), cut=0.5, cooldown=5.0)
    return Gate(chosen, clock=line.clock)


def test_the_limit_grows_only_when_it_is_used() -> None:
    gate = adaptive(Timeline())
    use(gate, 3)
    assert gate.limit == 4
    use(gate, 4)
    assert gate.limit > 4


async def test_the_limit_doubles_with_every_full_round_until_the_first_429() -> None:
    line, inner = Timeline(), Held()
    gate = adaptive(line, start=4)
    model = LimitedModel(inner, gate)
    limits: list[int] = []
    async with anyio.create_task_group() as tasks:
        for number in range(28):
            tasks.start_soon(model.complete, HELLO, key(call=number))
        while len(inner.order) < 28:
            await wait_all_tasks_blocked()
            limits.append(len(inner.under_way))
            inner.let_go()
            await wait_all_tasks_blocked()
        inner.let_go()
    assert limits[:2] == [4, 8]
    assert gate.limit >= 16


def test_a_429_cuts_once_and_growth_is_slow_from_there() -> None:
    line = Timeline()
    gate = adaptive(line, start=16)
    for _ in range(10):
        gate.cut()
    assert gate.limit == 8
    use(gate, 8)
    assert gate.limit == 8  # cooling down
    line.time += 5
    use(gate, 8)
    assert gate.limit == 8
    use(gate, 8)
    assert 8 <= gate.limit <= 9
    for _ in range(20):
        line.time += 5
        gate.cut()
    assert gate.limit == 1


def test_the_limit_stays_within_its_bounds() -> None:
    gate = adaptive(Timeline(), start=4, most=5)
    for _ in range(5):
        use(gate, gate.limit)
    assert gate.limit == 5


def test_a_fixed_limit_is_fixed() -> None:
    gate = Gate(4)
    gate.cut()
    use(gate, 4)
    assert gate.limit == 4


def test_limits_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="--api-concurrency is 0"):
        Gate(0)
    with pytest.raises(UsageError, match="least <= start <= most"):
        Adaptive(start=10, most=5)


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_flow_lets_a_second_through_at_once_and_spreads_the_rest() -> None:
    flow = Flow("--rpm", 120)  # two a second
    assert [flow.take(1, 100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert flow.take(1, 200.0) == 0.0
    flow.adjust(-1)
    assert [flow.take(1, 200.0) for _ in range(3)] == [0.0, 0.0, 0.0]


async def test_requests_a_minute() -> None:
    line = Timeline()
    model = RatedModel(Played(lambda _: said()), Rates(rpm=60, clock=line.clock))
    for _ in range(10):
        await model.complete(HELLO, KEY)
    assert line.time == pytest.approx(108.0)  # two at once, then one a second


async def test_tokens_a_minute_follow_what_was_really_used() -> None:
    line = Timeline()
    model = RatedModel(Played(lambda _: said(usage=Usage(900, 100))), Rates(tpm=60_000, clock=line.clock))
    for _ in range(31):
        await model.complete(HELLO, KEY)
    assert line.time - 100 == pytest.approx(30, abs=2.0)


def test_rates_that_cannot_be() -> None:
    for wrong in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="--tpm"):
            Rates(tpm=wrong)


def test_an_estimate_learns_and_its_bound_holds() -> None:
    estimate, size = TokenEstimate(), request_bytes(HELLO)
    assert estimate.bound(HELLO) == size + FRAME
    estimate.learn(HELLO, size // 4)
    longer = replace(HELLO, messages=(*HELLO.messages, UserMessage.of("x" * 1000)), sampling=Sampling(max_tokens=5))
    assert request_bytes(longer) // 4 <= estimate.bound(longer) < request_bytes(longer)
    estimate.learn(HELLO, 0)
    assert estimate.bound(longer) < request_bytes(longer)
