"""Budgets of model calls: tokens and money of a run, an episode and a branch, and the run's time.

Each call reserves the most that it can use. It is sent only if the reservation fits into the remaining budget next to
the reservations of all calls in flight; actual usage replaces the reservation when the call returns. Concurrent calls
therefore cannot overspend. A call that does not fit waits while others are in flight, because they usually use less
than they reserved. If it does not fit even alone, the limit is hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import anyio

from simkit.core.limits import Clock
from simkit.errors import BudgetExhausted, LimitHit, MalformedReply, ModelFault, ModelTimeout, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper, ReplyLimit, Usage
from simkit.models.middleware.token_estimate import SHORTEST, ReplyEstimate, TokenEstimate
from simkit.models.prices import Price

REPLY_TOKENS = 4096
"""Maximum reply length under a token or cost budget if neither request nor provider bounds it."""

CUT_SHORT = (
    "CutShort: the reply came to the tokens that a budget had put aside for it; it was asked for again with more"
)


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens and US dollars."""

    tokens: float = 0
    cost: float = 0.0

    def __reduce__(self) -> tuple[type[Amount], tuple[float, float]]:
        """For pickle, which is slow for dataclasses with slots; each exchange with a worker carries amounts."""
        return Amount, (self.tokens, self.cost)

    def plus(self, other: Amount) -> Amount:
        """The sum of both."""
        return Amount(self.tokens + other.tokens, self.cost + other.cost)

    def less(self, other: Amount) -> Amount:
        """The difference."""
        return Amount(self.tokens - other.tokens, self.cost - other.cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Tokens and US dollars that may be used. None means no bound."""

    tokens: int | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "cost"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"the {name} budget is {value}; it must be positive (omit it for no limit)")

    @property
    def bounded(self) -> bool:
        """Whether tokens or cost are bounded."""
        return self.tokens is not None or self.cost is not None

    def short_of(self, used: Amount) -> str:
        """`tokens` or `cost` if `used` exceeds that bound, else an empty text."""
        if self.tokens is not None and used.tokens > self.tokens:
            return "tokens"
        if self.cost is not None and used.cost > self.cost + 1e-12:
            return "cost"
        return ""


@dataclass(slots=True)
class _BudgetAccount:
    """Amounts used, and amounts reserved by calls in flight."""

    spent: Amount = Amount()
    held: Amount = Amount()
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation and the accounts that it is charged to."""

    amount: Amount
    accounts: tuple[_BudgetAccount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """Allowances of a run, of each episode and of each branch (from the root to the leaf).

    `wall_seconds` bounds the run's time, counted from its first call.
    """

    run: Allowance = field(default_factory=Allowance)
    episode: Allowance = field(default_factory=Allowance)
    branch: Allowance = field(default_factory=Allowance)
    wall_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.wall_seconds is not None and self.wall_seconds <= 0:
            raise UsageError(f"--max-wall is {self.wall_seconds}; give a positive number of seconds, or leave it out")

    @property
    def of_money(self) -> bool:
        """Whether any allowance bounds cost, which requires known prices."""
        return any(each.cost is not None for each in (self.run, self.episode, self.branch))

    @property
    def bounded(self) -> bool:
        """Whether any allowance bounds tokens or cost."""
        return any(each.bounded for each in (self.run, self.episode, self.branch))


class Budget:
    """The accounts of one run, shared by all its models.

    Args:
        allowances: the amounts that may be used.
        spent: usage of the run's earlier attempts, if it is resumed.
        clock: time source.
    """

    def __init__(self, allowances: Allowances, *, spent: Usage | None = None, clock: Clock | None = None) -> None:
        before = spent or Usage()
        self.allowances = allowances
        self._clock = clock or Clock()
        self._run = _BudgetAccount(Amount(before.tokens, before.cost))
        self._accounts: dict[tuple[str | int, ...], _BudgetAccount] = {}
        self._deadline: float | None = None
        self._settled = anyio.Event()

    @property
    def spent(self) -> Amount:
        """Amount that the run has used so far."""
        return self._run.spent

    @property
    def held(self) -> Amount:
        """Amount reserved by calls in flight, and lent to workers."""
        return self._run.held

    @property
    def calls(self) -> int:
        """Number of calls in flight, and of workers that may use the budget."""
        return self._run.calls

    def seconds_left(self) -> float | None:
        """Seconds until the run's time is up; None without a bound. The first call starts the clock.

        Raises:
            BudgetExhausted: the time is up.
        """
        wall = self.allowances.wall_seconds
        if wall is None:
            return None
        now = self._clock.timer()
        if self._deadline is None:
            self._deadline = now + wall
        if now >= self._deadline:
            raise self.out_of_time()
        return self._deadline - now

    def out_of_time(self) -> BudgetExhausted:
        """The error for a run whose time is up."""
        return BudgetExhausted(
            f"the run's {self.allowances.wall_seconds:g} s are up (--max-wall); everything so far is stored, resume it "
            "with more time"
        )

    async def reserve(self, amount: Amount, key: CallKey) -> Reservation:
        """Reserve an amount, after waiting for other calls to settle if necessary. Every hold must be settled.

        Raises:
            BudgetExhausted: the amount exceeds the remaining budget of the run.
            LimitHit: the amount exceeds the remaining budget of the episode or branch.
        """
        while (refusal := self._refusal(amount, key)) is not None:
            account, error = refusal
            if account.calls == 0:
                raise error
            await self._settled.wait()
        return self._hold(amount, key)

    def _hold(self, amount: Amount, key: CallKey) -> Reservation:
        hold = Reservation(amount, tuple(self._accounts_of(key)))
        for account in hold.accounts:
            account.held = account.held.plus(amount)
            account.calls += 1
        return hold

    def settle(self, hold: Reservation, used: Amount) -> None:
        """Replace a reservation by the amount that was used."""
        for account in hold.accounts:
            account.held = account.held.less(hold.amount) if account.calls > 1 else Amount()
            account.spent = account.spent.plus(used)
            account.calls -= 1
        self._wake()

    async def charge(self, used: Amount, key: CallKey) -> None:
        """Charge a failed attempt that is about to be repeated, in addition to the reservation of its call.

        Raises:
            BudgetExhausted, LimitHit: the reservation no longer fits.
        """
        for account in self._accounts_of(key):
            account.spent = account.spent.plus(used)
        if (refusal := self._refusal(Amount(), key)) is not None:
            raise refusal[1]

    def exhausted(self, short: str, amount: Amount) -> BudgetExhausted:
        """The error for an amount that does not fit into what is left of the run's tokens or cost (`short`)."""
        return BudgetExhausted(_refused("run", short, self.allowances.run, self._run.spent, amount))

    def _short_of_run(self, amount: Amount) -> str:
        """`tokens` or `cost` if the run has no room for an amount, else an empty text."""
        return self.allowances.run.short_of(_total([self._run], amount))

    # --- for workers --------------------------------------------------------------------------------------------------

    def room(self, amount: Amount) -> str:
        """`tokens` or `cost` if the run has no room for lending an amount, else an empty text."""
        return self._short_of_run(amount)

    def lend(self, amount: Amount) -> None:
        """Reserve an amount for a worker; a negative one comes back unused."""
        self._run.held = self._run.held.plus(amount)
        self._wake()

    def spend_lent(self, used: Amount) -> None:
        """Count a part of what was lent as used."""
        self._run.held = self._run.held.less(used)
        self._run.spent = self._run.spent.plus(used)

    def lending(self, change: int) -> None:
        """Count workers that may use the budget: while there are any, own calls that do not fit wait."""
        self._run.calls += change
        self._wake()

    def _wake(self) -> None:
        settled, self._settled = self._settled, anyio.Event()
        settled.set()

    def _refusal(self, amount: Amount, key: CallKey) -> tuple[_BudgetAccount, BudgetExhausted | LimitHit] | None:
        """The account without room for an amount, and the error to raise if no call in flight can free any."""
        allowed = self.allowances
        if short := self._short_of_run(amount):
            return self._run, self.exhausted(short, amount)
        episode = self._account(_episode(key))
        if short := allowed.episode.short_of(_total([episode], amount)):
            return episode, _limit_hit("episode", short, allowed.episode, episode.spent, amount)
        if not allowed.branch.bounded:
            return None
        path = [self._account(name) for name in _branches(key)]
        if short := allowed.branch.short_of(_total(path, amount)):
            spent = _total(path, Amount())  # the error is raised only when nothing is reserved
            return _busiest(path), _limit_hit("branch", short, allowed.branch, spent, amount)
        return None

    def _accounts_of(self, key: CallKey) -> Iterator[_BudgetAccount]:
        yield self._run
        if self.allowances.episode.bounded:
            yield self._account(_episode(key))
        if self.allowances.branch.bounded:
            yield self._account((*_episode(key), key.turn.path))

    def _account(self, name: tuple[str | int, ...]) -> _BudgetAccount:
        account = self._accounts.get(name)
        if account is None:
            account = _BudgetAccount()
            if self.allowances.episode.bounded or self.allowances.branch.bounded:
                self._accounts[name] = account
        return account


def reply_bound(price: Price | None) -> int:
    """Maximum tokens of a reply under a budget, if its request sets no bound."""
    return min(REPLY_TOKENS, (price and price.max_output) or REPLY_TOKENS)


def cut_short(request: ChatRequest, response: ChatResponse) -> bool:
    """Whether a reply ended at a provisional limit and must be discarded."""
    return request.limit is not None and request.limit.provisional and response.finish == "length"


def _episode(key: CallKey) -> tuple[str | int, ...]:
    return (key.turn.task_id, key.turn.trial)


def _branches(key: CallKey) -> Iterator[tuple[str | int, ...]]:
    """The accounts from the root to this branch: `LR` is below `L`, `0.3.1` below `0.3`."""
    path = key.turn.path
    parts = path.split(".") if path[:1].isdigit() else list(path)
    joint = "." if path[:1].isdigit() else ""
    for length in range(len(parts) + 1):
        yield (*_episode(key), joint.join(parts[:length]))


def _total(accounts: list[_BudgetAccount], more: Amount) -> Amount:
    for account in accounts:
        more = more.plus(account.spent).plus(account.held)
    return more


def _busiest(accounts: list[_BudgetAccount]) -> _BudgetAccount:
    return max(accounts, key=lambda account: account.calls)


def _refused(whose: str, short: str, allowed: Allowance, spent: Amount, amount: Amount) -> str:
    if short == "cost":
        used, most = f"${spent.cost:.4f} of the {whose}'s ${allowed.cost:.4f} are used", f"cost ${amount.cost:.4f}"
    else:
        used, most = f"{spent.tokens:.0f} of the {whose}'s {allowed.tokens} tokens are used", f"use {amount.tokens:.0f}"
    flag = "--max-cost" if short == "cost" else "--max-tokens-total"
    reason = "another attempt of a failed call does not fit" if amount == Amount() else f"the next call may {most}"
    return f"{used}, and {reason} ({flag}); everything so far is stored, resume it with more"


def _limit_hit(whose: str, short: str, allowed: Allowance, spent: Amount, amount: Amount) -> LimitHit:
    message = _refused(whose, short, allowed, spent, amount)
    return LimitHit(message, "cost_limit" if short == "cost" else "token_limit")


class BudgetedModel(ModelWrapper):
    """Makes only calls that fit into the remaining budget.

    A request without a bound on its reply gets one: the reserved tokens are sent as `max_tokens`. The reservation
    starts large (`REPLY_TOKENS`) and then follows the lengths of earlier replies, so that many concurrent calls fit
    into a small budget. A reply cut short by it is requested again with the maximum: replies do not depend on the
    reservation.

    Args:
        model: the model to call.
        budget: the run's budget, shared by its models.
        price: the model's price; required if the budget bounds cost.

    Raises:
        UsageError: the budget bounds cost and the price is unknown.
    """

    def __init__(self, model: ChatModel, budget: Budget, price: Price | None = None) -> None:
        if budget.allowances.of_money and price is None:
            raise UsageError(
                f"there is no price for `{model.name}`, so its cost cannot be bounded (--max-cost); give one with "
                "--prices, or bound tokens instead (--max-tokens-total)"
            )
        super().__init__(model)
        self._budget = budget
        self._price = price
        self._prompts = TokenEstimate()
        self._replies = ReplyEstimate(reply_bound(price))

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer.

        Raises:
            BudgetExhausted: the run's remaining budget is too small, or its time is up.
            LimitHit: the remaining budget of the episode or branch is too small.
        """
        if not self._budget.allowances.bounded:
            return await self._within(self._budget.seconds_left(), request, key)
        self._budget.seconds_left()
        if self._own_bound(request) is not None:
            return await self._reserved(request, key)
        first, hold = await self._fitting(request, key)
        response = await self._held(first, key, hold)
        if not cut_short(first, response):
            return response
        whole = replace(request, limit=ReplyLimit(self._replies.most))
        return await self._reserved(whole, replace(key, attempt=key.attempt + 1))

    async def _reserved(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The answer to a request whose reply is bounded."""
        return await self._held(request, key, await self._budget.reserve(self._most(request), key))

    async def _fitting(self, request: ChatRequest, key: CallKey) -> tuple[ChatRequest, Reservation]:
        """The request with a reply limit, and its hold. The limit is reduced if only a smaller one fits the budget."""
        limit = self._replies.limit()
        while True:
            limited = replace(request, limit=limit)
            try:
                return limited, await self._budget.reserve(self._most(limited), key)
            except (BudgetExhausted, LimitHit):
                if limit.tokens // 2 < SHORTEST:
                    raise
                limit = ReplyLimit(limit.tokens // 2, provisional=True)

    async def _held(self, request: ChatRequest, key: CallKey, hold: Reservation) -> ChatResponse:
        """The answer to a request that has a reservation."""
        used = hold.amount  # charged in full unless the call is known to have used less
        try:
            response = await self._within(self._budget.seconds_left(), request, key)
            used = self._used(request, response, hold.amount)
            return response
        except ModelFault as fault:
            # after a timeout or half an answer, the provider may bill a reply that it did not report
            if fault.usage is not None:
                used = Amount(fault.usage.prompt_tokens + fault.usage.completion_tokens, fault.usage.cost)
            elif not isinstance(fault, ModelTimeout | MalformedReply):
                used = Amount()
            raise
        except Exception:
            used = Amount()
            raise
        finally:
            self._budget.settle(hold, used)

    async def _within(self, seconds: float | None, request: ChatRequest, key: CallKey) -> ChatResponse:
        if seconds is None:
            return await self._model.complete(request, key)
        with anyio.move_on_after(seconds):
            return await self._model.complete(request, key)
        raise self._budget.out_of_time()

    def _own_bound(self, request: ChatRequest) -> int | None:
        """Bound on the reply, in tokens, that the request itself sets."""
        for name in ("max_completion_tokens", "max_tokens"):
            if isinstance(bound := request.sampling.extra_body.get(name), int):
                return bound
        return request.sampling.max_tokens

    def _most(self, request: ChatRequest) -> Amount:
        prompt, reply = self._prompts.bound(request), self._own_bound(request)
        if reply is None:
            reply = request.limit.tokens if request.limit else self._replies.most
        cost = self._price.cost(prompt, reply, written=prompt) if self._price else 0.0
        return Amount(prompt + reply, cost)

    def _used(self, request: ChatRequest, response: ChatResponse, most: Amount) -> Amount:
        usage = response.usage
        if not usage.tokens:  # the server reports no usage
            return most
        self._prompts.learn(request, usage.prompt_tokens)
        self._replies.learn(usage.completion_tokens)
        cost = self._price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) if self._price else 0
        return Amount(usage.tokens, usage.cost or cost)
