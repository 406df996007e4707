from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from players_models import HELLO, KEY, Played, Timeline, said

from simkit.core.events import ModelCall
from simkit.core.recorder import MemoryRecorder
from simkit.errors import (
    AuthFailed,
    BadRequest,
    BudgetExhausted,
    ContextTooLong,
    EndpointDown,
    MalformedReply,
    ModelFault,
    ModelNotServed,
    ModelTimeout,
    RateLimited,
    RunStopped,
    ServerFailed,
    TokensUsed,
    Unreachable,
    UsageError,
)
from simkit.models import ChatResponse, RecordedModel, Usage
from simkit.models.config import Adaptive, ModelConfig, RetryPolicy
from simkit.models.middleware.budget import Allowance, Allowances, Budget, BudgetedModel
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit
from simkit.models.middleware.metrics import CallMetrics, Health, Wait
from simkit.models.middleware.replay import Recording
from simkit.models.middleware.retry import RetryingModel

pytestmark = pytest.mark.anyio


def retrying(model: Played, line: Timeline, health: Health | None = None, **policy: Any) -> RetryingModel:
    return RetryingModel(model, RetryPolicy(**policy), health=health, clock=line.clock)


@pytest.mark.parametrize("fault", [RateLimited("x"), ServerFailed("x"), Unreachable("x"), MalformedReply("x")])
async def test_what_may_help_is_tried_again(fault: ModelFault) -> None:
    model, line = Played.of([fault, fault, said("yes")]), Timeline()
    assert (await retrying(model, line).complete(HELLO, KEY)).message.content == "yes"
    assert [key.attempt for key in model.keys] == [0, 1, 2]
    assert {key.seed for key in model.keys} == {KEY.seed}
    assert 0.25 <= line.slept[0] <= 0.5 <= line.slept[1] <= 1.0


@pytest.mark.parametrize("fault", [BadRequest("x"), ContextTooLong("x"), ValueError("a mistake of the provider's")])
async def test_what_cannot_help_is_not(fault: Exception) -> None:
    model, line = Played.of([fault]), Timeline()
    with pytest.raises(type(fault)) as caught:
        await retrying(model, line).complete(HELLO, KEY)
    assert caught.value is fault
    assert line.slept == []


async def test_attempts_are_bounded_and_the_last_error_is_told() -> None:
    model, line = Played(lambda number: ServerFailed(f"number {number}")), Timeline()
    with pytest.raises(ServerFailed, match="number 3"):
        await retrying(model, line, max_retries=3).complete(HELLO, KEY)
    assert len(line.slept) == 3


async def test_without_retries_one_attempt_is_made() -> None:
    for fault in (RateLimited("x"), Unreachable("x")):
        model, line = Played.of([fault]), Timeline()
        with pytest.raises(type(fault)):
            await retrying(model, line, max_retries=0).complete(HELLO, KEY)
        assert line.slept == []


async def test_time_is_bounded() -> None:
    model, line = Played(lambda _: RateLimited("x", retry_after=40)), Timeline()
    with pytest.raises(RateLimited):
        await retrying(model, line, max_seconds=100).complete(HELLO, KEY)
    assert len(line.slept) == 2


async def test_the_server_says_how_long_to_wait() -> None:
    model, line = Played.of([RateLimited("x", retry_after=7.0), RateLimited("x", retry_after=0.0), said()]), Timeline()
    await retrying(model, line).complete(HELLO, KEY)
    assert 7.0 <= line.slept[0] <= 7.7
    assert line.slept[1] == 0.0


def test_pauses_grow_to_a_bound_and_follow_from_the_call() -> None:
    policy, fault = RetryPolicy(first=1.0, longest=8.0), ServerFailed("x")
    pauses = [policy.pause(attempt, fault, KEY) for attempt in range(60)]
    assert pauses == [policy.pause(attempt, fault, KEY) for attempt in range(60)]
    assert all(min(8.0, 2.0**n) / 2 <= pause <= min(8.0, 2.0**n) for n, pause in enumerate(pauses))
    assert pauses != [policy.pause(attempt, fault, replace(KEY, call=9)) for attempt in range(60)]


