from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from players_models import HELLO, KEY, Played, Timeline, key, said

from simkit.core.messages import UserMessage
from simkit.errors import ServerFailed, UsageError
from simkit.models import CallKey, ChatRequest, ChatResponse, Sampling, Usage
from simkit.models.config import Adaptive
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit, ConcurrencyLimitedModel
from simkit.models.middleware.metrics import CallMetrics
from simkit.models.middleware.rate_limit import RateLimitedModel, RateLimiter, RateLimits
from simkit.models.middleware.token_estimate import FRAME, TokenEstimate, request_bytes

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
    inner, metrics = Held(), CallMetrics()
    model = ConcurrencyLimitedModel(inner, ConcurrencyLimit(3, metrics))
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(model.complete, HELLO, key(call=number))
            await wait_all_tasks_blocked()  # one at a time: trio starts tasks in any order
        assert (inner.order, metrics.in_flight, metrics.waiting) == ([0, 1, 2], 3, 7)
        for number in range(10):
            inner.under_way[number].set()
            await wait_all_tasks_blocked()
    assert inner.most == 3
    assert inner.order == list(range(10))
    assert (metrics.in_flight, metrics.waiting) == (0, 0)


async def test_a_cancelled_wait_leaves_the_place_to_the_next() -> None:
    inner = Held()
    concurrency = ConcurrencyLimit(1)
    model = ConcurrencyLimitedModel(inner, concurrency)
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
    inner, metrics = Held(), CallMetrics()
    concurrency = ConcurrencyLimit(1, metrics)
    await concurrency.enter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ConcurrencyLimitedModel(inner, concurrency).complete, HELLO, KEY)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()  # the waiting call is cancelled ...
        concurrency.leave()  # ... and let in before it notices
    assert (inner.order, metrics.in_flight, metrics.waiting) == ([], 0, 0)
    with anyio.fail_after(5):
        await concurrency.enter()


async def test_places_that_are_lent_are_taken_until_they_come_back() -> None:
    inner, metrics = Held(), CallMetrics()
    concurrency = ConcurrencyLimit(5, metrics)
    model = ConcurrencyLimitedModel(inner, concurrency)
    concurrency.lend(3)
    assert (concurrency.free, concurrency.limit, metrics.limit) == (2, 5, 2)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(model.complete, HELLO, key(call=number))
            await wait_all_tasks_blocked()
        assert (inner.order, concurrency.free, metrics.waiting) == ([0, 1], 0, 2)
        concurrency.lend(-1)
        await wait_all_tasks_blocked()
        assert (inner.order, concurrency.free, metrics.limit) == ([0, 1, 2], 0, 3)
        concurrency.lend(-2)
        await wait_all_tasks_blocked()
        assert (inner.order, concurrency.free, metrics.limit) == ([0, 1, 2, 3], 1, 5)
        inner.let_go()


async def test_a_failed_call_gives_its_place_back() -> None:
    answer = said()
    model = ConcurrencyLimitedModel(Played.of([ServerFailed("x"), answer]), ConcurrencyLimit(1))
    with pytest.raises(ServerFailed):
        await model.complete(HELLO, KEY)
    assert await model.complete(HELLO, KEY) is answer
    assert model.name == "played"


def use(concurrency: ConcurrencyLimit, calls: int) -> None:
    """Some calls at once, all answered."""
    fill(concurrency, calls)
    for _ in range(calls):
        concurrency.leave(answered=True)


def fill(concurrency: ConcurrencyLimit, calls: int) -> None:
    """Enter without waiting, because there is room."""
    for _ in range(calls):
        coroutine = concurrency.enter()
        with pytest.raises(StopIteration):
            coroutine.send(None)


def adaptive(line: Timeline, **policy: float) -> ConcurrencyLimit:
    chosen = Adaptive(start=int(policy.get("start", 4)), most=int(policy.get("most", 100)), cut=0.5, cooldown=5.0)
    return ConcurrencyLimit(chosen, clock=line.clock)


def test_the_limit_grows_only_when_it_is_used() -> None:
    concurrency = adaptive(Timeline())
    use(concurrency, 3)
    assert concurrency.limit == 4
    use(concurrency, 4)
    assert concurrency.limit > 4


async def test_the_limit_doubles_with_every_full_round_until_the_first_429() -> None:
    line, inner = Timeline(), Held()
    concurrency = adaptive(line, start=4)
    model = ConcurrencyLimitedModel(inner, concurrency)
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
    assert concurrency.limit >= 16


