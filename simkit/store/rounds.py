"""One loading round: copies new data from the journals to the database, run by run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from stat import S_ISREG
from zlib import crc32

import duckdb

from simkit.store.damage import BadLine
from simkit.store.lines import Prefix, advance, each_piece, journal_seed, read_prefix, survey, whole_lines
from simkit.store.reading import LoadProgress, read_marks
from simkit.store.source import file_of, find_journals, journal_name, size_of
from simkit.store.tables import OWNERS, rows_of
from simkit.store.transactions import (
    REFUSED,
    JournalPart,
    LoadingRound,
    OpenJournal,
    OrderedBatch,
    SortedBatch,
    UnreadableJournal,
    ending_of,
    keep_bad,
    load_batch,
    load_parts,
    transaction,
)

LASTING = ("shortened", "changed", "gone", "file")
"""Kinds of damage that the lines of a journal do not show."""


class _ReloadNeeded(Exception):
    """The loaded rows of a run do not match its journals."""


def load_all(work: LoadingRound, runs: Sequence[str] | None = None) -> bool:
    """Load all outstanding data of some runs, or (None) of all; False if the deadline passed first.

    A journal that cannot be read or has changed is recorded in `unreadable_lines` and does not block others.

    Raises:
        duckdb.Error: the database cannot be written.
        OSError: the folder of the journals, or the scratch folder, cannot be used.
    """
    journals = find_journals(work.folder, runs)
    work.marks = read_marks(work.connection)
    work.troubles += [_trouble(path, error.strerror or str(error)) for path, error in journals.troubles]
    with closing(_WaitingParts(work)) as waiting:
        for run, paths in journals.runs.items():
            due = run in work.again or any(map(partial(_is_outstanding, work), paths))
            if due and not _load_run(waiting, run, paths):
                return False
        if not waiting.load():
            return False
    keep_known(work)
    return True


MOST_JOURNALS = 128
"""Journals that are open and loaded together, at most."""


@dataclass(slots=True)
class _WaitingParts:
    """Lines of several journals that are loaded in one transaction: most of what a small journal costs is the same
    for a hundred of them."""

    work: LoadingRound
    parts: list[JournalPart] = field(default_factory=list[JournalPart])
    size: int = 0

    def add(self, part: JournalPart) -> bool:
        """Add a part; what waits is loaded if it becomes too much. False if the deadline passed."""
        self.parts.append(part)
        self.size += len(part.data)
        return self.load() if self.size >= self.work.piece or len(self.parts) >= MOST_JOURNALS else True

    def drop(self, run: str) -> None:
        """Forget the parts of a run, whose rows are made again."""
        self.parts = [part for part in self.parts if part.journal.path.parent.name != run]
        self.size = sum(len(part.data) for part in self.parts)

    def load(self) -> bool:
        """Load what waits, and close its journals; False if the deadline passed meanwhile."""
        if not self.parts:
            return True
        try:
            alone = [part.journal for part in self.parts]
            if len(alone) > 1:
                with suppress(*REFUSED, UnreadableJournal):  # then each alone: one must not keep the others out
                    load_parts(self.work, self.parts)
                    alone = []
            return _load_journals(self.work, alone) and time.monotonic() <= self.work.deadline
        finally:
            self.close()

    def close(self) -> None:
        """Close the journals that wait, and forget them."""
        for part in self.parts:
            part.journal.source.close()
        self.parts, self.size = [], 0


def _is_outstanding(work: LoadingRound, path: Path) -> bool:
    loaded = work.marks.get(journal_name(path), LoadProgress()).loaded
    try:
        status = path.stat()
    except FileNotFoundError:
        return size_of(path) != loaded
    except OSError:
        return True
    return status.st_size != loaded or not S_ISREG(status.st_mode)


def _load_run(waiting: _WaitingParts, run: str, paths: Sequence[Path]) -> bool:
    work = waiting.work
    journals = [journal for path in paths if (journal := _opened(work, path)) is not None]
    try:
        changed = [bad for journal in journals if (bad := _changed(work, journal)) is not None]
        if changed:
            with suppress(OSError):  # a read-only store, loaded into a database elsewhere
                work.damage.keep(changed)
            work.bad += changed
        if changed or run in work.again or _is_packed(work, run):
            _start_over(work, run)
        while True:
            try:
                return _load_or_wait(waiting, journals)
            except _ReloadNeeded:  # repeats only if more damage was written in the meantime
                waiting.drop(run)
                _start_over(work, run)
    finally:
        waits = {part.journal.name for part in waiting.parts}
        for journal in journals:
            if journal.name not in waits:
                journal.source.close()


def _is_packed(work: LoadingRound, run: str) -> bool:
    """Whether the rows of a run with new lines are in a pack, which does not change: they are made again."""
    return work.connection.execute("SELECT 1 FROM packed_runs WHERE run_id = ?", [run]).fetchone() is not None


def _load_or_wait(waiting: _WaitingParts, journals: Sequence[OpenJournal]) -> bool:
    """Load journals of a run; what is small and in order waits for others."""
    work = waiting.work
    for journal in journals:
        try:
            part = _small_part(work, journal)
        except UnreadableJournal as error:
            work.troubles.append(_trouble(journal.path, str(error)))
            continue
        if not (_load_journals(work, [journal]) if part is None else waiting.add(part)):
            return False
    return True


def _small_part(work: LoadingRound, journal: OpenJournal) -> JournalPart | None:
    """All outstanding lines of a journal; None if they are many, or not in order."""
    mark = work.marks.get(journal.name, LoadProgress())
    if journal.size() - mark.loaded > work.piece // 2:
        return None
    data = whole_lines(journal.read, mark.loaded, work.piece)
    prefix = _prefix(journal, mark)
    taken, place = advance(data, mark.place, journal.seed, prefix)
    if not data or taken < len(data) or prefix.bad:
        return None
    return JournalPart(journal, data, mark.at(place, prefix))


def _opened(work: LoadingRound, path: Path) -> OpenJournal | None:
    try:
        source = work.source(path)
    except FileNotFoundError:  # a run that recorded nothing is being forgotten
        return None
    except OSError as error:
        work.troubles.append(_trouble(path, error.strerror or str(error)))
        return None
    return OpenJournal(path, journal_name(path), journal_seed(path), source)


def _load_journals(work: LoadingRound, journals: Sequence[OpenJournal]) -> bool:
    for journal in journals:
        try:
            if not _load_journal(work, journal):
                return False
        except UnreadableJournal as error:
            work.troubles.append(_trouble(journal.path, str(error)))
    return True


def _load_journal(work: LoadingRound, journal: OpenJournal) -> bool:
    mark = work.marks.get(journal.name, LoadProgress())
    prefix: Prefix | None = None
    while data := whole_lines(journal.read, mark.loaded, work.piece):
        if prefix is None:
            prefix = _prefix(journal, mark)
        bad = () if mark.lines else prefix.bad
        taken, place = advance(data, mark.place, journal.seed, prefix)
        if taken:
            mark = load_batch(work, journal, OrderedBatch(data[:taken], mark.place), mark.at(place, prefix), bad)
            bad = ()
        if taken < len(data):
            if not mark.whole:  # missing lines may have appeared: the lines after them must be reread
                raise _ReloadNeeded
            rest = survey(journal.path, journal.read, place, journal.seed, prefix)
            after = replace(mark.at(rest.end, prefix), whole=rest.whole)
            mark = load_batch(work, journal, SortedBatch(journal.read, rest, work.piece), after, (*bad, *rest.bad))
        if time.monotonic() > work.deadline:
            return False
    return True


def _prefix(journal: OpenJournal, mark: LoadProgress) -> Prefix:
    """The unnumbered lines accepted from this position."""
    if mark.numbered:
        return Prefix()
    prefix = read_prefix(journal.path, journal.read, mark.place, journal.seed)
    if mark.lines and (prefix.lines < mark.lines or prefix.bad):  # the numbers now contradict the earlier load
        raise _ReloadNeeded
    return prefix


def _changed(work: LoadingRound, journal: OpenJournal) -> BadLine | None:
    """Damage to lines that were already loaded; None if they are unchanged."""
    mark = work.marks.get(journal.name, LoadProgress())
    try:
        size = journal.size()
        if size < mark.loaded:
            left = sum(data.count(b"\n") for data in each_piece(journal.read, 0))
            reason = f"{mark.loaded - size} bytes and {mark.lines - left} lines that were loaded are missing at its end"
            return BadLine(journal.path, size, left + 1, reason, "shortened", None, mark.lines - left, mark.ending)
        if ending_of(journal, mark.loaded) != mark.ending:
            reason = f"its first {mark.loaded} bytes are not those that were loaded"
            return BadLine(journal.path, 0, 1, reason, "changed", None, mark.lines, mark.ending)
    except UnreadableJournal as error:
        work.troubles.append(_trouble(journal.path, str(error)))
    return None


def _start_over(work: LoadingRound, run: str) -> None:
    """Delete all rows of a run so that they can be rebuilt from its current journals."""
    with transaction(work.connection):
        delete_rows(work.connection, run)
    for name in [name for name in work.marks if name.startswith(f"{run}/")]:
        del work.marks[name]
    work.bad = [one for one in work.bad if one.run_id != run or one.kind in LASTING]


def delete_rows(connection: duckdb.DuckDBPyConnection, run: str) -> None:
    """Delete all rows of a run within the open transaction."""
    for table in OWNERS:
        connection.execute(f"DELETE FROM {table} WHERE {rows_of(table, (run,))}")


def keep_known(work: LoadingRound) -> None:
    """Update `unreadable_lines` with damage that lines do not show, and with all acknowledgements."""
    gone = [_gone(work, name, mark) for name, mark in work.marks.items() if not file_of(_path(work, name)).exists()]
    found = [one for one in work.damage.found() if one.kind != "gone" or not file_of(one.journal).exists()]
    wanted = {one.key: one for one in (*found, *gone, *work.troubles)}
    known = _known(work.connection)
    lasting = {key for key in known if key[1] in LASTING}
    acknowledged = work.damage.acknowledged()
    if lasting == wanted.keys() and all(stored == (key in acknowledged) for key, stored in known.items()):
        return
    with transaction(work.connection):
        names = ", ".join(f"'{kind}'" for kind in LASTING)
        work.connection.execute(f"DELETE FROM unreadable_lines WHERE kind IN ({names})")
        keep_bad(work, list(wanted.values()))
        for (journal, kind, byte, checksum), stored in known.items():
            if kind not in LASTING and stored != ((journal, kind, byte, checksum) in acknowledged):
                work.connection.execute(
                    "UPDATE unreadable_lines SET acknowledged = NOT acknowledged "
                    "WHERE journal = ? AND kind = ? AND byte = ? AND checksum = ?",
                    [journal, kind, byte, checksum],
                )
    work.bad += [one for key, one in wanted.items() if key not in known and one not in work.bad]


def _known(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str, int, int], bool]:
    rows = connection.execute("SELECT journal, kind, byte, checksum, acknowledged FROM unreadable_lines").fetchall()
    return {(journal, kind, byte, checksum): stored for journal, kind, byte, checksum, stored in rows}


def _path(work: LoadingRound, name: str) -> Path:
    return work.folder / "journals" / name


def _gone(work: LoadingRound, name: str, mark: LoadProgress) -> BadLine:
    reason = f"it is gone; the {mark.lines} lines that were loaded from it are still in the database, and nowhere else"
    return BadLine(_path(work, name), 0, 1, reason, "gone", None, mark.lines, mark.ending)


def _trouble(path: Path, reason: str) -> BadLine:
    return BadLine(path, 0, 1, f"it cannot be read: {reason}", "file", None, 0, crc32(reason.encode()))
