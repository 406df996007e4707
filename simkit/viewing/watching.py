"""The state that a viewer shows: a replica that follows the store while pages listen, and the news it has for them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import unquote

import anyio
from anyio import to_thread

from simkit.errors import SimkitError
from simkit.store import Reader, RunState
from simkit.store.live_replica import LiveReplica

T = TypeVar("T")

REST = 1.0
"""Least seconds between two rounds of loading; a long round is followed by a rest of twice its time."""

ABOUT_ONE_RUN = ("runs", "episodes", "transcript", "message", "calls")
"""Paths of the API whose next part is a run."""

READERS = 2
"""Answers that are computed at once."""


@dataclass(frozen=True, slots=True)
class News:
    """What pages are told: the number of the state, and finished and expected episodes of the runs being played."""

    version: int = 0
    running: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    notes: int = 0

    def to_json(self) -> dict[str, Any]:
        """The news as JSON values."""
        return {"version": self.version, "running": dict(self.running), "notes": self.notes}


class Watch:
    """Follows a store: loads while somebody listens, and answers from what was loaded last.

    Args:
        replica: the store's replica, entered.

    Attributes:
        news: the latest news.
        messages: what the last round had to say, such as that the store is gone.
        stopped: the server is ending.
    """

    def __init__(self, replica: LiveReplica) -> None:
        self.news = News()
        self.messages: tuple[str, ...] = ()
        self.stopped = False
        self._replica = replica
        self._listeners = 0
        self._changed = anyio.Event()
        self._wanted = anyio.Event()
        self._loading = anyio.Lock()
        self._loaded_at = float("-inf")
        self._readers = anyio.CapacityLimiter(READERS)
        self._loaders = anyio.CapacityLimiter(1)
        self._alive: frozenset[str] = frozenset()
        self._loads = replica.loads
        self._keys: dict[str, str] = {}

    async def fresh(self) -> News:
        """The news of the state that `answer` answers from; without listeners the store is read first.

        Raises:
            StoreError: the replica cannot be written.
        """
        if not self._listeners and time.monotonic() - self._loaded_at > REST:
            await self._load()
        return self.news

    def key(self, path: str) -> str:
        """What an answer of the API depends on: the state of its run and of the run's stages, or of the whole store."""
        parts = path.split("/")
        run = unquote(parts[3]) if len(parts) > 3 and parts[2] in ABOUT_ONE_RUN else ""
        return self._keys.get(run, f"v{self.news.version}")

    async def answer(self, ask: Callable[[Reader], T]) -> T:
        """What a function finds in the current state, computed in a thread.

        Raises:
            StoreError: the replica cannot be read.
        """
        return await to_thread.run_sync(self._ask, ask, limiter=self._readers)

    def _ask(self, ask: Callable[[Reader], T]) -> T:
        with self._replica.reading() as reader:
            return ask(reader)

    def stop(self) -> None:
        """End all waiting for news."""
        self.stopped = True
        self._changed.set()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Have the store followed as long as this lasts."""
        self._listeners += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._wanted = anyio.Event()

    async def after(self, known: News | None) -> News:
        """The latest news, as soon as they are not those that are known, or the watch has stopped."""
        while self.news == known and not self.stopped:
            await self._changed.wait()
        return self.news

    async def follow(self) -> None:
        """Load new lines until cancelled, while somebody listens."""
        while True:
            await self._wanted.wait()
            began = time.monotonic()
            try:
                await self._load()
            except SimkitError as error:  # pages keep what there is, and are told
                self.messages = (str(error),)
            await anyio.sleep(max(REST, 2 * (time.monotonic() - began)))

    async def refresh(self) -> None:
        """Load what is new now, such as a note that was just written."""
        await self._load(force=True)

    async def _load(self, *, force: bool = False) -> None:
        asked = time.monotonic()
        async with self._loading:
            if self._loaded_at > asked and not force:
                return  # while this waited
            news, self.messages = await to_thread.run_sync(self._round, limiter=self._loaders)
            self._loaded_at = time.monotonic()
            if news != self.news:
                self.news = news
                self._changed.set()
                self._changed = anyio.Event()

    def _round(self) -> tuple[News, tuple[str, ...]]:
        report = self._replica.refresh()
        running = [run for run in self._replica.state.runs if run.status == "running"]
        counts = {run.run_id: (run.finished, run.started if run.planned is None else run.planned) for run in running}
        alive = frozenset(run.run_id for run in running if run.alive)
        known = (self._loads, self._alive, dict(self.news.running), self.messages)
        self._loads, self._alive = self._replica.loads, alive
        changed = known != (self._loads, alive, counts, report.notes)
        with self._replica.reading() as reader:
            notes = int(reader.query("SELECT count(*) FROM notes").rows[0][0])
            stages = reader.query(_STAGES).rows if changed or not self._keys else None
        if stages is not None:
            self._keys = _keys(self._replica.state.runs, stages, notes)
        return News(self.news.version + changed, counts, notes), report.notes


def _keys(runs: Iterable[RunState], stages: Iterable[tuple[str, str]], notes: int) -> dict[str, str]:
    """A key for each run that changes whenever an answer about it may."""
    own = {
        run.run_id: f"{run.status} {run.alive} {run.lines} {sum(each.read for each in run.journals)} {len(run.damaged)}"
        for run in runs
    }
    states = {run: [state] for run, state in own.items()}
    for whole, stage in stages:
        states.setdefault(whole, []).append(own.get(stage, ""))
    return {
        run: blake2b(repr((notes, *found)).encode(), digest_size=8).hexdigest()
        for run, found in states.items()
        if run in own
    }


_STAGES = "SELECT config ->> 'part_of' AS whole, run_id FROM runs WHERE config ->> 'part_of' IS NOT NULL ORDER BY ALL"
