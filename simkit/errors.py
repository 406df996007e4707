"""Every error simkit raises on purpose, in one tree, and the boundary that attributes everybody else's.

    SimkitError
    ├── UsageError                 the caller asked for something that cannot be (exit code 2)
    │   ├── ComponentNotFound      no component of that name; the message lists what there is
    │   ├── RecipeError            a recipe file or its signature cannot be used
    │   ├── DataMissing            data a world needs is not on this machine
    │   ├── DataCorrupt            data is there, but is not what it should be
    │   ├── InvalidArguments       the arguments of a tool call are not a JSON object
    │   └── NotForkable            a component cannot be branched, and the supervisor needs to
    ├── ActorError                 the runtime's own: addressing, mailboxes, scopes
    │   ├── ActorStopped           the actor has ended; its address answers no more
    │   ├── AskCycle               an ask that would wait for itself
    │   ├── AskTimeout             a deadline passed before the reply
    │   ├── Unhandled              the actor does not know this kind of message
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
    │   ├── QuotaExhausted         the account behind the key has nothing left
    │   ├── BudgetExhausted        the run has used the tokens, money or time it was given
    │   └── ReplayMiss             a replay met a call that was never recorded
    ├── WrongValue                 a value is not what was asked for; whoever asked says whose it is
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
        │   └── PromptFiltered     a content filter refuses the conversation
        └── RewardFault

A `Fault` ends one branch; it is never rewarded and never harvested. A `LimitHit` ends one branch with the outcome it
names, and is scored. Everything else that is raised ends the run.

Inside a component `boundary` makes a fault of whatever is raised: any BaseException, `SystemExit` included, and a
cancellation that nobody around it asked for. A cancellation that somebody did ask for always passes through, whatever
the component makes of it, and so do `KeyboardInterrupt` and `GeneratorExit`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Literal, TypeAlias, cast

Where: TypeAlias = str | Callable[[], str]
"""What was being done, for the message of a fault: words, or a function that finds them when they are needed."""

Trouble: TypeAlias = Literal["rate_limit", "transient", "fatal"]
"""What kind of failure a model call met: wait and ask less, ask again, or give up."""


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
    """A branching supervisor was given a component whose state cannot be forked."""


class ActorError(SimkitError):
    """Base of the actor runtime's errors."""


class ActorStopped(ActorError):
    """The actor behind this address has ended."""


class AskCycle(ActorError):
    """An ask would have to wait for itself."""


class AskTimeout(ActorError):
    """The reply did not come before the deadline."""


class Unhandled(ActorError):
    """The actor does not handle this kind of message."""


class StrayCancellation(ActorError):
    """A task of the run was cancelled by something that had no right to: what it was doing has no result."""


class StoreError(SimkitError):
    """Base of the store's errors."""


class JournalFailed(StoreError):
    """Events could not be written; what was acknowledged before is still there."""


class StoreBusy(StoreError):
    """Another process holds the database file."""


class StoreIncomplete(StoreError):
    """What was asked for is stale, damaged or unfinished, and was not to be passed on as if it were whole."""


class StoreUnreadable(StoreError):
    """A file of the store is missing or is not what it should be."""


class OutputLost(SimkitError):
    """Standard output takes no more text; `broken_pipe` when whoever read it went away."""

    def __init__(self, message: str, *, broken_pipe: bool) -> None:
        super().__init__(message)
        self.broken_pipe = broken_pipe


class RunStopped(SimkitError):
    """Going on would be pointless or forbidden: ends the run. What is recorded stays, and `simkit resume` goes on."""


class EndpointDown(RunStopped):
    """No call to a model's endpoint has been answered for too long."""


class AuthFailed(RunStopped):
    """An endpoint refuses the credentials."""


class ModelNotServed(RunStopped):
    """An endpoint has no such model, or there is no chat completion endpoint at its address."""


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


class ModelFault(Fault):
    """A model call failed; when it reaches an agent or a user, it has failed for good.

    `trouble` says what a retry may do about it, `retry_after` the seconds the server asked to wait, if it did.
    """

    component = "model"
    trouble: ClassVar[Trouble] = "fatal"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(ModelFault):
    """The endpoint was asked too often (429)."""

    trouble = "rate_limit"


