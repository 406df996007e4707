"""The contract between the driver of a run and its workers: a `PlaySpec` once per worker, then exchanges.

The driver pulls: each exchange brings orders to a worker, and back come whole journal lines and results. Workers have
no store; the driver is the only writer, and says with the next exchange how many lines have been written. A worker that
is lost is not asked again, so nothing that it still does can reach the store.

What is exchanged has no slots: pickle reads and writes objects with a `__dict__` three times as fast.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from simkit.actors.deadlines import AskLimits
from simkit.core.events import Episode
from simkit.core.records import ComponentLoad
from simkit.errors import SimkitError
from simkit.models.adjustments import Adjustment, EndpointModel
from simkit.models.base import Usage
from simkit.models.middleware.budget import Allowances
from simkit.models.middleware.leases import Leases, Wants
from simkit.models.middleware.metrics import CallMetrics, Wait
from simkit.search.base import WorkUnit

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.models.factory import ModelHost
    from simkit.run.cast_spec import CastSpec, Pickled

TICK = 0.1
"""Seconds after which a worker answers an exchange although it has nothing to say."""

NUMBERS = ("calls", "rate_limited", "failed", "replayed")
CURRENT_CALLS = ("in_flight", "waiting", "limit")
"""Numbers of model calls: counters, and current values."""

Stop: TypeAlias = Literal["", "now"]
"""`now`: end at once; what is open is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaySpec:
    """What a worker needs before it can play: sent once per worker and play.

    Attributes:
        run_id: the run.
        cast: the players, by name.
        search: plays the units.
        ask_limits: time limits of components.
        concurrency: units played at once by this worker.
        workers: number of workers among which the limits of components are divided.
        allowances: budgets; that of the whole run is leased from the driver.
        strict: a call without a recorded answer is an error; no provider is opened.
        recorded: number of recorded calls of the run, in all workers.
        adjustments: what the run has learned about its endpoints.
        keeps_faults: faults are sent to the driver.
        served: models that the driver serves to its workers, by name.
    """

    run_id: str
    cast: CastSpec
    search: Pickled
    ask_limits: AskLimits = field(default_factory=AskLimits)
    concurrency: int = 1
    workers: int = 1
    allowances: Allowances = field(default_factory=Allowances)
    strict: bool = False
    recorded: int = 0
    adjustments: Mapping[EndpointModel, tuple[Adjustment, ...]] = field(
        default_factory=dict[EndpointModel, tuple[Adjustment, ...]]
    )
    keeps_faults: bool = False
    served: Mapping[str, ServedModel] = field(default_factory=dict[str, "ServedModel"])


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that another process serves to workers.

    Attributes:
        path: path of the Unix socket where the driver serves it; empty if an engine serves it in its own way.
        lacks_for_tools: why it cannot be given tools; None if it can.
    """

    path: str
    lacks_for_tools: str | None = None


@dataclass(frozen=True)
class Order:
    """A unit to play: its number, and the recorded answers of its episode (`Recording.of_unit`)."""

    index: int
    unit: WorkUnit
    past: bytes = b""


@dataclass(frozen=True)
class Result:
    """The end of an order: its episode, or the reason why it was not played."""

    index: int
    episode: Episode | None = None
    missed: str | None = None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counters of one worker since its start, and current values; `place` names its process and machine."""

    running: int = 0
    branches: int = 0
    turns: int = 0
    hits: int = 0
    flags: Mapping[str, int] = field(default_factory=Counter[str])
    lag: float = 0.0
    calls: int = 0
    in_flight: int = 0
    waiting: int = 0
    limit: int = 0
    rate_limited: int = 0
    failed: int = 0
    replayed: int = 0
    usage: Usage = field(default_factory=Usage)
    waits: tuple[Wait, ...] = ()
    loads: tuple[ComponentLoad, ...] = ()
    place: str = ""

    def with_calls(self, metrics: CallMetrics) -> Counts:
        """These counts with those of model calls."""
        numbers = {name: getattr(metrics, name) for name in (*NUMBERS, *CURRENT_CALLS, "usage")}
        return replace(self, **numbers, waits=tuple(each.wait for each in metrics.endpoints if each.wait is not None))

    def at_rest(self) -> Counts:
        """What remains of these counts when the worker is gone."""
        return replace(self, **dict.fromkeys(("running", "branches", *CURRENT_CALLS), 0), waits=(), loads=())


@dataclass(frozen=True, kw_only=True)
class Down:
    """What the driver sends: orders, how many of the worker's lines are written, and leases of the run's limits."""

    orders: tuple[Order, ...] = ()
    acked: int = 0
    leases: Leases = field(default_factory=Leases)
    stop: Stop = ""


@dataclass(frozen=True, kw_only=True)
class Up:
    """What a worker answers.

    Attributes:
        lines: whole lines of its journal, without numbers.
        end: number of lines that it has sent so far, these included.
        results: orders that have ended.
        faults: faults of its episodes, if the spec asks for them.
        error: what ended the worker's play; the run ends with it.
        done: it has ended and sends no more.
    """

    lines: tuple[bytes, ...] = ()
    end: int = 0
    results: tuple[Result, ...] = ()
    counts: Counts = field(default_factory=Counts)
    wants: Wants = field(default_factory=Wants)
    faults: tuple[bytes, ...] = ()
    error: bytes | None = None
    done: bool = False


class Link(Protocol):
    """A connection to one worker."""

    async def exchange(self, down: Down) -> Up:
        """Send to the worker and return its answer.

        Raises:
            WorkerLost: the worker has ended, or does not answer.
        """
        ...


class Engine(Protocol):
    """Starts workers. One on the machine of the driver is an `OnThisMachine` (`simkit/run/served_models.py`).

    Attributes:
        size: maximum number of workers, known once it is open.
        host: holds the models of the machine (`local/...`) instead of the driver; None if the driver holds them.
    """

    @property
    def size(self) -> int:
        """Maximum number of workers."""
        ...

    @property
    def host(self) -> ModelHost | None:
        """What holds the models of the machine instead of the driver."""
        ...

    def opened(self) -> AbstractAsyncContextManager[object]:
        """Hold what all plays of a run share, such as the connection to a cluster; a run enters it when it begins.

        Raises:
            UsageError: the engine cannot be used.
        """
        ...

    def serving(self, models: Mapping[str, ChatModel]) -> AbstractAsyncContextManager[Mapping[str, ServedModel]]:
        """Serve models to the workers of a play, as long as the block; yields their places."""
        ...

    def link(self, spec: PlaySpec) -> AbstractAsyncContextManager[Link]:
        """A worker, which ends with the block.

        Raises:
            WorkerLost: it could not be started.
        """
        ...


class RemoteError(SimkitError):
    """An error of a worker that cannot be rebuilt in this process: its class is not known here."""


def packed_error(error: BaseException) -> bytes:
    """An error as bytes, for another process; its traceback becomes a note of it."""
    from simkit.core.boundary import described
    from simkit.core.tracebacks import traceback_of

    trace = traceback_of(error)
    try:
        data = pickle.dumps((type(error), error.args, dict(vars(error)), trace))
        unpacked_error(data)
    except Exception:
        return pickle.dumps((RemoteError, (described(error),), {}, trace))
    return data


def unpacked_error(data: bytes) -> BaseException:
    """The error that `packed_error` packed."""
    kind, arguments, state, trace = pickle.loads(data)
    error: BaseException = kind.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update({name: value for name, value in state.items() if name != "__notes__"})
    if trace:
        error.add_note(f"in a worker:\n{trace}")
    return error
