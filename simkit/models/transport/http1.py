"""Incremental parser of HTTP/1.1 replies, independent of sockets.

It accepts the replies to a POST that RFC 9112 allows and rejects the rest: conflicting lengths, folded or malformed
header lines, transfer codings other than chunked, and replies over a size limit. Compressed bodies are unpacked.
The work is proportional to the number of bytes received, for any input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from simkit.models.transport.decoding import InvalidReply, codings_of, decode

HEAD_LIMIT = 64 << 10
"""Maximum bytes of the status line and headers, and of the trailers."""

HEADERS_LIMIT = 256
"""Maximum number of header lines."""

INTERIM_LIMIT = 64
"""Maximum number of interim replies (1xx) before the reply."""

BODY_LIMIT = 16 << 20
"""Default maximum bytes of a body. 10,000 tokens with log probabilities of 20 candidates each take 11 MiB. All other
conversations of the process wait while a body is parsed."""

ERROR_BODY = 128 << 10
"""Maximum bytes read of an error's body. The connection is closed instead of reading the rest."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_VALUE = re.compile(rb"[\r\n\0]")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class IncompleteReply(Exception):
    """The connection ended before the reply was complete; `empty` if no byte was received."""

    def __init__(self, message: str, *, empty: bool) -> None:
        super().__init__(message)
        self.empty = empty


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A complete reply. Header names are lower case; `reusable` if the connection may carry another request."""

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
    codings: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the reply is an error, of whose body only the beginning is read."""
        return self.status != 200


class ReplyReader:
    """Parser of one reply. Call `feed` with received bytes until it returns the reply, and `end` at end of stream."""

    __slots__ = ("_body", "_buffer", "_head", "_interim", "_limit")

    def __init__(self, limit: int = BODY_LIMIT) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._body = bytearray()
        self._interim = 0
        self._limit = limit

    def feed(self, data: bytes) -> HttpReply | None:
        """Add received bytes. Returns the reply if it is complete, else None.

        Raises:
            InvalidReply: the reply is malformed or not accepted.
        """
        self._buffer += data
        while self._head is None:
            if not self._read_head():
                return None
        head = self._head
        if head.chunked:
            return self._read_chunks(head)
        if head.failed and len(self._buffer) >= ERROR_BODY:
            return self._whole(head, bytes(self._buffer[:ERROR_BODY]), False)
        if head.length is None:
            self._check_size(len(self._buffer))
            return None
        if len(self._buffer) < head.length:
            return None
        return self._whole(head, bytes(self._buffer[: head.length]), len(self._buffer) == head.length)

    def end(self) -> HttpReply:
        """Handle the end of the connection. Returns the reply if it is delimited by that end.

        Raises:
            IncompleteReply: the reply is incomplete.
        """
        head = self._head
        if head is not None and head.length is None and not head.chunked:
            return self._whole(head, bytes(self._buffer), False)
        if head is None and not self._buffer:
            raise IncompleteReply("the server closed the connection without an answer", empty=True)
        raise IncompleteReply("the server closed the connection in the middle of its answer", empty=False)

    def _whole(self, head: _Head, body: bytes, clean: bool) -> HttpReply:
        if head.codings:
            body = decode(body, head.codings, ERROR_BODY if head.failed else self._limit, partial=head.failed)
        return HttpReply(head.status, head.headers, body, head.keep and clean)

    def _read_head(self) -> bool:
        """Parse the head if the buffer holds it completely. Interim replies (1xx) are skipped."""
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_LIMIT)
        if end < 0:
            if len(self._buffer) >= HEAD_LIMIT:
                raise InvalidReply(f"the headers are longer than {HEAD_LIMIT} bytes")
            return False
        head = _parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if head.status == 101:
            raise InvalidReply("the server wants to switch protocols")
        if head.status < 200:
            self._interim += 1
            if self._interim > INTERIM_LIMIT:
                raise InvalidReply(f"the server sends more than {INTERIM_LIMIT} interim replies (1xx) and no answer")
            return bool(self._buffer)
        self._head = head
        if not head.failed:
            self._check_size(head.length or 0)
        return True

    def _read_chunks(self, head: _Head) -> HttpReply | None:
        position = 0
        while (chunk := self._chunk_at(position)) is not None:
            start, size = chunk
            if size == 0:
                if (reply := self._read_trailers(head, start)) is not None:
                    return reply
                break
            if head.failed and len(self._body) + min(size, len(self._buffer) - start) >= ERROR_BODY:
                self._body += self._buffer[start : start + size]
                return self._whole(head, bytes(self._body[:ERROR_BODY]), False)
            if not head.failed:
                self._check_size(len(self._body) + size)
            if len(self._buffer) < start + size + 2:
                break
            if not self._buffer.startswith(b"\r\n", start + size):
                raise InvalidReply("a chunk of the body does not end where it says")
            self._body += self._buffer[start : start + size]
            position = start + size + 2
        del self._buffer[:position]
        return None

    def _chunk_at(self, position: int) -> tuple[int, int] | None:
        """Start and size of the data of the chunk at `position`; None if its size line is incomplete."""
        end = self._buffer.find(b"\r\n", position, position + HEAD_LIMIT)
        if end < 0:
            if len(self._buffer) - position >= HEAD_LIMIT:
                raise InvalidReply("a chunk of the body has an endless size line")
            return None
        match = _CHUNK.fullmatch(self._buffer, position, end)
        if match is None:
            raise InvalidReply("a chunk of the body has no size", bytes(self._buffer[position:end]))
        return end + 2, int(match[1], 16)

    def _read_trailers(self, head: _Head, start: int) -> HttpReply | None:
        """The reply, once the empty line after the last chunk has been received. Trailers are skipped."""
        if self._buffer.startswith(b"\r\n", start):
            end = start + 2
        else:
            end = self._buffer.find(b"\r\n\r\n", start) + 4
            if end < 4 or end - start > HEAD_LIMIT:
                if len(self._buffer) - start >= HEAD_LIMIT:
                    raise InvalidReply("the trailers of the body are endless")
                return None
        return self._whole(head, bytes(self._body), end == len(self._buffer))

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise InvalidReply(too_large(self._limit))


