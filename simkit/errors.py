"""Every error simkit raises on purpose, in one tree. `simkit.core.boundary` attributes what others raise.

    SimkitError
    ├── UsageError                 the caller asked for something that cannot be (exit code 2)
    │   ├── ComponentNotFound      no component of that name; the message lists what there is
    │   ├── RecipeError            a recipe file or its signature cannot be used
    │   ├── DataMissing            data a world needs is not on this machine
    │   ├── DataCorrupt            data is there, but is not what it should be
    │   ├── InvalidArguments       the arguments of a tool call are not a JSON object
    │   ├── NotForkable            a component cannot be branched, and the search needs to
    │   ├── ViewRefused            the viewer has no such page, or does not take what it was sent
    │   └── NotRebuilt             the request of a recorded model call cannot be built again
    ├── ActorError                 the runtime's own: addresses, deadlines, scopes
    │   ├── ActorStopped           the actor has ended; its address answers no more
    │   ├── AskTimeout             a deadline passed before the reply
    │   └── StrayCancellation      a task of the run was cancelled, and not by the run
    ├── StoreError                 journal, database and files of results
    │   ├── JournalFailed          events could not be written (full disk, read-only store)
    │   ├── StoreBusy              another process holds the database file
    │   ├── StoreIncomplete        what was asked for is stale or damaged and must not be passed on as if it were whole
    │   └── StoreUnreadable        a file of the store is not what it should be
    ├── OutputLost                 stdout takes no more text: a closed pipe, a full disk
    ├── RunStopped                 going on would be pointless or forbidden: ends the run, what is recorded stays
    │   ├── EndpointDown           a model's endpoint has not answered anybody for too long
    │   ├── AuthFailed             it refuses the credentials
    │   ├── ModelNotServed         it knows no such model, or nothing answers at its address
    │   ├── OptionRefused          it refuses an option that the run was given
    │   ├── QuotaExhausted         the account behind the key has nothing left
    │   ├── BudgetExhausted        the run has used the tokens, money or time it was given
    │   └── ReplayMiss             a replay met a call that was never recorded
    ├── WrongValue                 a value is not what was asked for; whoever asked says whose it is
    ├── NothingJudged              a judge gave no verdict on anything that it was asked about
    ├── LimitHit                   a model call does not fit into its branch's or episode's limits: an outcome
    └── Fault                      a component failed inside a branch: recorded as data, never a crash
        ├── AgentFault
        ├── UserFault
        ├── ToolFault
        ├── ModelFault             a model call failed for good
        │   ├── RateLimited        asked too often (429); tried again
        │   ├── Unreachable        no connection, a dropped one, a gateway without a server behind it; tried again
        │   ├── ServerFailed       the server failed (500); tried again
        │   ├── ModelTimeout       no answer within the request timeout; tried again
        │   ├── MalformedReply     the answer is not a chat completion; tried again
        │   ├── BadRequest         the server refuses this request
        │   ├── ContextTooLong     the conversation does not fit into the model
        │   ├── UnparsedCall       the server could not parse the tool call that the model wrote
        │   └── PromptFiltered     a content filter refuses the conversation
        ├── RewardFault
        │   └── NoVerdict          a judge was asked several times, and no answer was a verdict
        └── WorkerLost             a worker process ended or hung while it played

A `Fault` ends one branch; it is never rewarded and never harvested. A `LimitHit` ends one branch with the outcome it
names, and is scored. Everything else that is raised ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple, TypeAlias, cast

Where: TypeAlias = str | Callable[[], str]
"""Description of an operation, for the message of a fault: a text, or a function that creates it when needed."""

Trouble: TypeAlias = Literal["rate_limit", "transient", "fatal"]
"""Kind of failure of a model call: wait and send fewer requests, retry, or give up."""


class SimkitError(Exception):
    """Base of every error simkit raises on purpose."""


class UsageError(SimkitError):
    """The caller asked for something that cannot be; the message says what to do instead."""


class ComponentNotFound(UsageError):
    """No agent, user, world, reward, recipe or model of that name."""


class RecipeError(UsageError):
    """A recipe file cannot be loaded, or its signature cannot become flags."""


class DataMissing(UsageError):
    """A world's data is not on this machine; the message says how to get it."""


class DataCorrupt(UsageError):
    """A world's data is on this machine but cannot be trusted; the message says how to rebuild it."""


class InvalidArguments(UsageError):
    """The arguments text of a tool call is not a JSON object."""


class NotForkable(UsageError):
    """A search that branches was given a component whose state cannot be forked."""