async def test_an_endpoint_that_is_away_for_a_while_delays_and_loses_nothing() -> None:
    line = Timeline()
    model = Played(lambda _: said() if line.time >= 120 else Unreachable("refused"))
    await retrying(model, line, Health(answered_at=50.0), max_retries=1).complete(HELLO, KEY)
    assert 120 <= line.time <= 130
    assert len(model.keys) > 3


async def test_an_endpoint_that_stays_away_stops_the_run() -> None:
    line, health = Timeline(), Health(answered_at=50.0)
    model = retrying(Played(lambda _: Unreachable("http://there cannot be reached")), line, health, down_after=60.0)
    with pytest.raises(EndpointDown, match=r"there cannot be reached\. It has not answered .* resume the run"):
        await model.complete(HELLO, KEY)
    assert 160 <= line.time <= 175


async def test_one_that_was_never_there_is_given_up_sooner() -> None:
    line = Timeline()
    with pytest.raises(EndpointDown):
        await retrying(Played(lambda _: Unreachable("x")), line, down_at_start=10, down_after=1e9).complete(HELLO, KEY)
    assert 108 <= line.time <= 110


async def test_an_endpoint_that_is_still_loading_is_waited_for_as_long_as_asked() -> None:
    for seconds, kind in ((5.0, EndpointDown), (60.0, ChatResponse)):
        line = Timeline()
        model = Played(lambda _, line=line: said() if line.time >= 140 else Unreachable("loading"))
        config = ModelConfig(wait_for_endpoint=seconds)
        try:
            found: object = await RetryingModel(model, config.retry_policy, clock=line.clock).complete(HELLO, KEY)
        except EndpointDown as error:
            found = error
        assert isinstance(found, kind)
        assert kind is ChatResponse or "--wait-for-endpoint" in str(found)
        assert line.time < 100 + seconds


async def test_an_overloaded_endpoint_is_waited_for_although_it_has_completed_no_call() -> None:
    line = Timeline()
    model = Played(lambda _: said() if line.time >= 130 else Unreachable("overloaded", busy=True))
    await retrying(model, line, max_retries=1).complete(HELLO, KEY)
    assert 130 <= line.time <= 140


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3), (None, 9)])
async def test_a_failure_may_bound_its_own_retries(retries: int | None, attempts: int) -> None:
    model, line = Played(lambda _: MalformedReply("no choice", retries=retries)), Timeline()
    with pytest.raises(MalformedReply):
        await retrying(model, line).complete(HELLO, KEY)
    assert len(model.keys) == attempts


@pytest.mark.parametrize("kind", [AuthFailed, ModelNotServed])
async def test_one_refusal_between_good_answers_is_checked_before_it_ends_the_run(kind: type[RunStopped]) -> None:
    line = Timeline()
    model = retrying(Played.of([said(), kind("x"), said("yes"), kind("y"), kind("z")]), line)
    await model.complete(HELLO, KEY)
    assert (await model.complete(HELLO, KEY)).message.content == "yes"
    with pytest.raises(kind, match="z"):
        await model.complete(HELLO, KEY)


async def test_a_refusal_of_the_first_call_ends_the_run_at_once() -> None:
    model, line = Played.of([AuthFailed("x")]), Timeline()
    with pytest.raises(AuthFailed):
        await retrying(model, line).complete(HELLO, KEY)
    assert line.slept == []


async def test_what_is_waited_for_is_known_until_a_call_succeeds() -> None:
    line, health = Timeline(), Health()
    seen: list[Wait | None] = []

    def play(number: int) -> ChatResponse | Exception:
        seen.append(health.wait)
        return said() if number == 2 else RateLimited("slow down", retry_after=20.0)

    await retrying(Played(play), line, health).complete(HELLO, KEY)
    assert seen[0] is None
    assert [(wait.reason, wait.since) for wait in seen[1:] if wait] == [("slow down", 1_000_100.0)] * 2
    assert all(wait and 20 <= wait.until - wait.since <= 60 for wait in seen[1:])
    assert health.wait is None