class Unreachable(ModelFault):
    """Nobody answered: no connection, a dropped one, or a gateway with no server behind it (502, 503, 504, 529)."""

    trouble = "transient"


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


class PromptFiltered(ModelFault):
    """A content filter refuses the conversation itself."""


class RewardFault(Fault):
    """A reward raised."""

    component = "reward"


def outgrew_context(error: BaseException) -> bool:
    """Whether an error is, wraps, or was raised from a `ContextTooLong`; of a group, whether any of its errors is."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, ContextTooLong):
            return True
        if isinstance(known, BaseExceptionGroup):
            return any(map(outgrew_context, cast("BaseExceptionGroup[BaseException]", known).exceptions))
        known = known.__cause__
    return False


class boundary:  # noqa: N801 (a context manager, named as those of contextlib are)
    """Attribute whatever is raised inside to one kind of component.

    `where` says what was being done, e.g. "agent `scripted`, turn 3 of MUL0003 at LR"; a function that says so is
    called only when something failed. Already typed faults, store errors, limits and what stops the run pass through,
    also out of a task group of the component's own: a full disk inside a reward is not the reward's failure, nor is a
    dead endpoint the agent's. So do `KeyboardInterrupt`, `GeneratorExit`, and a cancellation by a scope around the
    component or by a `Task.cancel()` that is pending. Any other cancellation is the component's own.
    """

    __slots__ = ("_fault", "_where")

    def __init__(self, fault: type[Fault], where: Where) -> None:
        self._fault = fault
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, _PASSING):
            return
        if isinstance(error, ExceptionGroup) or not isinstance(error, Exception):
            passing = _passing(cast("BaseException", error))
            if passing is error:
                return
            if passing is not None:
                raise passing from error
        raised = cast("BaseException", error)
        unasked = " (a cancellation that nobody had asked for)" if _is_cancelled(raised) else ""
        raise self._fault(f"{told(self._where)}: {described(raised)}{unasked}") from raised


def _is_cancelled(error: BaseException) -> bool:
    from simkit.cancellation import is_cancellation

    return not isinstance(error, Exception) and is_cancellation(error)


def _passing(error: BaseException) -> BaseException | None:
    """What of an error, or of the errors in a group, is not the component's: the most urgent of it, or None."""
    from simkit.cancellation import cancelled_from_outside, is_cancellation, leaves

    found = tuple(leaves(error))
    own = [leaf for leaf in found if not is_cancellation(leaf)]
    if len(own) < len(found) and cancelled_from_outside():
        return next(leaf for leaf in found if is_cancellation(leaf))
    for kinds in _URGENT:
        for leaf in own:
            if isinstance(leaf, kinds):
                return leaf
    return own[0] if own and all(isinstance(leaf, Fault) for leaf in own) else None


_PASSING = (Fault, LimitHit, RunStopped, StoreError, KeyboardInterrupt, GeneratorExit)
_URGENT = ((KeyboardInterrupt, GeneratorExit), (RunStopped, StoreError), (LimitHit,))


def told(where: Where) -> str:
    """A place in words."""
    return where if isinstance(where, str) else where()


MOST_WORDS = 4000
"""Characters that are kept of what an error says."""


def described(error: BaseException) -> str:
    """An error as `Type: message`, also when its own `__str__` fails or says a great deal; of a group, the first."""
    from simkit.cancellation import is_cancellation, leaves

    found = tuple(leaves(error))
    first = next((leaf for leaf in found if not is_cancellation(leaf)), found[0])
    more = f" (and {len(found) - 1} more at the same time)" if len(found) > 1 else ""
    name = type(first).__name__
    words = _words(first)
    if words is None:
        return f"{name} (its message cannot be read: its `__str__` raises){more}"
    if len(words) > MOST_WORDS:
        words = f"{words[:MOST_WORDS]}... ({len(words):,} characters)"
    return f"{name}: {words}{more}" if words else f"{name}{more}"


def _words(error: BaseException) -> str | None:
    try:
        return str(error)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:
        return None
