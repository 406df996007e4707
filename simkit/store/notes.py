"""Notes that people write about conversations: events in a journal of their own, `notes.jsonl` in the store.

The file is append-only; each line ends with a checksum, like the lines of a run's journal.
Loaders copy it to the table `notes` whenever it has another size than the one they loaded.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast
from zlib import crc32

import duckdb
import orjson

from simkit.errors import StoreError
from simkit.store.files import is_open_at, open_plain, open_private, sync_folders

FILE = "notes.jsonl"

_SEED = crc32(FILE.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note about a message, or about a whole conversation.

    Attributes:
        id: its own id.
        path, turn: the branch that added the message, or that ends the conversation.
        seq: index of the message from the root; None for a note about the conversation.
        label: a short mark, such as `wrong`; `text` says more. One of them may be empty.
        author: who wrote it.
        digest: digest of the message (of the last one for a conversation) when it was written.
        at: seconds since the epoch.
    """

    id: str
    run_id: str
    task_id: str
    trial: int
    path: str
    turn: int
    seq: int | None
    label: str
    text: str
    author: str
    digest: str
    at: float

    @property
    def episode_id(self) -> str:
        """The episode that it is about."""
        return f"{self.run_id}/{self.task_id}/{self.trial}"


def new_id() -> str:
    """An id for a new note."""
    return secrets.token_hex(8)


def size_of_notes(folder: Path) -> int:
    """Bytes of the notes of a store; 0 without notes, and for a file that cannot be read."""
    path = folder / FILE
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if S_ISREG(status.st_mode) and os.access(path, os.R_OK) else 0


class NoteFile:
    """The notes of a store.

    Args:
        folder: the store.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def read(self) -> tuple[Note, ...]:
        """All notes, in the order written; damaged lines are left out.

        Raises:
            StoreError: the file cannot be read.
        """
        return tuple(_notes(self._data()))

    def append(self, *notes: Note) -> None:
        """Write notes; they are on the disk when this returns.

        Raises:
            StoreError: they cannot be written.
        """
        try:
            with self._locked() as file:
                lines = b"".join(map(_line, notes))
                size = os.fstat(file).st_size
                torn = lines and size and os.pread(file, 1, size - 1) != b"\n"  # a killed process, or a power cut
                _write_all(file, b"\n" + lines if torn else lines)
                os.fsync(file)
            sync_folders(self.path)
        except OSError as error:
            raise StoreError(
                f"the notes cannot be written to {self.path}: {error.strerror or error}. Free some space, or check "
                "the rights of the store"
            ) from error

    def forget(self, run_id: str) -> None:
        """Delete the notes about a run that is deleted.

        Raises:
            OSError: the file cannot be written.
        """
        if not self.path.exists():
            return
        made = self.path.with_name(f".{FILE}.new")
        with self._locked() as file:
            lines = [line + b"\n" for line in _read_all(file).split(b"\n") if line]
            kept = [line for line in lines if (note := _note(line)) is None or note.run_id != run_id]
            if len(kept) == len(lines):
                return
            made.unlink(missing_ok=True)
            new = open_private(made, os.O_WRONLY)
            try:
                _write_all(new, b"".join(kept))
                os.fsync(new)
            finally:
                os.close(new)
            made.rename(self.path)  # who waits for the lock sees that the file is another one
        sync_folders(self.path)

    @contextmanager
    def _locked(self) -> Generator[int]:
        """The file, which nobody else writes meanwhile."""
        while True:
            file = open_private(self.path, os.O_RDWR | os.O_APPEND)
            try:
                if not S_ISREG(os.fstat(file).st_mode):
                    raise OSError(errno.EINVAL, "it is not a regular file")
                fcntl.flock(file, fcntl.LOCK_EX)
                if is_open_at(file, self.path):
                    yield file
                    return
            finally:
                os.close(file)

    def _data(self) -> bytes:
        try:
            file = open_plain(self.path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name must not block
            try:
                return _read_all(file)
            finally:
                os.close(file)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreError(
                f"the notes in {self.path} cannot be read: {error.strerror or error}. Check the rights of the store"
            ) from error


def _line(note: Note) -> bytes:
    head = orjson.dumps({"e": "NoteWritten", **asdict(note)})[:-1]
    return b'%b,"c":"%08x"}\n' % (head, crc32(head, _SEED))


def _notes(data: bytes) -> Iterator[Note]:
    """The notes in a file; damaged lines are left out."""
    for line in data.split(b"\n"):
        if (note := _note(line + b"\n")) is not None:
            yield note


def _note(line: bytes) -> Note | None:
    """The note of a line; None if the line is damaged, or of another kind."""
    head, mark, end = line.rpartition(b',"c":"')
    if not mark or end.rstrip(b"\r\n") != b'%08x"}' % crc32(head, _SEED):
        return None
    with suppress(orjson.JSONDecodeError, TypeError, KeyError):
        event = cast("dict[str, Any]", orjson.loads(head + b"}"))
        if event.get("e") == "NoteWritten":
            return Note(**{each.name: event[each.name] for each in fields(Note)})
    return None


def _read_all(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def notes_outstanding(connection: duckdb.DuckDBPyConnection, folder: Path) -> bool:
    """Whether a store's notes are not those that the database holds."""
    row = connection.execute("SELECT coalesce(max(bytes), 0) FROM loaded_notes").fetchone()
    return row is None or row[0] != size_of_notes(folder)


def load_notes(connection: duckdb.DuckDBPyConnection, folder: Path) -> bool:
    """Copy a store's notes to the database if they have changed; returns whether they had.

    Raises:
        StoreError: the file cannot be read.
        duckdb.Error: the database cannot be written.
    """
    if not notes_outstanding(connection, folder):
        return False
    size = size_of_notes(folder)  # before they are read: what is written meanwhile is loaded next time
    notes = NoteFile(folder).read() if size else ()
    from simkit.store.transactions import transaction  # imports the events, which commands that read do without

    with transaction(connection):
        connection.execute("DELETE FROM notes")
        connection.execute("DELETE FROM loaded_notes")
        connection.execute(_INSERT, [orjson.dumps([*_rows(notes)]).decode()])
        connection.execute("INSERT INTO loaded_notes VALUES (?)", [size])
    return True


def _rows(notes: Iterable[Note]) -> Iterable[Mapping[str, Any]]:
    for note in notes:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(note.at))
        yield {
            "note_id": note.id,
            "episode_id": note.episode_id,
            "branch_id": f"{note.episode_id}/{note.path}.{note.turn}",
            "noted_at": f"{moment}.{int(note.at % 1 * 1e6):06d}",
            **{name: getattr(note, name) for name in _COPIED},
        }


_COPIED = ("run_id", "task_id", "trial", "path", "turn", "seq", "label", "text", "author", "digest")

_COLUMNS = {
    "note_id": "VARCHAR",
    "episode_id": "VARCHAR",
    "branch_id": "VARCHAR",
    "noted_at": "TIMESTAMP",
    **dict.fromkeys(_COPIED, "VARCHAR"),
    **dict.fromkeys(("trial", "turn", "seq"), "INTEGER"),
}

_INSERT = f"""
INSERT INTO notes BY NAME
SELECT unnest(from_json(CAST(? AS JSON), '[{orjson.dumps(_COLUMNS).decode()}]'), recursive := true)
"""
