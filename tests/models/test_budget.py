from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from players_models import HELLO, Played, Timeline, key, said

from simkit.core.boundary import boundary
from simkit.core.events import ModelCall
from simkit.core.messages import UserMessage, text_of
from simkit.core.recorder import MemoryRecorder
from simkit.errors import (
    AgentFault,
    BadRequest,
    BudgetExhausted,
    EndpointDown,
    LimitHit,
    MalformedReply,
    ModelFault,
    ModelTimeout,
    ServerFailed,
    TokensUsed,
    UsageError,
)
from simkit.models import CallKey, ChatRequest, ChatResponse, Sampling, Usage
from simkit.models.base import ReplyLimit, request_hash
from simkit.models.middleware.budget import (
    CUT_SHORT,
    REPLY_TOKENS,
    Allowance,
    Allowances,
    Amount,
    Budget,
    BudgetedModel,
    cut_short,
    reply_bound,
)
from simkit.models.middleware.journaling import RecordedModel
from simkit.models.middleware.replay import Recording
from simkit.models.middleware.token_estimate import SHORTEST, TokenEstimate
from simkit.models.prices import Price

pytestmark = pytest.mark.anyio

PRICE = Price(input=10.0, output=30.0)
SHORT = replace(HELLO, sampling=Sampling(max_tokens=100))


def budget(*, wall: float | None = None, line: Timeline | None = None, **scopes: Allowance) -> Budget:
    return Budget(Allowances(wall_seconds=wall, **scopes), clock=(line or Timeline()).clock)


def spending(tokens: int) -> Played:
    return Played(lambda _: said(usage=Usage(tokens - 10, 10)))


async def test_what_was_used_replaces_what_was_reserved() -> None:
    account = budget(run=Allowance(tokens=10_000, cost=1.0))
    await BudgetedModel(spending(60), account, PRICE).complete(SHORT, key())
    assert (account.spent.tokens, account.spent.cost) == (60, pytest.approx(50 * 10e-6 + 10 * 30e-6))
    assert account.held == Amount()


@dataclass
class Greedy:
    """Bills everything a call may cost, after letting everybody else in."""

    name: str = "greedy"
    billed: float = 0.0
    at_once: int = 0
    most_at_once: int = 0

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await wait_all_tasks_blocked()
        self.at_once -= 1
        prompt = sum(len(message.to_json()) for message in request.messages)
        usage = Usage(prompt, request.sampling.max_tokens or 0)
        self.billed += PRICE.cost(usage.prompt_tokens, usage.completion_tokens)
        return said(usage=usage)


async def test_any_number_of_calls_at_once_never_overspend() -> None:
    model, account = Greedy(), budget(run=Allowance(cost=0.05))
    budgeted, refused = BudgetedModel(model, account, PRICE), 0

    async def ask(number: int) -> None:
        nonlocal refused
        try:
            await budgeted.complete(SHORT, key(call=number))
        except BudgetExhausted:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ask, number)
    assert 0.04 < model.billed <= 0.05
    assert model.billed == pytest.approx(account.spent.cost)
    assert refused > 0
    assert model.most_at_once > 2


async def test_a_call_waits_for_others_when_they_may_leave_enough() -> None:
    model, account = spending(20), budget(run=Allowance(tokens=450))
    budgeted = BudgetedModel(model, account, PRICE)
    async with anyio.create_task_group() as tasks:
        for number in range(10):  # together they would reserve far more than there is, and use half of it
            tasks.start_soon(budgeted.complete, SHORT, key(call=number))
    assert account.spent.tokens == 200


async def test_the_end_of_the_run_s_budget_is_told_with_numbers() -> None:
    account = budget(run=Allowance(cost=0.001))
    with pytest.raises(BudgetExhausted, match=r"\$0\.0000 of the run's \$0\.0010 .* \(--max-cost\)"):
        await BudgetedModel(spending(20), account, PRICE).complete(SHORT, key())
    with pytest.raises(BudgetExhausted, match=r"0 of the run's 10 tokens .* \(--max-tokens-total\)"):
        await BudgetedModel(spending(20), budget(run=Allowance(tokens=10))).complete(SHORT, key())


async def test_a_resumed_run_starts_from_what_it_had_used() -> None:
    account = Budget(Allowances(run=Allowance(tokens=1000)), spent=Usage(900, 90, 0, 0.5))
    assert account.spent == Amount(990, 0.5)
    with pytest.raises(BudgetExhausted, match="990 of the run's 1000 tokens"):
        await BudgetedModel(spending(20), account).complete(SHORT, key())


