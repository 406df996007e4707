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
    │   └── Unhandled              the actor does not know this kind of message
    ├── StoreError                 journal, database and files of results
    │   ├── JournalFailed          events could not be written (full disk, read-only store)
    │   ├── StoreBusy              somebody else holds the database file
    │   └── StoreUnreadable        a file of the store is not what it should be
    └── Fault                      a component failed inside a branch: recorded as data, never a crash
        ├── AgentFault
        ├── UserFault
        ├── ToolFault
        ├── ModelFault
        └── RewardFault

A `Fault` ends one branch; it is never rewarded and never harvested. Everything else that is raised ends the run.
Cancellation is a BaseException on every backend and passes through untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, TypeAlias

Where: TypeAlias = str | Callable[[], str]
"""What was being done, for the message of a fault: words, or a function that finds them when they are needed."""


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


class StoreError(SimkitError):
    """Base of the store's errors."""


class JournalFailed(StoreError):
    """Events could not be written; what was acknowledged before is still there."""


class StoreBusy(StoreError):
    """Another process holds the database file."""


class StoreUnreadable(StoreError):
    """A file of the store is missing or is not what it should be."""


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
    """A model call failed for good."""

    component = "model"


class RewardFault(Fault):
    """A reward raised."""

    component = "reward"


class boundary:  # noqa: N801 (a context manager, named as those of contextlib are)
    """Attribute whatever is raised inside to one kind of component.

    `where` says what was being done, e.g. "agent `scripted`, turn 3 of MUL0003 at LR"; a function that says so is
    called only when something failed. Already typed faults and store errors pass through: a full disk inside a reward
    is not the reward's failure.
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
        if not isinstance(error, Exception) or isinstance(error, (Fault, StoreError)):
            return
        raise self._fault(f"{told(self._where)}: {type(error).__name__}: {error}") from error


def told(where: Where) -> str:
    """A place in words."""
    return where if isinstance(where, str) else where()
