"""Simulates power cuts, with journal files that track what is synced and databases as of some commit.

A run is recorded and loaded in small steps (`Recorded.play`), with snapshots in between, also within rounds of the
loader. A snapshot holds the database with its log as of that commit, the journal's contents, and the number of synced
bytes. `cuts` then draws possible contents of the disk after a power cut: the journal cut anywhere after its last sync,
also in the middle of a line, with blocks of zeroes where data had not reached the disk. `examine` opens the result and
lists its problems; a store that keeps its promises has none.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio
import duckdb

from simkit.core.events import Episode, EpisodeStarted, Event, ModelCall, RunFinished, RunStarted
from simkit.core.ids import branch_id, episode_id
from simkit.store import Loader, Store
from simkit.store.journal import DiskFile, Journal
from simkit.store.lines import JournalLines
from simkit.store.source import DiskSource

RUN = "run"
BLOCK = 512
"""Bytes that a disk writes as a unit."""


@dataclass(slots=True)
class Disk:
    """State of a journal's disk.

    Attributes:
        synced: bytes that survive a power cut.
        look: called at every moment at which the power may fail.
    """

    synced: int = 0
    look: Callable[[], None] = lambda: None


class WatchedFile(DiskFile):
    """A journal file that tracks the synced bytes."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path)
        self._disk = disk

    def append(self, data: bytes) -> int:
        """Append the data, in two steps if there are at least two bytes."""
        half = len(data) // 2
        taken = super().append(data[:half]) if half else 0
        self._disk.look()
        return taken + super().append(data[half:])

    def truncate(self, size: int) -> None:
        """Truncate the file."""
        super().truncate(size)
        self._disk.synced = min(self._disk.synced, size)

    def sync(self) -> None:
        """Sync the file to the disk."""
        super().sync()
        self._disk.synced = self.size()
        self._disk.look()


class WatchedSource(DiskSource):
    """A journal as a loader reads it; the power may fail at each step."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path)
        self._disk = disk

    def read(self, start: int, size: int) -> bytes:
        """Read a range, after the previous transaction."""
        self._disk.look()
        return super().read(start, size)

    def sync(self) -> None:
        """Sync the journal to the disk before the transaction is committed."""
        self._disk.look()
        super().sync()
        self._disk.synced = self.size()
        self._disk.look()


@dataclass(frozen=True, slots=True)
class Moment:
    """Snapshot of one moment.

    Attributes:
        database: a folder with the database and its log.
        journal: the bytes of the journal; `synced` of them are on the disk.
        acknowledged: the model calls whose commit had returned.
    """

    database: Path
    journal: bytes
    synced: int
    acknowledged: frozenset[str]


@dataclass(slots=True)
class Recorded:
    """A run that is recorded and loaded while the power may fail.

    Args:
        folder: a scratch folder.
        durable: whether each commit syncs.
        source: how the loader reads the journal.
    """

    folder: Path
    random: Random
    durable: bool
    source: type[WatchedSource] = WatchedSource
    moments: list[Moment] = field(default_factory=list[Moment])
    chance: float = 0.2
    _disk: Disk = field(default_factory=Disk)
    _acknowledged: set[str] = field(default_factory=set[str])
    _calls: int = 0

    async def play(self, parts: int = 3, steps: int = 12) -> None:
        """Record a run in several parts, as if it had been killed and resumed between them."""
        self._disk.look = self._look
        loader = Loader(self._store, piece=2_000, source=lambda path: self.source(path, self._disk))
        for attempt in range(parts):
            journal = Journal(self._path, opener=lambda path: WatchedFile(path, self._disk), durable=self.durable)
            async with journal:
                journal.record(RunStarted(RUN, RUN, "josh", 1, {}, "0", 1.0, attempt, 1))
                for step in range(steps):
                    calls = self._events(attempt, step)
                    for event in calls:
                        journal.record(event)
                    await journal.commit()
                    self._acknowledged |= {event.request_hash for event in calls if isinstance(event, ModelCall)}
                    self._look()
                    if self.random.random() < 0.4:
                        loader.load()
                if attempt + 1 == parts:
                    journal.record(RunFinished(RUN, "done", {}, 1.0))
            self._look(always=True)

    def cuts(self, moment: Moment) -> Iterator[bytes]:
        """Possible contents of the journal after a power cut at that moment; an infinite iterator."""
        whole, synced = moment.journal, moment.synced
        while True:
            kept = bytearray(whole[: self.random.randint(synced, len(whole))])
            if self.random.random() < 0.4:  # blocks that had not reached the disk
                for start in range(synced, len(kept), BLOCK):
                    if self.random.random() < 0.5:
                        end = min(len(kept), start + BLOCK)
                        kept[start:end] = bytes(end - start)
            yield bytes(kept)

    @property
    def _store(self) -> Path:
        return self.folder / "store"

    @property
    def _path(self) -> Path:
        return self._store / "journals" / RUN / "main.jsonl"

    def _look(self, *, always: bool = False) -> None:
        if not always and self.random.random() > self.chance:
            return
        place = self.folder / f"moment-{len(self.moments)}"
        place.mkdir(parents=True)
        for name in ("simkit.duckdb", "simkit.duckdb.wal"):
            if (self._store / name).exists():
                _copy(self._store / name, place / name)
        journal = self._path.read_bytes() if self._path.exists() else b""
        self.moments.append(Moment(place, journal, self._disk.synced, frozenset(self._acknowledged)))

    def _events(self, attempt: int, step: int) -> list[Event]:
        """The events of one step: model calls of various sizes, and the start or end of an episode in some steps."""
        name = episode_id(RUN, f"T{step % 5}", 0)
        found: list[Event] = []
        if step % 5 == step % 4:
            found.append(EpisodeStarted(name, RUN, f"T{step % 5}", 0, "josh", "", ("g",), 1.0, attempt))
        for _ in range(self.random.randint(1, 4)):
            self._calls += 1
            body = {"text": "x" * self.random.choice((10, 300, 1500))}
            places = (name, branch_id(name, "", 0), "agent", 0, 0, "m")
            found.append(ModelCall(*places, f"call-{self._calls}", body, body, None, 1, 1, 0.0, 0.1, 1.0))
        if step % 3 == 2:
            found.append(
                Episode(
                    episode_id=name,
                    reward=1.0,
                    outcome="goals_done",
                    achieved=("g",),
                    turns=1,
                    branches=1,
                    faults=0,
                    at=1.0,
                )
            )
        return found


def _copy(source: Path, target: Path) -> None:
    """Copy a file in another process, because closing it in this one would release DuckDB's locks on it."""
    child = os.fork()
    if child == 0:
        try:
            shutil.copyfile(source, target)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1] != 0:
        raise OSError(f"{source} cannot be copied")


