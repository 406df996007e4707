"""The engine of Ray without Ray: names, what is said and sent, and links to actors that are hung or lost."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from simkit.cli.resume import _common  # pyright: ignore[reportPrivateUsage]
from simkit.errors import UsageError, WorkerLost
from simkit.run import ray_cluster, ray_engine
from simkit.run.contract import Down, Up
from simkit.run.engine_names import engine_named, exposure
from simkit.run.ray_actor import Place, RayWorker, Versions, own_versions, pieces
from simkit.run.ray_engine import RayActors, RayLink
from simkit.run.resume import RunStart
from simkit.run.run import Run
from simkit.store import Store
from support.memory_engine import InMemory

pytestmark = pytest.mark.anyio


def _nothing(*_: str) -> None:
    """Find everything installed."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "check_installed", _nothing)


def test_an_engine_has_a_name_an_address_and_a_number_of_workers(installed: None) -> None:
    assert engine_named("processes", 3) is None
    engine = engine_named("ray=10.0.0.1:6379", 3)
    assert isinstance(engine, RayActors)
    assert engine.size == 3
    for wrong in ("dask", "ray=", "process"):
        with pytest.raises(UsageError, match="give `processes`"):
            engine_named(wrong, None)
    with pytest.raises(UsageError, match="an address of Ray Client"):
        engine_named("ray=ray://10.0.0.1:10001", None)
    with pytest.raises(UsageError, match="must be at least 1"):
        RayActors(workers=0)


def test_without_the_package_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simkit.plugins.extras.find_spec", _nothing)
    with pytest.raises(UsageError, match=r"needs the package `ray`, which is not installed; pip install .*\[ray\]"):
        engine_named("ray", None)


def test_starting_ray_is_said_to_listen_everywhere_and_joining_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = exposure("ray")
    assert said is not None
    assert "listens on every network interface" in said
    assert "--workers N" in said
    assert [exposure(each) for each in (None, "processes", "ray=auto")] == [None] * 3
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert exposure("ray") is None


def test_a_resumed_run_has_its_engine_unless_another_is_given() -> None:
    start = RunStart("", "josh", 0, {"target": "josh", "engine": "ray=auto"}, "0")
    assert _common(start, {}, {}).engine == "ray=auto"
    assert _common(start, {}, {"engine": "processes"}).engine == "processes"


def test_an_actor_gets_the_variables_that_runs_use_and_no_others(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tuple(os.environ):
        monkeypatch.delenv(name)
    given = ("OPENAI_API_KEY", "SIMKIT_CACHE", "https_proxy", "MY_KEY", "OTHER", "THIRD", "PATH")
    for name in given:
        monkeypatch.setenv(name, "x")
    assert set(RayActors().place({"MY_KEY", None}).variables) == set(given[:4])
    monkeypatch.setenv("SIMKIT_WORKER_VARIABLES", "THIRD, ABSENT")
    own = RayActors(variables=["OTHER"]).place().variables
    assert set(own) == {*given[:3], "OTHER", "THIRD", "SIMKIT_WORKER_VARIABLES"}


async def test_an_actor_refuses_a_driver_of_other_versions_before_it_reads_anything_else() -> None:
    place = Place(versions=Versions("2.0", "3.9", "0.0.1"), variables={}, folder="/")
    error, _ = await RayWorker().begin(pickle.dumps(place), None, b"no pickle")
    assert error is not None
    assert "this process Ray 2.0, Python 3.9, simkit 0.0.1" in str(pickle.loads(error)[1])


def test_nodes_with_other_versions_and_silent_nodes_are_named() -> None:
    own = own_versions()
    ray_cluster.check_versions({"a": own})
    with pytest.raises(UsageError, match=r"b: Ray 1, Python 2, simkit none; c: no answer"):
        ray_cluster.check_versions({"a": own, "b": Versions("1", "2", "none"), "c": None})


def test_data_is_cut_into_pieces_and_nothing_is_one_piece() -> None:
    assert list(pieces(b"abcde", 2)) == [b"ab", b"cd", b"e"]
    assert list(pieces(b"", 2)) == [b""]


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"{address} cannot be joined: nothing answers there"):
        ray_cluster._check_reachable(address)  # pyright: ignore[reportPrivateUsage]
    ray_cluster._check_reachable("auto")  # pyright: ignore[reportPrivateUsage]


class Opening(InMemory):
    """An engine that is never ready; it stops the run while it is opened."""

    run: Run | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        assert self.run is not None
        self.run.stop()
        await anyio.sleep_forever()
        yield


async def test_a_run_that_is_stopped_while_its_engine_starts_leaves_nothing(tmp_path: Path) -> None:
    engine = Opening(1)
    engine.run = run = Run(store=tmp_path, engine=engine)
    with pytest.raises(UsageError, match="stopped before its engine was ready"):
        async with run:
            pass
    assert Store(tmp_path).query("select * from runs").rows == []


# --- links ------------------------------------------------------------------------------------------------------------


class Method:
    """A method of an actor."""

    def __init__(self, answer: Callable[..., Awaitable[Any]]) -> None:
        self.remote = answer


class Actor:
    """An actor that answers with an `Up` in pieces of ten bytes."""

    def __init__(self, up: Up) -> None:
        self.received: list[Down] = []
        self._rest = list(pieces(pickle.dumps(up), 10))

    @property
    def exchange(self) -> Method:
        async def answer(*down: bytes) -> tuple[bytes, int]:
            self.received.append(pickle.loads(b"".join(down)))
            return self._rest.pop(0), len(self._rest)

        return Method(answer)

    @property
    def more(self) -> Method:
        async def answer() -> bytes:
            return self._rest.pop(0)

        return Method(answer)


class Hung:
    """An actor that never answers."""

    def __getattr__(self, name: str) -> Method:
        async def answer(*_: object) -> None:
            await anyio.sleep_forever()

        return Method(answer)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's errors, where it is not installed."""

    class Ray:
        class exceptions:  # noqa: N801 - the name in Ray
            RayError = ZeroDivisionError

    def required(*_: str) -> type[Ray]:
        return Ray

    monkeypatch.setattr(ray_engine, "require", required)


async def test_an_answer_arrives_in_pieces(no_ray: None) -> None:
    up = Up(lines=(b"x" * 100,), end=4)
    actor = Actor(up)
    assert await RayLink(actor, 60).exchange(Down(acked=7)) == up
    assert actor.received == [Down(acked=7)]


async def test_an_actor_that_does_not_answer_is_lost(no_ray: None) -> None:
    with pytest.raises(WorkerLost, match=r"did not answer for 0\.01 s"):
        await RayLink(Hung(), 0.01).exchange(Down())


async def test_an_actor_that_finds_no_room_is_lost(no_ray: None) -> None:
    place = Place(versions=own_versions(), variables={}, folder="/")
    with pytest.raises(WorkerLost, match=r"within 0.01 s: the cluster has no free core"):
        await RayLink(Hung(), 60).begin(place, None, "a spec", 0.01)  # pyright: ignore[reportArgumentType]


async def test_any_error_of_ray_loses_the_actor(no_ray: None) -> None:
    class Unavailable:
        def __getattr__(self, name: str) -> Method:
            async def answer(*_: object) -> None:
                raise ZeroDivisionError("the actor is unavailable\nmore advice")

            return Method(answer)

    with pytest.raises(WorkerLost, match=r"was lost \(ZeroDivisionError: the actor is unavailable\)$"):
        await RayLink(Unavailable(), 60).exchange(Down())
