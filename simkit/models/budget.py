"""What model calls may use: tokens, money and time of a run, an episode and a branch, reserved before each call.

A call goes out only when the most it can use fits into what is left next to everything that is under way; what it
really used replaces the reservation when it is back. So no number of calls in flight can overspend. While others are
under way a call that does not fit waits for them, because they leave more than they reserved; when it would not fit
alone, the limit is hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import anyio

from simkit.errors import BudgetExhausted, LimitHit, MalformedReply, ModelTimeout, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.models.clock import Clock
from simkit.models.estimate import TokenEstimate
from simkit.models.prices import Price

REPLY_TOKENS = 4096
"""How long a reply may be under a budget of tokens or money when neither request nor provider bounds it."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens and US dollars."""

    tokens: float = 0
    cost: float = 0.0

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.tokens + other.tokens, self.cost + other.cost)

    def less(self, other: Amount) -> Amount:
        """What is left of it."""
        return Amount(self.tokens - other.tokens, self.cost - other.cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Tokens and US dollars that may be used; None for no bound."""

    tokens: int | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "cost"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"a budget of {value} {name} is none; give a positive number, or leave it out")

    @property
    def bounded(self) -> bool:
        """Whether there is any bound."""
        return self.tokens is not None or self.cost is not None

    def short_of(self, used: Amount) -> str:
        """`tokens` or `cost` when so much is more than allowed, else nothing."""
        if self.tokens is not None and used.tokens > self.tokens:
            return "tokens"
        if self.cost is not None and used.cost > self.cost + 1e-12:
            return "cost"
        return ""


@dataclass(slots=True)
class _Account:
    """What was used, and what is reserved by calls under way."""

    spent: Amount = Amount()
    held: Amount = Amount()
    calls: int = 0


@dataclass(frozen=True, slots=True)
class _Hold:
    """A reservation, and the accounts it is on."""

    amount: Amount
    accounts: tuple[_Account, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """How much a run, each of its episodes and each of its branches (from the root to the leaf) may use.

    `wall_seconds` bounds the run's time from the first call on.
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
        """Whether any of them bounds money, so that prices must be known."""
        return any(each.cost is not None for each in (self.run, self.episode, self.branch))

    @property
    def bounded(self) -> bool:
        """Whether any of them bounds tokens or money."""
        return any(each.bounded for each in (self.run, self.episode, self.branch))


class Budget:
    """The accounts of one run; share it between all its models.

    Args:
        allowances: how much may be used.
        spent: what was used before, by the part of the run that is resumed.
    """

    def __init__(self, allowances: Allowances, *, spent: Usage | None = None, clock: Clock | None = None) -> None:
        before = spent or Usage()
        self.allowances = allowances
        self._clock = clock or Clock()
        self._run = _Account(Amount(before.tokens, before.cost))
        self._accounts: dict[tuple[str | int, ...], _Account] = {}
        self._deadline: float | None = None
        self._settled = anyio.Event()

    @property
    def spent(self) -> Amount:
        """What the run has used so far."""
        return self._run.spent

    @property
    def held(self) -> Amount:
        """What calls under way have reserved."""
        return self._run.held

    def seconds_left(self) -> float | None:
        """Seconds until the run's time is up, None without a bound; the first question starts the clock.

        Raises:
            BudgetExhausted: it is up.
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

    async def reserve(self, amount: Amount, key: CallKey) -> _Hold:
        """Put an amount aside, when others have settled if need be. Every hold must be settled.

        Raises:
            BudgetExhausted: it does not fit into what the run may use.
            LimitHit: it does not fit into what the episode or branch may use.
        """
        while (refusal := self._refusal(amount, key)) is not None:
            account, error = refusal
            if account.calls == 0:
                raise error
            await self._settled.wait()
        hold = _Hold(amount, tuple(self._accounts_of(key)))
        for account in hold.accounts:
            account.held = account.held.plus(amount)
            account.calls += 1
        return hold

    def settle(self, hold: _Hold, used: Amount) -> None:
        """What a hold really came to."""
        for account in hold.accounts:
            account.held = account.held.less(hold.amount) if account.calls > 1 else Amount()
            account.spent = account.spent.plus(used)
            account.calls -= 1
        settled, self._settled = self._settled, anyio.Event()
        settled.set()

    def _refusal(self, amount: Amount, key: CallKey) -> tuple[_Account, BudgetExhausted | LimitHit] | None:
        """The account an amount does not fit into, with the error to raise when it is as empty as it will get."""
        allowed = self.allowances
        if short := allowed.run.short_of(_total([self._run], amount)):
            return self._run, BudgetExhausted(_refused("run", short, allowed.run, self._run.spent, amount))
        episode = self._account(_episode(key))
        if short := allowed.episode.short_of(_total([episode], amount)):
            return episode, _limit_hit("episode", short, allowed.episode, episode.spent, amount)
        if not allowed.branch.bounded:
            return None
        path = [self._account(name) for name in _branches(key)]
        if short := allowed.branch.short_of(_total(path, amount)):
            spent = _total(path, Amount()).less(_held(path))
            return _busiest(path), _limit_hit("branch", short, allowed.branch, spent, amount)
        return None

    def _accounts_of(self, key: CallKey) -> Iterator[_Account]:
        yield self._run
        if self.allowances.episode.bounded:
            yield self._account(_episode(key))
        if self.allowances.branch.bounded:
            yield self._account((*_episode(key), key.turn.path))

    def _account(self, name: tuple[str | int, ...]) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            account = _Account()
            if self.allowances.episode.bounded or self.allowances.branch.bounded:
                self._accounts[name] = account
        return account


def reply_bound(price: Price | None) -> int:
    """Tokens a reply may have under a budget, when its request does not say."""
    return min(REPLY_TOKENS, (price and price.max_output) or REPLY_TOKENS)


def _episode(key: CallKey) -> tuple[str | int, ...]:
    return (key.turn.task_id, key.turn.trial)


def _branches(key: CallKey) -> Iterator[tuple[str | int, ...]]:
    """The accounts from the root to this branch: `LR` is below `L`, `0.3.1` below `0.3`."""
    path = key.turn.path
    parts = path.split(".") if path[:1].isdigit() else list(path)
    joint = "." if path[:1].isdigit() else ""
    for length in range(len(parts) + 1):
        yield (*_episode(key), joint.join(parts[:length]))


def _total(accounts: list[_Account], more: Amount) -> Amount:
    for account in accounts:
        more = more.plus(account.spent).plus(account.held)
    return more


def _held(accounts: list[_Account]) -> Amount:
    total = Amount()
    for account in accounts:
        total = total.plus(account.held)
    return total


def _busiest(accounts: list[_Account]) -> _Account:
    return max(accounts, key=lambda account: account.calls)


def _refused(whose: str, short: str, allowed: Allowance, spent: Amount, amount: Amount) -> str:
    if short == "cost":
        used = f"${spent.cost:.4f} of the {whose}'s ${allowed.cost:.4f} are used, and the next call may cost"
        return f"{used} ${amount.cost:.4f} (--max-cost); everything so far is stored. Give more, or smaller max_tokens"
    used = f"{spent.tokens:.0f} of the {whose}'s {allowed.tokens} tokens are used, and the next call may use"
    more = "everything so far is stored. Give more, or smaller max_tokens"
    return f"{used} {amount.tokens:.0f} (--max-tokens-total); {more}"


def _limit_hit(whose: str, short: str, allowed: Allowance, spent: Amount, amount: Amount) -> LimitHit:
    message = _refused(whose, short, allowed, spent, amount)
    return LimitHit(message, "cost_limit" if short == "cost" else "token_limit")


class BudgetedModel:
    """Asks `model` only for what the budget has left.

    Args:
        budget: the run's; shared by its models.
        price: what the model costs; needed when the budget bounds money.

    Raises:
        UsageError: the budget bounds money and the price is not known.
    """

    def __init__(self, model: ChatModel, budget: Budget, price: Price | None = None) -> None:
        if budget.allowances.of_money and price is None:
            raise UsageError(
                f"there is no price for `{model.name}`, so its cost cannot be bounded (--max-cost); give one with "
                "--prices, or bound tokens instead (--max-tokens-total)"
            )
        self._model = model
        self._budget = budget
        self._price = price
        self._estimate = TokenEstimate()

    @property
    def name(self) -> str:
        """The name of the model that answers."""
        return self._model.name

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer.

        Raises:
            BudgetExhausted: the run has not enough left for it, or its time is up.
            LimitHit: the episode or branch has not enough left for it.
        """
        seconds = self._budget.seconds_left()
        if not self._budget.allowances.bounded:
            return await self._within(seconds, request, key)
        request = self.bounded(request)
        hold = await self._budget.reserve(self._most(request), key)
        used = hold.amount  # what is not known to have cost less is taken to have cost all of it
        try:
            response = await self._within(seconds, request, key)
            used = self._used(request, response, hold.amount)
            return response
        except (ModelTimeout, MalformedReply):  # the provider may have written a reply, and bill it
            raise
        except Exception:
            used = Amount()
            raise
        finally:
            self._budget.settle(hold, used)

    def bounded(self, request: ChatRequest) -> ChatRequest:
        """The request with a bound on its reply, so that there is a most it can use."""
        if request.sampling.max_tokens is not None:
            return request
        return replace(request, sampling=replace(request.sampling, max_tokens=reply_bound(self._price)))

    async def _within(self, seconds: float | None, request: ChatRequest, key: CallKey) -> ChatResponse:
        if seconds is None:
            return await self._model.complete(request, key)
        with anyio.move_on_after(seconds):
            return await self._model.complete(request, key)
        raise self._budget.out_of_time()

    def _most(self, request: ChatRequest) -> Amount:
        prompt, reply = self._estimate.bound(request), request.sampling.max_tokens or REPLY_TOKENS
        cost = self._price.cost(prompt, reply) if self._price else 0.0
        return Amount(prompt + reply, cost)

    def _used(self, request: ChatRequest, response: ChatResponse, most: Amount) -> Amount:
        usage = response.usage
        if not usage.tokens:  # a server that does not count
            return most
        self._estimate.learn(request, usage.prompt_tokens)
        cost = self._price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) if self._price else 0
        return Amount(usage.tokens, usage.cost or cost)