def examine(moment: Moment, journal: bytes, folder: Path, *, durable: bool) -> list[str]:
    """Open a store after a power cut, continue its run, and list the problems; `folder` must not exist.

    The store must open, hold all synced lines (with `durable` all acknowledged calls), hold each readable line once,
    hold nothing that the journal lacks, and be able to continue.
    """
    folder.mkdir(parents=True)
    for file in moment.database.iterdir():
        shutil.copyfile(file, folder / file.name)
    path = folder / "journals" / RUN / "main.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(journal)
    store = Store(folder)
    wrong: list[str] = []
    store.load()
    stored, readable = _stored(store), _calls(path)
    if stored != readable:
        wrong.append(f"rows {stored - readable} too many, {readable - stored} too few")
    if missing := _calls_of(journal[: moment.synced]) - stored:
        wrong.append(f"synced and lost: {missing}")
    if durable and (lost := moment.acknowledged - stored.keys()):
        wrong.append(f"acknowledged and lost: {lost}")
    if any(one.kind in ("shortened", "changed", "gone", "file") for one in store.damage()):
        wrong.append(f"the database knew more than the journal: {store.damage()}")
    known = [one.key for one in store.damage()]
    return wrong + _continued(store, path, stored, known)


def _continued(store: Store, path: Path, before: Counter[str], known: Sequence[object]) -> list[str]:
    async def continue_run() -> None:
        async with Journal(path) as journal:
            for number in range(3):
                key = ("run/T0/0", "run/T0/0/.0", "agent", 0, 0, "m", f"more-{number}", None, None, None)
                journal.record(ModelCall(*key, 1, 1, 0.0, 0.1, 1.0))

    anyio.run(continue_run)
    store.load()
    expected = before + Counter(f"more-{number}" for number in range(3))
    wrong = [] if _stored(store) == expected else [f"after continuing: {_stored(store)}"]
    if [one.key for one in store.damage() if one.key in known] != known:
        wrong.append("damage was forgotten")
    return wrong


def _stored(store: Store) -> Counter[str]:
    with duckdb.connect(store.database, read_only=True) as connection:
        return Counter(str(name) for (name,) in connection.execute("SELECT request_hash FROM model_calls").fetchall())


def _calls(path: Path) -> Counter[str]:
    return sum((_calls_of(line.data) for line in JournalLines(path)), Counter[str]())


def _calls_of(data: bytes) -> Counter[str]:
    found = Counter[str]()
    for line in data.splitlines(keepends=True):
        if line.startswith(b'{"e":"ModelCall"') and line.endswith(b"\n"):
            found[line.partition(b'"request_hash":"')[2].partition(b'"')[0].decode()] += 1
    return found
