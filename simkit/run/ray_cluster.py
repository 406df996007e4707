"""Connections to Ray: starting it, joining a cluster, and the versions on its nodes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.to_thread

from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.run.ray_actor import Versions, first_line, own_versions, versions_task

REACHABLE = 10.0
"""Seconds to connect to the address of a cluster."""

STORE = 100 << 20
"""Bytes of Ray's object store if Ray is started here. It is hardly used."""


class Connection:
    """A thread that starts or joins Ray, and leaves it at the end.

    Ray's processes are killed with the thread that has started them, so it stays as long as they are needed.

    Attributes:
        cores: number of cores in the cluster.
    """

    def __init__(self, address: str | None, cores: int) -> None:
        self._address = address
        self._wanted = cores
        self._over = threading.Event()
        self._ready: Future[int] = Future()
        self.cores = 1

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Be connected as long as the block.

        Raises:
            UsageError: Ray cannot be started or joined, or versions differ.
        """
        thread = threading.Thread(target=self._hold, name="connection to Ray", daemon=True)
        thread.start()
        try:
            self.cores = await anyio.to_thread.run_sync(self._ready.result, abandon_on_cancel=True)
            _take_signals_back()
            yield
        finally:
            self._over.set()
            if self._ready.done():
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(thread.join)

    def _hold(self) -> None:
        ray = require("ray", "ray")
        ours = not ray.is_initialized()
        try:
            if ours and connect(self._address, self._wanted) is not None:
                check_versions(node_versions())
            self._ready.set_result(int(ray.cluster_resources().get("CPU", 1)))
            self._over.wait()
        except BaseException as error:
            self._ready.set_exception(error)
        finally:
            if ours:
                ray.shutdown()


def _take_signals_back() -> None:
    """Install this process's handlers again: Ray's own aborts the process at a SIGTERM, which should end the run."""
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(each)
            if handler is not None:  # None: not installed by Python
                signal.signal(each, handler)


@contextmanager
def joined(address: str) -> Generator[None]:
    """Be connected to the cluster at an address as long as the block.

    Raises:
        UsageError: it cannot be joined.
    """
    ray = require("ray", "ray")
    try:
        connect(address)
        yield
    finally:
        ray.shutdown()


def connect(address: str | None, cores: int = 1) -> str | None:
    """Join the cluster at an address or at RAY_ADDRESS, or start Ray here with at least this number of cores.

    Returns the address of a cluster that was joined.

    Raises:
        UsageError: it cannot be joined or started.
    """
    ray = require("ray", "ray")
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    joined = address or os.environ.get("RAY_ADDRESS")
    if joined:
        _check_reachable(joined)
    try:
        if joined:
            ray.init(address=joined, **quiet)
        else:
            _prepare_start()
            cores = max(cores, len(os.sched_getaffinity(0)))
            ray.init(address="local", num_cpus=cores, include_dashboard=False, object_store_memory=STORE, **quiet)
    except Exception as error:
        what = f"the Ray cluster at {joined} cannot be joined" if joined else "Ray cannot be started on this machine"
        more = "; is it running (`ray status`), with the same versions?" if joined else ""
        raise UsageError(f"{what} ({first_line(error)}){more}") from error
    return joined


def _check_reachable(address: str) -> None:
    """Check that something listens at an address of the form HOST:PORT; Ray would try it for minutes.

    Raises:
        UsageError: nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHABLE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"the Ray cluster at {address} cannot be joined: nothing answers there ({error}); is it running (`ray "
            "status`)?"
        ) from error


def _prepare_start() -> None:
    """Have Ray send no usage statistics, run workers with the priority of the driver, and let its processes share a
    token of their own instead of a file at home."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise, which starves workers on a busy machine
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def node_versions(seconds: float = 120) -> Mapping[str, Versions | None]:
    """The versions on each node of the cluster that is connected, by its address; None for one that did not answer."""
    ray = require("ray", "ray")
    affinity = require("ray.util.scheduling_strategies", "ray").NodeAffinitySchedulingStrategy
    task = ray.remote(versions_task())
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = {
        f"{node['NodeManagerAddress']}/{node['NodeID'][:8]}": task.options(
            num_cpus=0, max_retries=0, scheduling_strategy=affinity(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    }
    ended, _ = ray.wait(list(asked.values()), num_returns=max(1, len(asked)), timeout=seconds)
    found: dict[str, Versions | None] = {}
    for node, answer in asked.items():
        try:
            found[node] = Versions(*ray.get(answer)) if answer in ended else None
        except ray.exceptions.RayError:
            found[node] = None
    return found


def check_versions(nodes: Mapping[str, Versions | None]) -> None:
    """Compare the versions of nodes with those of this process.

    Raises:
        UsageError: one differs, or a node did not answer.
    """
    own = own_versions()
    others = [f"{node}: {found or 'no answer'}" for node, found in nodes.items() if found != own]
    if others:
        raise UsageError(
            f"this process has {own}, and other nodes of the Ray cluster differ ({'; '.join(others)}); install the "
            "same versions everywhere"
        )