def too_large(limit: int) -> str:
    """Error message for a body over the size limit."""
    return f"the answer is larger than the {limit:,} bytes that a reply of a model may have; the rest was not read"


def _parse_head(data: bytes) -> _Head:
    first, *lines = data.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise InvalidReply("the answer does not begin like HTTP/1.1", first)
    if len(lines) > HEADERS_LIMIT:
        raise InvalidReply(f"there are more than {HEADERS_LIMIT} lines of headers")
    headers: dict[str, str] = {}
    for line in lines:
        start, colon, rest = line.partition(b":")
        if not colon or _NAME.fullmatch(start) is None or _NO_VALUE.search(rest) is not None:
            raise InvalidReply("a header line is malformed", line)
        name, value = start.decode("ascii").lower(), rest.strip(b" \t").decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _framed(int(status[2]), headers, old=status[1] == b"0")


def _framed(status: int, headers: dict[str, str], *, old: bool) -> _Head:
    """Head with the length of the body and the persistence of the connection (RFC 9112, 6.3 and 9.3)."""
    codings = codings_of(headers, lenient=status != 200) if "content-encoding" in headers else ()
    asked = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    keep = "keep-alive" in asked if old else "close" not in asked
    if status < 200 or status in (204, 304):
        return _Head(status, headers, keep, 0)
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.strip().lower() != "chunked" or old:
            raise InvalidReply("the transfer coding is not supported", coding.encode("latin-1"))
        return _Head(status, headers, keep and "content-length" not in headers, None, chunked=True, codings=codings)
    length = headers.get("content-length")
    return _Head(status, headers, keep, None if length is None else _length(length), codings=codings)


def _length(value: str) -> int:
    lengths = {part.strip() for part in value.split(",")}
    only = lengths.pop()
    if lengths or not (only.isascii() and only.isdigit()) or len(only) > 18:
        raise InvalidReply("the content length is not a number", value.encode("latin-1"))
    return int(only)