async def test_a_call_that_failed_does_not_raise_the_limit() -> None:
    concurrency = adaptive(Timeline(), start=1)
    with pytest.raises(ServerFailed):
        await ConcurrencyLimitedModel(Played.of([ServerFailed("x")]), concurrency).complete(HELLO, KEY)
    assert concurrency.limit == 1
    await concurrency.enter()
    concurrency.leave()
    assert concurrency.limit == 1
    await ConcurrencyLimitedModel(Played.of([said()]), concurrency).complete(HELLO, KEY)
    assert concurrency.limit == 2


def answers_of_a_full_gate(concurrency: ConcurrencyLimit, answers: int) -> list[int]:
    """The limit after each of some answers, while every place is taken again at once."""
    limits: list[int] = []
    taken = 0
    for _ in range(answers):
        fill(concurrency, concurrency.limit - taken)
        taken = concurrency.limit - 1
        concurrency.leave(answered=True)
        limits.append(concurrency.limit)
    for _ in range(taken):
        concurrency.leave()
    return limits


def test_a_cut_is_followed_by_a_cooldown_and_then_by_growth_of_one_a_round() -> None:
    line = Timeline()
    concurrency = adaptive(line, start=16)
    concurrency.cut()
    line.time += 4.9
    assert answers_of_a_full_gate(concurrency, 40) == [8] * 40, "neither growth"
    concurrency.cut()
    assert concurrency.limit == 8, "nor another cut"
    line.time = 105.0
    assert answers_of_a_full_gate(concurrency, 9) == [8] * 8 + [9], "after eight: 8 + 1/8 + 1/8.125 + ... < 9"
    concurrency.cut()
    assert concurrency.limit == 4


def test_a_second_cut_is_taken_as_soon_as_the_cooldown_is_over() -> None:
    line = Timeline()
    concurrency = adaptive(line, start=16)
    assert [concurrency.cut(), concurrency.cut()] == [True, False]
    line.time += 5.0
    assert concurrency.cut() is True
    assert concurrency.limit == 4
    assert ConcurrencyLimit(4).cut() is False
    assert [concurrency.adaptive, ConcurrencyLimit(4).adaptive] == [True, False]


def test_an_adaptive_limit_is_as_documented_where_nothing_else_is_said() -> None:
    line = Timeline()
    concurrency = ConcurrencyLimit(Adaptive(), clock=line.clock)
    assert concurrency.limit == 64
    assert answers_of_a_full_gate(concurrency, 5000)[-1] == 4096
    concurrency.cut()
    assert concurrency.limit == int(4096 * 0.7)
    line.time += 4.999
    concurrency.cut()
    assert concurrency.limit == int(4096 * 0.7)
    line.time += 0.001
    concurrency.cut()
    assert concurrency.limit == int(4096 * 0.7 * 0.7)


def test_the_meter_shows_the_limits_of_all_gates_together_as_they_are() -> None:
    line, metrics = Timeline(), CallMetrics()
    ConcurrencyLimit(3, metrics)
    concurrency = ConcurrencyLimit(Adaptive(start=16, cut=0.5), metrics, line.clock)
    assert metrics.limit == 19
    concurrency.cut()
    assert metrics.limit == 11
    line.time += 5
    answers_of_a_full_gate(concurrency, 9)
    assert metrics.limit == 12


def test_a_429_cuts_once_and_growth_is_slow_from_there() -> None:
    line = Timeline()
    concurrency = adaptive(line, start=16)
    for _ in range(10):
        concurrency.cut()
    assert concurrency.limit == 8
    use(concurrency, 8)
    assert concurrency.limit == 8  # cooling down
    line.time += 5
    use(concurrency, 8)
    assert concurrency.limit == 8
    use(concurrency, 8)
    assert 8 <= concurrency.limit <= 9
    for _ in range(20):
        line.time += 5
        concurrency.cut()
    assert concurrency.limit == 1


def test_the_limit_stays_within_its_bounds() -> None:
    concurrency = adaptive(Timeline(), start=4, most=5)
    for _ in range(5):
        use(concurrency, concurrency.limit)
    assert concurrency.limit == 5


def test_a_fixed_limit_is_fixed() -> None:
    concurrency = ConcurrencyLimit(4)
    concurrency.cut()
    use(concurrency, 4)
    assert concurrency.limit == 4