async def test_an_episode_s_limit_is_an_outcome_and_no_other_episode_s() -> None:
    account = budget(episode=Allowance(tokens=400))
    model = BudgetedModel(spending(300), account, PRICE)
    await model.complete(SHORT, key("L", task="a"))
    with pytest.raises(LimitHit, match="300 of the episode's 400 tokens") as caught, boundary(AgentFault, "agent"):
        await model.complete(SHORT, key("R", task="a"))
    assert caught.value.outcome == "token_limit"
    await model.complete(SHORT, key("L", task="b"))


@pytest.mark.parametrize(("root", "child", "grandchild", "other"), [("", "L", "LR", "R"), ("", "0", "0.3", "1")])
async def test_a_branch_inherits_what_its_parents_used(root: str, child: str, grandchild: str, other: str) -> None:
    account = budget(branch=Allowance(cost=0.0145))
    model = BudgetedModel(Played(lambda _: said(usage=Usage(100, 100))), account, PRICE)  # 0.004 each
    for path in (root, child, grandchild):
        await model.complete(SHORT, key(path))
    with pytest.raises(LimitHit, match=r"\$0\.0120 of the branch's") as caught:
        await model.complete(SHORT, key(grandchild))
    assert caught.value.outcome == "cost_limit"
    await model.complete(SHORT, key(other))
    await model.complete(SHORT, key(child))


@pytest.mark.parametrize(
    ("error", "used"),
    [
        (ServerFailed("x", usage=TokensUsed(40, 2, cost=0.5)), Amount(42, 0.5)),
        (RuntimeError("a model with a fault"), Amount()),
    ],
)
async def test_a_failed_call_costs_what_the_server_reported_and_an_unknown_error_nothing(
    error: Exception, used: Amount
) -> None:
    account = budget(run=Allowance(tokens=100_000))
    with pytest.raises(type(error)):
        await BudgetedModel(Played.of([error]), account).complete(SHORT, key())
    assert (account.spent, account.held) == (used, Amount())


async def test_attempts_that_are_repeated_are_charged_until_the_reservation_no_longer_fits() -> None:
    account = budget(run=Allowance(tokens=1000), branch=Allowance(cost=1.0))
    await account.charge(Amount(900, 0.9), key("L"))
    assert account.spent == Amount(900, 0.9)
    with pytest.raises(LimitHit, match=r"\$1\.1000 of the branch's"):
        await account.charge(Amount(10, 0.2), key("LR"))
    with pytest.raises(BudgetExhausted, match="1210 of the run's 1000 tokens"):
        await account.charge(Amount(300, 0.0), key("R"))


async def test_failed_calls_cost_nothing_and_silent_ones_all_they_may() -> None:
    account = budget(run=Allowance(tokens=100_000))
    with pytest.raises(BadRequest):
        await BudgetedModel(Played.of([BadRequest("x")]), account).complete(SHORT, key())
    assert (account.spent, account.held) == (Amount(), Amount())
    with pytest.raises(ModelTimeout):
        await BudgetedModel(Played.of([ModelTimeout("x")]), account).complete(SHORT, key())
    assert account.spent.tokens > 100
    before = account.spent.tokens
    await BudgetedModel(Played.of([said()]), account).complete(SHORT, key())  # a server that counts no tokens
    assert account.spent.tokens > before + 100


@pytest.mark.parametrize(
    ("fault", "billed"),
    [(ModelTimeout, True), (MalformedReply, True), (ServerFailed, False), (BadRequest, False)],
)
async def test_a_failed_call_costs_all_it_may_where_the_provider_may_have_written_a_reply(
    fault: type[ModelFault], billed: bool
) -> None:
    account = budget(run=Allowance(tokens=100_000))
    with pytest.raises(fault):
        await BudgetedModel(Played.of([fault("x")]), account).complete(SHORT, key())
    assert account.held == Amount()
    assert (account.spent.tokens > 100) is billed