class ViewRefused(UsageError):
    """A request to the viewer cannot be answered.

    Attributes:
        status: the status of the HTTP answer.
        hint: what to do.
        near: ids of runs that may have been meant.
    """

    def __init__(self, message: str, *, status: int = 400, hint: str = "", near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint
        self.near = tuple(near)


class NotRebuilt(UsageError):
    """The request of a recorded model call cannot be built again; the message says why."""


class ActorError(SimkitError):
    """Base of the actor runtime's errors."""


class ActorStopped(ActorError):
    """The actor behind this address has ended."""


class AskTimeout(ActorError):
    """The reply did not come before the deadline."""


class StrayCancellation(ActorError):
    """A task of the run was cancelled by something that had no right to: what it was doing has no result."""


class StoreError(SimkitError):
    """Base of the store's errors."""


class JournalFailed(StoreError):
    """Events could not be written; what was acknowledged before is still there."""


class StoreBusy(StoreError):
    """Another process holds the database file."""


class StoreIncomplete(StoreError):
    """The requested data are stale, damaged or unfinished, and must not be used as if they were complete."""


class StoreUnreadable(StoreError):
    """A file of the store is missing or is not what it should be."""


class OutputLost(SimkitError):
    """Standard output takes no more text; `broken_pipe` when whoever read it went away."""

    def __init__(self, message: str, *, broken_pipe: bool) -> None:
        super().__init__(message)
        self.broken_pipe = broken_pipe


class RunStopped(SimkitError):
    """Continuing would be pointless or forbidden: ends the run. Recorded data stays, and `simkit resume` continues."""


class EndpointDown(RunStopped):
    """No call to a model's endpoint has been answered for too long."""


class AuthFailed(RunStopped):
    """An endpoint refuses the credentials."""


class ModelNotServed(RunStopped):
    """An endpoint has no such model, or there is no chat completion endpoint at its address."""


class OptionRefused(RunStopped):
    """An endpoint refuses an option that the run was given; leaving it out would change what the run measures."""


class QuotaExhausted(RunStopped):
    """The account behind the key has nothing left."""


class BudgetExhausted(RunStopped):
    """The run has used the tokens, money or time it was given."""


class ReplayMiss(RunStopped):
    """A replay met a call that was never recorded; the message says what differs."""


class WrongValue(SimkitError):
    """A value is not what was asked for; the message says what it is and what to give instead.

    It says nothing of whose it is: whoever asked for the value does, and raises a `Fault`. `too_large` when only the
    size is wrong.
    """

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


LimitName: TypeAlias = Literal["token_limit", "cost_limit", "time_limit", "context_limit"]


class LimitHit(SimkitError):
    """A model call does not fit into what is left of its branch's or episode's limits, or of the model's context.

    It ends the branch with `outcome` and is scored like any other ending.
    """

    def __init__(self, message: str, outcome: LimitName) -> None:
        super().__init__(message)
        self.outcome: LimitName = outcome


class Fault(SimkitError):
    """A component failed inside a branch.

    `component` names the guilty kind, as it is written in the store; the original error is `__cause__`.
    """

    component: ClassVar[str] = "component"


class AgentFault(Fault):
    """The agent raised."""

    component = "agent"


class UserFault(Fault):
    """The user simulator raised."""

    component = "user"


class ToolFault(Fault):
    """A tool server raised (a tool that answers with an error result has not failed)."""

    component = "tool"


class TokensUsed(NamedTuple):
    """Tokens, and US dollars, that a failed call used according to its server. The prompt includes cached tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0


class ModelFault(Fault):
    """A model call failed; when it reaches an agent or a user, it has failed for good.

    Attributes:
        trouble: what a retry may do about it.
        retry_after: seconds that the server asked to wait, if it did.
        retries: maximum number of retries of this kind of failure; None leaves it to the policy.
        usage: what the server reported as used, if it did.
    """

    component = "model"
    trouble: ClassVar[Trouble] = "fatal"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        retries: int | None = None,
        usage: TokensUsed | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.retries = retries
        self.usage = usage


class RateLimited(ModelFault):
    """The endpoint was asked too often (429)."""

    trouble = "rate_limit"


class Unreachable(ModelFault):
    """No answer: no connection, a dropped one, or a gateway with no server behind it (502, 503, 504, 529).

    `busy` if the server itself said that it is overloaded: it is there, and waiting helps. `waited` are the seconds
    after which an attempt to connect was given up.
    """

    trouble = "transient"

    def __init__(
        self, message: str, *, retry_after: float | None = None, busy: bool = False, waited: float = 0.0
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.busy = busy
        self.waited = waited


class ServerFailed(ModelFault):
    """The server failed on this request (500 and its like)."""

    trouble = "transient"


class ModelTimeout(ModelFault):
    """There was no answer within the request timeout."""

    trouble = "transient"


class MalformedReply(ModelFault):
    """The answer is not a chat completion: not JSON, cut off, or without a choice."""

    trouble = "transient"


class BadRequest(ModelFault):
    """The server refuses this request; sending it again would be refused again."""


class ContextTooLong(ModelFault):
    """The conversation, with its tools and the room for a reply, does not fit into the model's context."""


class UnparsedCall(ModelFault):
    """The server could not parse the tool call that the model wrote; `generated` is its text, if the server sent it."""

    def __init__(self, message: str, *, generated: str = "", usage: TokensUsed | None = None) -> None:
        super().__init__(message, usage=usage)
        self.generated = generated


class PromptFiltered(ModelFault):
    """A content filter refuses the conversation itself."""


class RewardFault(Fault):
    """A reward raised."""

    component = "reward"


class NothingJudged(SimkitError):
    """A judge gave no verdict on any of the conversations that it was asked about."""


class NoVerdict(RewardFault):
    """A judge was asked several times, and none of its answers was a verdict.

    Attributes:
        why: what the last answer lacks.
        answer: the last answer.
    """

    def __init__(self, message: str, *, why: str = "", answer: str = "") -> None:
        super().__init__(message)
        self.why = why
        self.answer = answer


def outgrew_context(error: BaseException) -> bool:
    """Whether an error is, wraps, or was raised from a `ContextTooLong`; of a group, whether any of its errors is."""
    known: BaseException | None = error
    seen: set[int] = set()
    while known is not None and id(known) not in seen:  # a chain may lead back to its beginning
        seen.add(id(known))
        if isinstance(known, ContextTooLong):
            return True
        if isinstance(known, BaseExceptionGroup):
            return any(map(outgrew_context, cast("BaseExceptionGroup[BaseException]", known).exceptions))
        known = known.__cause__
    return False


class WorkerLost(Fault):
    """A worker process ended, or hung. The units that it had open are played again; one that ends them all is this."""

    component = "worker"


def reason(error: BaseException) -> str:
    """What an error says, for a message that names the file itself: without the number and the path of an OSError."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