def test_limits_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="--api-concurrency is 0"):
        ConcurrencyLimit(0)
    assert ConcurrencyLimit(Adaptive(start=1, least=1, most=1, cooldown=0.0)).limit == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 10, "most": 5},
        {"start": 1, "least": 2},
        {"least": 0},
        {"cut": 0.0},
        {"cut": -0.5},
        {"cut": 1.0},
        {"cut": 1.5},
        {"cooldown": -0.5},
    ],
)
def test_an_adaptive_limit_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="1 <= least <= start <= most, 0 < cut < 1, cooldown >= 0 must hold"):
        Adaptive(**wrong)


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_flow_lets_a_second_through_at_once_and_spreads_the_rest() -> None:
    flow = RateLimiter("--rpm", 120)  # two a second
    assert [flow.take(1, 100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert flow.take(1, 200.0) == 0.0
    flow.adjust(-1)
    assert [flow.take(1, 200.0) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_without_limits_nothing_waits() -> None:
    assert RateLimits().take(1e9) == 0.0


async def test_requests_a_minute() -> None:
    line = Timeline()
    model = RateLimitedModel(Played(lambda _: said()), RateLimits(rpm=60, clock=line.clock))
    for _ in range(10):
        await model.complete(HELLO, KEY)
    assert line.time == pytest.approx(108.0)  # two at once, then one a second


async def test_tokens_a_minute_follow_what_was_really_used() -> None:
    line = Timeline()
    model = RateLimitedModel(Played(lambda _: said(usage=Usage(900, 100))), RateLimits(tpm=60_000, clock=line.clock))
    for _ in range(31):
        await model.complete(HELLO, KEY)
    assert line.time - 100 == pytest.approx(30, abs=2.0)


async def test_a_request_takes_its_prompt_and_a_reply_of_256_tokens_or_what_it_allows() -> None:
    line, prompt = Timeline(), TokenEstimate().likely(HELLO)
    rates = RateLimits(tpm=60 * prompt, clock=line.clock)  # a second of tokens is one prompt
    assert await rates.wait(HELLO) == prompt + 256
    assert line.slept == []
    assert await rates.wait(replace(HELLO, sampling=Sampling(max_tokens=10))) == prompt + 10
    assert line.slept == [pytest.approx(256 / prompt)]
    assert await rates.wait(replace(HELLO, sampling=Sampling(max_tokens=1000))) == prompt + 256
    assert line.slept[1:] == [pytest.approx((prompt + 10) / prompt)]


async def test_waits_of_under_a_second_are_made_and_none_where_there_is_room() -> None:
    line = Timeline()
    rates = RateLimits(rpm=120, clock=line.clock)
    assert [await rates.wait(HELLO) for _ in range(5)] == [0.0] * 5, "tokens are not counted"
    assert line.slept == [0.5, 0.5]


async def test_the_longer_wait_of_requests_and_tokens_counts() -> None:
    line, prompt = Timeline(), TokenEstimate().likely(HELLO)
    rates = RateLimits(rpm=30, tpm=60 * (prompt + 256), clock=line.clock)
    for _ in range(3):
        await rates.wait(HELLO)
    assert line.slept == [1.0, 2.0]


async def test_what_a_provider_counts_replaces_what_was_taken_and_teaches_the_next() -> None:
    line, prompt = Timeline(), TokenEstimate().likely(HELLO)
    rates = RateLimits(tpm=6000, clock=line.clock)
    taken = await rates.wait(HELLO)
    rates.used(HELLO, taken, said(usage=Usage(int(prompt * 4), 0)))
    learnt = TokenEstimate()
    learnt.learn(HELLO, int(prompt * 4))
    assert await rates.wait(HELLO) == learnt.likely(HELLO) + 256 > taken


async def test_a_server_that_does_not_count_is_taken_to_have_used_what_was_taken() -> None:
    line = Timeline()
    rates = RateLimits(tpm=60, clock=line.clock)
    taken = await rates.wait(HELLO)
    rates.used(HELLO, taken, said(usage=Usage(0, 0)))
    await rates.wait(HELLO)
    assert line.slept == [pytest.approx(taken - 1)]


async def test_without_a_limit_of_tokens_nothing_is_learnt_from_the_counts() -> None:
    rates = RateLimits(rpm=1)
    answer = said(usage=Usage(900, 100))
    model = RateLimitedModel(Played(lambda _: answer), rates)
    assert await model.complete(HELLO, KEY) is answer
    assert model.name == "played"


def test_less_than_one_a_minute_is_a_rate() -> None:
    flow = RateLimiter("--rpm", 0.5)
    assert [flow.take(1, 0.0), flow.take(1, 0.0)] == [0.0, 119.0]


def test_rates_that_cannot_be() -> None:
    for wrong in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="--tpm"):
            RateLimits(tpm=wrong)


def test_an_estimate_learns_and_its_bound_holds() -> None:
    estimate, size = TokenEstimate(), request_bytes(HELLO)
    assert estimate.bound(HELLO) == size + FRAME
    estimate.learn(HELLO, size // 4)
    longer = replace(HELLO, messages=(*HELLO.messages, UserMessage.of("x" * 1000)), sampling=Sampling(max_tokens=5))
    assert request_bytes(longer) // 4 <= estimate.bound(longer) < request_bytes(longer)
    estimate.learn(HELLO, 0)
    assert estimate.bound(longer) < request_bytes(longer)
