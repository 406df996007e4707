"""Takes the power away: journals through files that know what is on the disk, databases as they were at some commit.

A run is recorded and loaded in small steps (`Recorded.play`), with snapshots in between, also within rounds of the
loader: the database with its log as it was at that commit, and of the journal what it held and how much of that was
synced. `cuts` then draws what a disk may hold after a power cut: the journal cut anywhere from its last sync on, in the
middle of a line too, with blocks of zeroes where data had not come to the disk. `examine` opens that and says what is
wrong with it: nothing, if the store keeps its promises.
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
"""Bytes that a disk writes or does not write as one."""


@dataclass(slots=True)
class Disk:
    """What a journal's disk is known to hold.

    Attributes:
        synced: bytes that survive a power cut.
        look: called at every moment at which the power may go.
    """

    synced: int = 0
    look: Callable[[], None] = lambda: None


class WatchedFile(DiskFile):
    """A journal's file that tells what was synced."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path)
        self._disk = disk

    def append(self, data: bytes) -> int:
        """Write at the end, perhaps in two steps."""
        half = len(data) // 2
        taken = super().append(data[:half]) if half else 0
        self._disk.look()
        return taken + super().append(data[half:])

    def truncate(self, size: int) -> None:
        """Cut the file."""
        super().truncate(size)
        self._disk.synced = min(self._disk.synced, size)

    def sync(self) -> None:
        """Bring it to the disk."""
        super().sync()
        self._disk.synced = self.size()
        self._disk.look()


class WatchedSource(DiskSource):
    """A journal as a loader reads it; the power may go at each of its steps."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path)
        self._disk = disk

    def read(self, start: int, size: int) -> bytes:
        """Read, after the transaction before."""
        self._disk.look()
        return super().read(start, size)

    def sync(self) -> None:
        """Bring it to the disk, before the transaction is committed."""
        self._disk.look()
        super().sync()
        self._disk.synced = self.size()
        self._disk.look()


@dataclass(frozen=True, slots=True)
class Moment:
    """What there was at one moment.

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
    """A run that is recorded and loaded while the power may go.

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
        """What the disk may hold of the journal after a power cut at that moment: endlessly many."""
        whole, synced = moment.journal, moment.synced
        while True:
            kept = bytearray(whole[: self.random.randint(synced, len(whole))])
            if self.random.random() < 0.4:  # blocks that had not come to the disk
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
        """The events of one step: model calls of some size, and an episode that begins or ends."""
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
    """Copy a file in another process: were it opened and closed here, DuckDB's locks on it would be gone."""
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
    """Open what a power cut has left, go on with it, and say what is wrong; `folder` must not exist.

    It must open; hold what was synced, and with `durable` what was acknowledged; hold each line that can be read, once;
    never know more than the journal; and be gone on with.
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
    return wrong + _gone_on(store, path, stored, known)


def _gone_on(store: Store, path: Path, before: Counter[str], known: Sequence[object]) -> list[str]:
    async def go_on() -> None:
        async with Journal(path) as journal:
            for number in range(3):
                key = ("run/T0/0", "run/T0/0/.0", "agent", 0, 0, "m", f"more-{number}", None, None, None)
                journal.record(ModelCall(*key, 1, 1, 0.0, 0.1, 1.0))

    anyio.run(go_on)
    store.load()
    expected = before + Counter(f"more-{number}" for number in range(3))
    wrong = [] if _stored(store) == expected else [f"after it was gone on with: {_stored(store)}"]
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