async def test_the_usage_of_failed_attempts_is_recorded_and_charged() -> None:
    line, metrics, recorder = Timeline(), CallMetrics(), MemoryRecorder()
    failed = MalformedReply("no choice", usage=TokensUsed(4000, 1, 0, 0.5))
    played = Played.of([failed, failed, said(usage=Usage(30, 5, 0, 0.1))])
    budget = Budget(Allowances(run=Allowance(tokens=20_000)))
    inner = RecordedModel(played, recorder, "run", clock=line.clock)
    model = BudgetedModel(RetryingModel(inner, metrics=metrics, budget=budget, clock=line.clock), budget)
    await model.complete(HELLO, KEY)
    assert budget.spent.tokens == 8037
    assert budget.held.tokens == 0
    assert metrics.usage == Usage(8030, 7, 0, 1.1)
    calls = [event for event in recorder.events if isinstance(event, ModelCall)]
    assert [(call.prompt_tokens, call.completion_tokens, call.cost) for call in calls] == [
        (4000, 1, 0.5),
        (4000, 1, 0.5),
        (30, 5, 0.1),
    ]
    assert Recording.of("run", calls).usage.tokens == 8037


async def test_failed_attempts_are_not_repeated_beyond_the_budget() -> None:
    line, played = Timeline(), Played(lambda _: MalformedReply("no choice", usage=TokensUsed(4000)))
    budget = Budget(Allowances(run=Allowance(tokens=10_000)))
    model = BudgetedModel(RetryingModel(played, budget=budget, clock=line.clock), budget)
    with pytest.raises(BudgetExhausted, match="8000 of the run's 10000 tokens are used, and another attempt"):
        await model.complete(HELLO, KEY)
    assert len(played.keys) == 2
    assert budget.spent.tokens == 8000


async def test_the_last_failed_attempt_is_charged_too() -> None:
    played = Played(lambda _: MalformedReply("no choice", retries=1, usage=TokensUsed(4000)))
    budget = Budget(Allowances(run=Allowance(tokens=100_000)))
    model = BudgetedModel(RetryingModel(played, budget=budget, clock=Timeline().clock), budget)
    with pytest.raises(MalformedReply):
        await model.complete(HELLO, KEY)
    assert budget.spent.tokens == 8000


async def test_a_request_that_breaks_only_itself_is_a_fault_of_its_branch() -> None:
    line, health = Timeline(), Health()
    away = Unreachable("dropped")

    def play(_: int) -> Exception:
        health.answered(line.time + 0.001)  # somebody else's call is answered meanwhile
        return away

    with pytest.raises(Unreachable):
        await retrying(Played(play), line, health, max_retries=4).complete(HELLO, KEY)
    assert len(line.slept) == 4


async def test_silence_is_no_sign_of_life() -> None:
    line, health = Timeline(), Health(failing_since=90.0)
    with pytest.raises(ModelTimeout):
        await retrying(Played(lambda _: ModelTimeout("x")), line, health, max_retries=1).complete(HELLO, KEY)
    assert health.failing_since == 90.0


async def test_every_attempt_is_recorded() -> None:
    recorder, line = MemoryRecorder(), Timeline()
    inner = RecordedModel(Played.of([RateLimited("x"), said()]), recorder, "run", clock=line.clock)
    await RetryingModel(inner, clock=line.clock).complete(HELLO, KEY)
    calls = [event for event in recorder.events if isinstance(event, ModelCall)]
    assert [(call.attempt, call.error, call.response is None) for call in calls] == [
        (0, "RateLimited: x", True),
        (1, None, False),
    ]


async def test_a_meter_and_a_gate_hear_of_it() -> None:
    line, metrics = Timeline(), CallMetrics()
    concurrency = ConcurrencyLimit(Adaptive(start=10), metrics, line.clock)
    model = Played.of([RateLimited("x"), ServerFailed("x"), said()])
    await RetryingModel(model, metrics=metrics, concurrency=concurrency, clock=line.clock).complete(HELLO, KEY)
    assert (metrics.rate_limited, metrics.failed, metrics.calls, metrics.limit) == (1, 1, 1, 7)


def test_a_negative_number_of_retries_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-retries is -1"):
        RetryPolicy(max_retries=-1)


async def test_an_address_that_drops_connections_is_given_up_after_one_attempt() -> None:
    line, model = Timeline(), Played(lambda _: Unreachable("no connection in 4.5 s", waited=4.5))
    with pytest.raises(EndpointDown):
        await retrying(model, line).complete(HELLO, KEY)
    assert len(model.keys) == 1
