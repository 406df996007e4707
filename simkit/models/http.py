"""HTTP/1.1 replies from bytes: an incremental reader that knows no sockets.

It reads what RFC 9112 allows a server to answer to a POST, and refuses the rest: two different lengths, folded or
malformed header lines, transfer codings other than chunked, compressed bodies (none are asked for), and replies over
a bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

HEAD_LIMIT = 64 << 10
"""Bytes of status line and headers at most, and of trailers."""

BODY_LIMIT = 64 << 20
"""Bytes of a body at most, unless a reader is told otherwise."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class BadReply(Exception):
    """What came is no HTTP reply, or one this client does not accept."""


class CutOff(Exception):
    """The connection ended before the reply did; `empty` when not one byte had come."""

    def __init__(self, message: str, *, empty: bool) -> None:
        super().__init__(message)
        self.empty = empty


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole reply. Header names are lower case; `reusable` when the connection may carry another request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    reusable: bool = False


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: dict[str, str]
    keep: bool
    length: int | None
    """Bytes of the body; None when it is chunked or ends with the connection."""

    chunked: bool = False


class ReplyReader:
    """Reads one reply: `feed` it what comes, until it returns the reply; tell it of the end with `end`."""

    __slots__ = ("_buffer", "_chunks", "_head", "_limit", "_size")

    def __init__(self, limit: int = BODY_LIMIT) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._limit = limit

    def feed(self, data: bytes) -> HttpReply | None:
        """Take bytes; the reply when they complete it.

        Raises:
            BadReply: this is no reply that can be accepted.
        """
        self._buffer += data
        while self._head is None:
            if not self._read_head():
                return None
        head = self._head
        if head.chunked:
            return self._read_chunks(head)
        if head.length is None:
            self._check_size(len(self._buffer))
            return None
        if len(self._buffer) < head.length:
            return None
        return self._whole(head, bytes(self._buffer[: head.length]), len(self._buffer) == head.length)

    def end(self) -> HttpReply:
        """The connection has ended; the reply, if its end is the connection's.

        Raises:
            CutOff: the reply is not whole.
        """
        head = self._head
        if head is not None and head.length is None and not head.chunked:
            return self._whole(head, bytes(self._buffer), False)
        if head is None and not self._buffer:
            raise CutOff("the server closed the connection without an answer", empty=True)
        raise CutOff("the server closed the connection in the middle of its answer", empty=False)

    def _whole(self, head: _Head, body: bytes, clean: bool) -> HttpReply:
        return HttpReply(head.status, head.headers, body, head.keep and clean)

    def _read_head(self) -> bool:
        """Take the head off the buffer, if it is there; an interim one (1xx) is passed over."""
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_LIMIT)
        if end < 0:
            if len(self._buffer) >= HEAD_LIMIT:
                raise BadReply(f"the headers are longer than {HEAD_LIMIT} bytes")
            return False
        head = _parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if head.status == 101:
            raise BadReply("the server wants to switch protocols")
        if head.status >= 200:
            self._head = head
            self._check_size(head.length or 0)
            return True
        return bool(self._buffer) and self._read_head()

    def _read_chunks(self, head: _Head) -> HttpReply | None:
        position = 0
        while (chunk := self._chunk_at(position)) is not None:
            start, size = chunk
            if size == 0:
                if (reply := self._read_trailers(head, start)) is not None:
                    return reply
                break
            if len(self._buffer) < start + size + 2:
                break
            if not self._buffer.startswith(b"\r\n", start + size):
                raise BadReply("a chunk of the body does not end where it says")
            self._chunks.append(bytes(self._buffer[start : start + size]))
            self._size += size
            position = start + size + 2
        del self._buffer[:position]
        return None

    def _chunk_at(self, position: int) -> tuple[int, int] | None:
        """Where the data of the chunk at `position` starts and how long it is; None when its line is not there yet."""
        end = self._buffer.find(b"\r\n", position, position + HEAD_LIMIT)
        if end < 0:
            if len(self._buffer) - position >= HEAD_LIMIT:
                raise BadReply("a chunk of the body has an endless size line")
            return None
        match = _CHUNK.fullmatch(self._buffer, position, end)
        if match is None:
            raise BadReply(f"a chunk of the body has no size: {bytes(self._buffer[position:end])[:40]!r}")
        size = int(match[1], 16)
        self._check_size(self._size + size)
        return end + 2, size

    def _read_trailers(self, head: _Head, start: int) -> HttpReply | None:
        """The reply when the empty line after the last chunk is there; trailers are passed over."""
        if self._buffer.startswith(b"\r\n", start):
            end = start + 2
        else:
            end = self._buffer.find(b"\r\n\r\n", start) + 4
            if end < 4 or end - start > HEAD_LIMIT:
                if len(self._buffer) - start >= HEAD_LIMIT:
                    raise BadReply("the trailers of the body are endless")
                return None
        return self._whole(head, b"".join(self._chunks), end == len(self._buffer))

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise BadReply(f"the answer is larger than {self._limit} bytes")


def _parse_head(data: bytes) -> _Head:
    first, *lines = data.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise BadReply(f"the answer does not begin like HTTP/1.1: {first[:60]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise BadReply(f"a header line is malformed: {line[:60]!r}")
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _framed(int(status[2]), headers, old=status[1] == b"0")


def _framed(status: int, headers: dict[str, str], *, old: bool) -> _Head:
    """How long the body is, and whether the connection lives on (RFC 9112, 6.3 and 9.3)."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise BadReply(f"the body is encoded as `{encoding[:40]}`, which was not asked for")
    asked = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    keep = "keep-alive" in asked if old else "close" not in asked
    if status < 200 or status in (204, 304):
        return _Head(status, headers, keep, 0)
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.strip().lower() != "chunked" or old:
            raise BadReply(f"the transfer coding `{coding[:40]}` is not supported")
        return _Head(status, headers, keep and "content-length" not in headers, None, chunked=True)
    length = headers.get("content-length")
    return _Head(status, headers, keep, None if length is None else _length(length))


def _length(value: str) -> int:
    lengths = {part.strip() for part in value.split(",")}
    only = lengths.pop()
    if lengths or not (only.isascii() and only.isdigit()) or len(only) > 18:
        raise BadReply(f"the content length is `{value[:40]}`")
    return int(only)
