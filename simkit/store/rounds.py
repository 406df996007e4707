"""One round of loading: what the journals hold that the database does not, run by run, in short transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Protocol
from zlib import crc32

import duckdb
import orjson

from simkit.store.accept import refusal
from simkit.store.damage import FIELDS, BadLine, DamageFile
from simkit.store.database import sql_text
from simkit.store.lines import (
    Place,
    Prefix,
    Survey,
    advance,
    each_of,
    each_piece,
    journal_seed,
    read_prefix,
    survey,
    whole_lines,
    written_number,
)
from simkit.store.source import Source, SourceOpener, find_journals, journal_name

ENDING = 256
"""Bytes before the end of what was loaded by which a changed journal is known."""

LASTING = ("shortened", "changed", "gone", "file")
"""Damage that the lines of a journal do not show."""

REFUSED = (duckdb.DataError, duckdb.InvalidInputException, duckdb.IntegrityError, UnicodeDecodeError)
"""What DuckDB raises for lines that it cannot take; its message may end within a letter, and then has no text."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a journal has been loaded; `number` is that of its next line.

    Attributes:
        numbered: whether numbered lines have begun.
        attempt: which start of its run the last line belongs to, -1 before the first.
        whole: whether no line is missing so far.
        ending: checksum of the last loaded bytes.
    """

    loaded: int = 0
    lines: int = 0
    number: int = 0
    numbered: bool = False
    attempt: int = -1
    whole: bool = True
    ending: int = 0

    @property
    def place(self) -> Place:
        """Where reading goes on."""
        return Place(self.loaded, self.lines, self.number)

    def at(self, place: Place, prefix: Prefix) -> Mark:
        """The mark of a later place."""
        numbered = place.line > prefix.lines
        return replace(self, loaded=place.byte, lines=place.line, number=place.number, numbered=numbered)


@dataclass(slots=True)
class Round:
    """One round under way; `troubles` are the journals that could not be read in it."""

    connection: duckdb.DuckDBPyConnection
    folder: Path
    scratch: Path
    piece: int
    deadline: float
    source: SourceOpener
    damage: DamageFile
    again: frozenset[str] = frozenset()
    marks: dict[str, Mark] = field(default_factory=dict[str, Mark])
    lines: int = 0
    bytes: int = 0
    bad: list[BadLine] = field(default_factory=list[BadLine])
    troubles: list[BadLine] = field(default_factory=list[BadLine])


@dataclass(frozen=True, slots=True)
class _Journal:
    """A journal that is being loaded."""

    path: Path
    name: str
    seed: int
    source: Source

    def size(self) -> int:
        """Bytes in it."""
        try:
            return self.source.size()
        except OSError as error:
            raise _Unread(error.strerror or str(error)) from error

    def read(self, start: int, size: int) -> bytes:
        """So many bytes from a place on."""
        try:
            return self.source.read(start, size)
        except OSError as error:
            raise _Unread(error.strerror or str(error)) from error

    def sync(self) -> None:
        """Bring it to the disk."""
        try:
            self.source.sync()
        except OSError as error:
            raise _Unread(f"it cannot be brought to the disk: {error.strerror or error}") from error


class _Unread(Exception):
    """A journal cannot be read."""


class _StartOver(Exception):
    """What was loaded of a run is not what its journals hold."""


def read_marks(connection: duckdb.DuckDBPyConnection) -> dict[str, Mark]:
    """How far each journal has been loaded."""
    names = ", ".join(each.name for each in fields(Mark))
    rows = connection.execute(f"SELECT journal, {names} FROM journals").fetchall()
    return {str(name): Mark(*rest) for name, *rest in rows}


def load_all(work: Round, runs: Sequence[str] | None = None) -> bool:
    """Load everything that is outstanding, of some runs or (None) of all; False when the time was up before.

    A journal that cannot be read, or is not what it was, is kept in `unreadable_lines` and holds up no other.

    Raises:
        duckdb.Error: the database cannot be written.
        OSError: the folder of the journals, or the scratch folder, cannot be used.
    """
    journals = find_journals(work.folder, runs)
    work.marks = read_marks(work.connection)
    work.troubles += [_trouble(path, error.strerror or str(error)) for path, error in journals.troubles]
    for run, paths in journals.runs.items():
        due = run in work.again or any(map(partial(_is_outstanding, work), paths))
        if due and not _load_run(work, run, paths):
            return False
    keep_known(work)
    return True


def _is_outstanding(work: Round, path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return True
    return status.st_size != work.marks.get(journal_name(path), Mark()).loaded or not S_ISREG(status.st_mode)


def _load_run(work: Round, run: str, paths: Sequence[Path]) -> bool:
    with ExitStack() as opened:
        journals = [journal for path in paths if (journal := _opened(work, path, opened)) is not None]
        changed = [bad for journal in journals if (bad := _changed(work, journal)) is not None]
        if changed:
            with suppress(OSError):  # a store that cannot be written, read into a database elsewhere
                work.damage.keep(changed)
            work.bad += changed
        if changed or run in work.again:
            _start_over(work, run)
        while True:
            try:
                return _load_journals(work, journals)
            except _StartOver:  # again only when more damage was written meanwhile
                _start_over(work, run)


def _opened(work: Round, path: Path, opened: ExitStack) -> _Journal | None:
    try:
        source = work.source(path)
    except FileNotFoundError:  # a run that recorded nothing is being forgotten
        return None
    except OSError as error:
        work.troubles.append(_trouble(path, error.strerror or str(error)))
        return None
    opened.callback(source.close)
    return _Journal(path, journal_name(path), journal_seed(path), source)


def _load_journals(work: Round, journals: Sequence[_Journal]) -> bool:
    for journal in journals:
        try:
            if not _load_journal(work, journal):
                return False
        except _Unread as error:
            work.troubles.append(_trouble(journal.path, str(error)))
    return True


def _load_journal(work: Round, journal: _Journal) -> bool:
    mark = work.marks.get(journal.name, Mark())
    prefix: Prefix | None = None
    while data := whole_lines(journal.read, mark.loaded, work.piece):
        if prefix is None:
            prefix = _prefix(journal, mark)
        bad = () if mark.lines else prefix.bad
        taken, place = advance(data, mark.place, journal.seed, prefix)
        if taken:
            mark = _load(work, journal, _InOrder(data[:taken], mark.place), mark.at(place, prefix), bad)
            bad = ()
        if taken < len(data):
            if not mark.whole:  # what was missing may have come: the lines after it must be read once more
                raise _StartOver
            rest = survey(journal.path, journal.read, place, journal.seed, prefix)
            after = replace(mark.at(rest.end, prefix), whole=rest.whole)
            mark = _load(work, journal, _Sorted(journal.read, rest, work.piece), after, (*bad, *rest.bad))
        if time.monotonic() > work.deadline:
            return False
    return True


def _prefix(journal: _Journal, mark: Mark) -> Prefix:
    """The lines without numbers that are accepted from here on."""
    if mark.numbered:
        return Prefix()
    prefix = read_prefix(journal.path, journal.read, mark.place, journal.seed)
    if mark.lines and (prefix.lines < mark.lines or prefix.bad):  # numbers tell now what was not known then
        raise _StartOver
    return prefix


class _Batch(Protocol):
    """Lines that are loaded in one transaction, in one or more pieces."""

    def pieces(self) -> Iterator[bytes]:
        """The whole lines."""
        ...

    def places(self) -> Iterator[tuple[int, int]]:
        """The byte where each line begins, and its number in the file."""
        ...


@dataclass(frozen=True, slots=True)
class _InOrder:
    """A stretch of a journal."""

    data: bytes
    start: Place

    def pieces(self) -> Iterator[bytes]:
        yield self.data

    def places(self) -> Iterator[tuple[int, int]]:
        byte = self.start.byte
        for number, line in enumerate(each_of(self.data), self.start.line + 1):
            yield byte, number
            byte += len(line)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The rest of a damaged journal: its sound lines in the order in which they were written."""

    read: Callable[[int, int], bytes]
    rest: Survey
    size: int

    def pieces(self) -> Iterator[bytes]:
        piece: list[bytes] = []
        size = 0
        for byte, count in self._stretches():
            piece.append(self.read(byte, count))
            size += count
            if size >= self.size:
                yield b"".join(piece)
                piece, size = [], 0
        if piece:
            yield b"".join(piece)

    def places(self) -> Iterator[tuple[int, int]]:
        for byte, _, line, _ in self.rest.order:
            yield byte, line

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Neighbouring lines, to be read at once: byte and size."""
        start = count = 0
        for byte, size, _, _ in self.rest.order:
            if count and (byte != start + count or count >= self.size):
                yield start, count
                start, count = byte, 0
            start = start if count else byte
            count += size
        if count:
            yield start, count


def _load(work: Round, journal: _Journal, batch: _Batch, after: Mark, bad: Sequence[BadLine]) -> Mark:
    """Load lines in one transaction; what the database refuses is left out and kept among the damage."""
    try:
        return _insert(work, journal, batch.pieces(), after, bad)
    except REFUSED:
        refused = _refused(work, journal, batch)
    left = _without(batch, frozenset(one.byte for one in refused))
    try:
        return _insert(work, journal, left, after, (*bad, *refused))
    except REFUSED as error:
        raise _Unread(f"its lines cannot be loaded: {_reason(error)}") from error


def _without(batch: _Batch, refused: frozenset[int]) -> Iterator[bytes]:
    places = batch.places()
    for piece in batch.pieces():
        kept = [line for line, (byte, _) in zip(each_of(piece), places, strict=False) if byte not in refused]
        if kept:
            yield b"".join(kept)


def _insert(work: Round, journal: _Journal, pieces: Iterator[bytes], after: Mark, bad: Sequence[BadLine]) -> Mark:
    lines = size = 0
    with _transaction(work.connection):
        for data in pieces:
            attempt = stage_and_load(work, journal.name, data, after.attempt)
            after = replace(after, attempt=attempt)
            lines += data.count(b"\n")
            size += len(data)
        after = replace(after, ending=_ending(journal, after.loaded))
        _keep_bad(work, bad)
        _set_mark(work.connection, journal.name, after)
        journal.sync()  # the database may not know more than the disk has
    work.marks[journal.name] = after
    work.lines += lines
    work.bytes += size
    work.bad += bad
    return after


def stage_and_load(work: Round, name: str, data: bytes, attempt: int) -> int:
    """Turn lines into rows, inside a transaction; returns the attempt of the last start of a run among them."""
    piece = work.scratch / "piece.jsonl"
    piece.write_bytes(data)
    values = {"piece": str(piece), "journal": name, "attempt": attempt, "largest": max(len(data), 1 << 20)}
    work.connection.execute(sql_text("stage.sql"), values)
    starts = work.connection.execute("SELECT attempt FROM staged WHERE e = 'RunStarted' ORDER BY line").fetchall()
    work.connection.execute(sql_text("load.sql"))
    for (told,) in starts:
        attempt = attempt + 1 if told is None else int(told)
    return attempt


def _refused(work: Round, journal: _Journal, batch: _Batch) -> list[BadLine]:
    """The lines that the database cannot take: those that are no events, and whatever it says itself of the rest."""
    found: list[BadLine] = []
    places = batch.places()
    for piece in batch.pieces():
        fine: list[tuple[bytes, int, int]] = []
        for line, (byte, number) in zip(each_of(piece), places, strict=False):
            if (reason := refusal(line)) is not None:
                found.append(_unreadable(journal.path, line, byte, number, reason))
            else:
                fine.append((line, byte, number))
        found += _halved(work, journal, fine)
    return found


def _halved(work: Round, journal: _Journal, lines: Sequence[tuple[bytes, int, int]]) -> list[BadLine]:
    if not lines:
        return []
    try:
        with _transaction(work.connection, keep=False):
            stage_and_load(work, journal.name, b"".join(line for line, _, _ in lines), 0)
    except REFUSED as error:
        if len(lines) == 1:
            line, byte, number = lines[0]
            return [_unreadable(journal.path, line, byte, number, _reason(error))]
        middle = len(lines) // 2
        return [*_halved(work, journal, lines[:middle]), *_halved(work, journal, lines[middle:])]
    return []


def _unreadable(path: Path, line: bytes, byte: int, number: int, reason: str) -> BadLine:
    return BadLine(path, byte, number, reason, "unreadable", written_number(line), 1, crc32(line))


def _changed(work: Round, journal: _Journal) -> BadLine | None:
    """What has happened to lines that were loaded; None when they are still there."""
    mark = work.marks.get(journal.name, Mark())
    try:
        size = journal.size()
        if size < mark.loaded:
            left = sum(data.count(b"\n") for data in each_piece(journal.read, 0))
            reason = f"{mark.loaded - size} bytes and {mark.lines - left} lines that were loaded are missing at its end"
            return BadLine(journal.path, size, left + 1, reason, "shortened", None, mark.lines - left, mark.ending)
        if _ending(journal, mark.loaded) != mark.ending:
            reason = f"its first {mark.loaded} bytes are not those that were loaded"
            return BadLine(journal.path, 0, 1, reason, "changed", None, mark.lines, mark.ending)
    except _Unread as error:
        work.troubles.append(_trouble(journal.path, str(error)))
    return None


def _ending(journal: _Journal, loaded: int) -> int:
    start = max(0, loaded - ENDING)
    return crc32(journal.read(start, loaded - start))


def _start_over(work: Round, run: str) -> None:
    """Take back all rows of a run: they are made from its journals as those are now."""
    begin = f"{run}/"
    with _transaction(work.connection):
        for table in _OF_EPISODES:
            work.connection.execute(f"DELETE FROM {table} WHERE starts_with(episode_id, ?)", [begin])
        for table in _OF_RUNS:
            work.connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run])
        for table in ("journals", "unreadable_lines"):
            work.connection.execute(f"DELETE FROM {table} WHERE starts_with(journal, ?)", [begin])
    for name in [name for name in work.marks if name.startswith(begin)]:
        del work.marks[name]
    work.bad = [one for one in work.bad if one.run_id != run or one.kind in LASTING]


_OF_EPISODES = ("branches", "messages", "tool_calls", "rewards", "harvests", "model_calls", "episodes")
_OF_RUNS = ("tasks", "planned_units", "unplayed_units", "blocked_loops", "metrics", "item_scores", "runs")


def keep_known(work: Round) -> None:
    """Keep the damage that lines do not show among the rows, and what was acknowledged of it all."""
    gone = [_gone(work, name, mark) for name, mark in work.marks.items() if not _path(work, name).exists()]
    found = [one for one in work.damage.found() if one.kind != "gone" or not one.journal.exists()]
    wanted = {one.key: one for one in (*found, *gone, *work.troubles)}
    known = _known(work.connection)
    lasting = {key for key in known if key[1] in LASTING}
    acknowledged = work.damage.acknowledged()
    if lasting == wanted.keys() and all(told == (key in acknowledged) for key, told in known.items()):
        return
    with _transaction(work.connection):
        names = ", ".join(f"'{kind}'" for kind in LASTING)
        work.connection.execute(f"DELETE FROM unreadable_lines WHERE kind IN ({names})")
        _keep_bad(work, list(wanted.values()))
        for (journal, kind, byte, checksum), told in known.items():
            if kind not in LASTING and told != ((journal, kind, byte, checksum) in acknowledged):
                work.connection.execute(
                    "UPDATE unreadable_lines SET acknowledged = NOT acknowledged "
                    "WHERE journal = ? AND kind = ? AND byte = ? AND checksum = ?",
                    [journal, kind, byte, checksum],
                )
    work.bad += [one for key, one in wanted.items() if key not in known and one not in work.bad]


def _known(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str, int, int], bool]:
    rows = connection.execute("SELECT journal, kind, byte, checksum, acknowledged FROM unreadable_lines").fetchall()
    return {(journal, kind, byte, checksum): told for journal, kind, byte, checksum, told in rows}


def _path(work: Round, name: str) -> Path:
    return work.folder / "journals" / name


def _gone(work: Round, name: str, mark: Mark) -> BadLine:
    reason = f"it is gone; the {mark.lines} lines that were loaded from it are still in the database, and nowhere else"
    return BadLine(_path(work, name), 0, 1, reason, "gone", None, mark.lines, mark.ending)


def _trouble(path: Path, reason: str) -> BadLine:
    return BadLine(path, 0, 1, f"it cannot be read: {reason}", "file", None, 0, crc32(reason.encode()))


def _keep_bad(work: Round, bad: Sequence[BadLine]) -> None:
    if not bad:
        return
    acknowledged = work.damage.acknowledged()
    rows = [
        {
            "journal": one.key[0],
            "acknowledged": one.key in acknowledged,
            **{name: getattr(one, name) for name in FIELDS},
        }
        for one in bad
    ]
    file = work.scratch / "bad.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    work.connection.execute(_KEEP, [str(file)])


_KEEP = """
INSERT INTO unreadable_lines BY NAME
FROM read_json(?, format = 'newline_delimited', columns = {
    'journal': 'VARCHAR', 'byte': 'BIGINT', 'line': 'BIGINT', 'reason': 'VARCHAR', 'kind': 'VARCHAR',
    'sequence': 'BIGINT', 'lines': 'BIGINT', 'checksum': 'BIGINT', 'acknowledged': 'BOOLEAN'
})
"""


def _set_mark(connection: duckdb.DuckDBPyConnection, name: str, mark: Mark) -> None:
    connection.execute("DELETE FROM journals WHERE journal = ?", [name])
    connection.execute("INSERT INTO journals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [name, *astuple(mark)])


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, *, keep: bool = True) -> Generator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    if keep:
        connection.commit()
    else:
        connection.rollback()


def _reason(error: duckdb.Error | UnicodeDecodeError) -> str:
    """DuckDB's complaint without the name of the scratch file and its advice."""
    if isinstance(error, UnicodeDecodeError):
        return "the database does not take it, and its reason is not valid UTF-8"
    text = str(error).splitlines()[0]
    return text.partition(", in line 1: ")[2] or text.rpartition(" in line 2: ")[2] or text