def test_what_is_held_comes_back_to_nothing_exactly() -> None:
    account = budget(run=Allowance(cost=1.0))

    async def hold_and_settle() -> None:
        holds = [await account.reserve(Amount(1, cost), key(call=call)) for call, cost in enumerate((0.1, 0.2))]
        for hold in holds:
            account.settle(hold, Amount())

    anyio.run(hold_and_settle)
    assert 0.1 + 0.2 - 0.1 - 0.2 != 0.0
    assert account.held == Amount()


async def test_a_reply_may_shrink_to_the_shortest_limit_and_no_further() -> None:
    prompt = TokenEstimate().bound(HELLO)
    writer = Writer([20])
    await BudgetedModel(writer, budget(run=Allowance(tokens=prompt + SHORTEST))).complete(HELLO, key())
    assert writer.limits == [ReplyLimit(SHORTEST, provisional=True)]
    with pytest.raises(BudgetExhausted, match=f"may use {prompt + SHORTEST} "):
        await BudgetedModel(Writer([20]), budget(run=Allowance(tokens=prompt + SHORTEST - 1))).complete(HELLO, key())


async def test_a_branch_waits_for_its_parent_s_call_that_may_leave_enough() -> None:
    most = TokenEstimate().bound(SHORT) + 100
    account = budget(branch=Allowance(tokens=most + 30))
    model = BudgetedModel(spending(20), account)
    hold = await account.reserve(Amount(most, 0.0), key("L"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(model.complete, SHORT, key("LR"))
        await wait_all_tasks_blocked()
        account.settle(hold, Amount(10, 0.0))
    assert (account.spent.tokens, account.held) == (30, Amount())


async def test_a_cancelled_call_gives_its_reservation_back_as_spent() -> None:
    account = budget(run=Allowance(tokens=100_000))

    class Silent:
        name = "silent"

        async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
            await anyio.sleep_forever()
            raise AssertionError

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(BudgetedModel(Silent(), account).complete, SHORT, key())
        await wait_all_tasks_blocked()
        assert account.held.tokens > 100
        tasks.cancel_scope.cancel()
    assert account.held == Amount()
    assert account.spent.tokens > 100


@dataclass
class Writer:
    """Writes replies of given lengths, cut off where they come to the limit they were sent with."""

    lengths: list[int]
    name: str = "writer"
    limits: list[ReplyLimit | None] = field(default_factory=list[ReplyLimit | None])

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.limits.append(request.limit)
        length, room = self.lengths[key.call], request.limit.tokens if request.limit else 1_000_000
        reply = said("whole" if length <= room else "cut", usage=Usage(1, min(length, room)))
        return reply if length <= room else replace(reply, finish="length")


async def test_what_is_put_aside_for_a_reply_follows_those_before_it() -> None:
    request = replace(HELLO, messages=(UserMessage.of("hi"),))
    writer = Writer([100, 30, 300])
    model = BudgetedModel(writer, budget(run=Allowance(cost=9.0)), PRICE)
    for call in range(3):
        assert text_of((await model.complete(request, key(call=call))).message) == "whole"
    small, whole = ReplyLimit(256, provisional=True), ReplyLimit(REPLY_TOKENS)
    assert writer.limits == [whole, small, small, whole]
    free = Writer([100])
    await BudgetedModel(free, budget(), PRICE).complete(request, key())
    assert free.limits == [None]
    assert reply_bound(Price(input=1, output=1, max_output=100)) == 100
    assert reply_bound(None) == reply_bound(PRICE) == 4096, "as docs/models.md says"


async def test_a_budget_smaller_than_the_longest_reply_is_used_all_the_same() -> None:
    writer, account = Writer([20, 20]), budget(run=Allowance(tokens=300))
    model = BudgetedModel(writer, account)
    for call in range(2):
        await model.complete(HELLO, key(call=call))
    assert account.spent.tokens == 42
    assert writer.limits[0] == ReplyLimit(128, provisional=True)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_bound_among_further_fields_is_what_is_reserved(name: str) -> None:
    account = budget(run=Allowance(tokens=5000))
    asked = replace(HELLO, sampling=Sampling(extra_body={name: 9000}))
    with pytest.raises(BudgetExhausted, match=r"may use 9\d{3} "):
        await BudgetedModel(Writer([1]), account, PRICE).complete(asked, key())


async def test_a_reply_cut_short_by_a_limit_is_paid_for_and_no_answer_of_the_recording() -> None:
    recorder, writer = MemoryRecorder(), Writer([10, 3000])
    recorded = RecordedModel(writer, recorder, "run")
    model = BudgetedModel(recorded, budget(run=Allowance(cost=9.0)), PRICE)
    await model.complete(HELLO, key())
    assert (await model.complete(HELLO, key(call=1))).finish == "stop"
    calls = [event for event in recorder.events if isinstance(event, ModelCall)]
    cut, whole = calls[1:]
    assert (cut.response, cut.error, cut.completion_tokens) == (None, CUT_SHORT, 64)
    assert (whole.error, whole.attempt, whole.request_hash) == (None, 1, cut.request_hash)
    hashed = request_hash("writer", HELLO)
    assert Recording.of("run", [cut]).answer(key(call=1), hashed) is None
    answer = Recording.of("run", [cut, whole]).answer(key(call=1), hashed)
    assert answer is not None
    assert answer.usage.completion_tokens == 3000


async def test_the_run_s_time_is_counted_from_the_first_call() -> None:
    line = Timeline()
    account = budget(wall=10, line=line)
    model = BudgetedModel(spending(20), account)
    line.time += 100
    await model.complete(SHORT, key())
    line.time += 9.5
    await model.complete(SHORT, key())
    line.time += 1
    with pytest.raises(BudgetExhausted, match="10 s are up"):
        await model.complete(SHORT, key())


async def test_the_run_s_time_is_up_when_its_last_second_is_and_no_later() -> None:
    line = Timeline()
    account = budget(wall=10, line=line)
    assert account.seconds_left() == 10
    line.time += 3
    assert account.seconds_left() == 7
    line.time += 7
    with pytest.raises(BudgetExhausted, match="10 s are up"):
        account.seconds_left()
    assert budget().seconds_left() is None


async def test_a_run_s_time_needs_no_clock_of_its_own() -> None:
    left = Budget(Allowances(wall_seconds=0.5)).seconds_left()
    assert left == 0.5


@pytest.mark.parametrize("tokens", [None, 100_000])
async def test_a_call_under_way_ends_with_the_run_s_time(tokens: int | None) -> None:
    class Silent:
        name = "silent"

        async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
            await anyio.sleep_forever()
            raise AssertionError

    model = BudgetedModel(Silent(), budget(wall=0.01, run=Allowance(tokens=tokens)))
    with anyio.fail_after(30), pytest.raises(BudgetExhausted, match=r"0\.01 s are up"):
        await model.complete(SHORT, key())
    answer = said()
    within = BudgetedModel(Played(lambda _: answer), budget(wall=10, run=Allowance(tokens=tokens)))
    assert await within.complete(SHORT, key()) is answer
    assert within.name == "played"


async def test_a_run_whose_time_is_up_is_told_that_before_what_a_branch_has_left() -> None:
    line = Timeline()
    account = budget(wall=10, line=line, branch=Allowance(tokens=10))
    model = BudgetedModel(spending(20), account)
    with pytest.raises(LimitHit):
        await model.complete(SHORT, key())
    line.time += 10
    with pytest.raises(BudgetExhausted, match="10 s are up"):
        await model.complete(SHORT, key())


async def test_each_of_two_reservations_is_given_back_alone() -> None:
    account = budget(run=Allowance(tokens=1000))
    first = await account.reserve(Amount(100, 0.25), key())
    await account.reserve(Amount(30, 0.5), key(call=1))
    account.settle(first, Amount(10, 0.125))
    assert (account.held, account.spent) == (Amount(30, 0.5), Amount(10, 0.125))


async def test_a_reservation_shrinks_when_the_provider_has_counted_a_prompt() -> None:
    account = budget(run=Allowance(tokens=100_000))
    held: list[float] = []

    class Looking:
        name = "looking"

        async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
            held.append(account.held.tokens)
            return said(usage=Usage(10, 5))

    model = BudgetedModel(Looking(), account)
    for call in range(2):
        await model.complete(SHORT, key(call=call))
    counted = TokenEstimate()
    before = counted.bound(SHORT)
    counted.learn(SHORT, 10)
    assert held == [before + 100, counted.bound(SHORT) + 100]
    assert held[1] < held[0]


async def test_money_is_what_the_server_says_then_what_the_price_says_and_else_nothing() -> None:
    for price, told, cost in ((PRICE, 0.25, 0.25), (None, 0.25, 0.25), (PRICE, 0.0, 0.0008), (None, 0.0, 0.0)):
        account = budget(run=Allowance(tokens=1000))
        model = BudgetedModel(Played(lambda _, told=told: said(usage=Usage(50, 10, 0, told))), account, price)
        await model.complete(SHORT, key())
        assert (account.spent.tokens, account.spent.cost) == (60, pytest.approx(cost))
    account = budget(run=Allowance(tokens=1000))
    with pytest.raises(ModelTimeout):
        await BudgetedModel(Played.of([ModelTimeout("x")]), account).complete(SHORT, key())
    assert account.spent.cost == 0.0


def test_an_allowance_names_what_it_is_short_of() -> None:
    allowance = Allowance(tokens=5, cost=0.3)
    assert allowance.short_of(Amount(5, 0.1 + 0.1 + 0.1)) == "", "0.30000000000000004 dollars are 0.3"
    assert allowance.short_of(Amount(5, 0.3 + 1e-12)) == ""
    assert allowance.short_of(Amount(6, 1.0)) == "tokens"
    assert allowance.short_of(Amount(5, 0.3001)) == "cost"


def test_only_a_reply_that_ended_at_a_provisional_limit_was_cut_short() -> None:
    cut, whole = replace(said(), finish="length"), said()
    provisional, final = ReplyLimit(64, provisional=True), ReplyLimit(64)
    found = {
        (limit, reply.finish): cut_short(replace(HELLO, limit=limit), reply)
        for limit in (None, provisional, final)
        for reply in (cut, whole)
    }
    assert {each for each, short in found.items() if short} == {(provisional, "length")}


def test_a_budget_can_be_made_before_there_is_an_event_loop() -> None:
    account = budget(run=Allowance(tokens=450))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(BudgetedModel(spending(20), account).complete, SHORT, key(call=number))

    anyio.run(main)
    assert account.spent.tokens == 60


@pytest.mark.parametrize("error", [BudgetExhausted("x"), EndpointDown("x"), LimitHit("x", "cost_limit")])
def test_what_ends_a_run_or_a_branch_is_not_taken_for_an_agent_s_fault(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, boundary(AgentFault, "agent `a`"):
        raise error
    assert caught.value is error


def test_budgets_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="the tokens budget is 0"):
        Allowance(tokens=0)
    for wrong in (-1, -0.5, 0):
        with pytest.raises(UsageError, match=f"--max-wall is {wrong}; give a positive number"):
            Allowances(wall_seconds=wrong)
    with pytest.raises(UsageError, match="no price for `played`"):
        BudgetedModel(spending(20), budget(episode=Allowance(cost=1.0)))


async def test_what_is_lent_to_workers_is_held_until_it_is_spent_or_comes_back() -> None:
    account = budget(run=Allowance(tokens=1000, cost=2.0))
    account.lend(Amount(600, 1.0))
    assert (account.held, account.spent, account.calls) == (Amount(600, 1.0), Amount(), 0)
    assert [account.room(Amount(*each)) for each in ((400, 1.0), (401, 0.0), (0, 1.25))] == ["", "tokens", "cost"]
    account.spend_lent(Amount(100, 0.25))
    assert (account.held, account.spent) == (Amount(500, 0.75), Amount(100, 0.25))
    account.lend(Amount(-500, -0.75))
    assert (account.held, account.spent) == (Amount(), Amount(100, 0.25))


async def test_a_call_waits_for_what_workers_may_give_back() -> None:
    account, done = budget(run=Allowance(tokens=1000)), list[int]()
    account.lending(1)
    account.lend(Amount(600))
    assert account.calls == 1

    async def call(tokens: int) -> None:
        await account.reserve(Amount(tokens), key())
        done.append(tokens)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, 500)
        await wait_all_tasks_blocked()
        assert done == []
        account.lend(Amount(-100))
    assert done == [500]


async def test_a_call_that_waits_for_workers_is_refused_when_the_last_is_gone() -> None:
    account = budget(run=Allowance(tokens=1000))
    account.lending(1)
    account.lend(Amount(600))
    refused: list[str] = []

    async def call() -> None:
        try:
            await account.reserve(Amount(500), key())
        except BudgetExhausted as error:
            refused.append(str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await wait_all_tasks_blocked()
        assert refused == []
        account.lending(-1)
    assert "500" in refused[0]


def test_amounts_cross_processes() -> None:
    assert pickle.loads(pickle.dumps(Amount(3, 0.5))) == Amount(3, 0.5)
