"""Decompression of answers. Requests ask for none (`accept-encoding: identity`), but some gateways compress anyway.

The size of the result is bounded while it is produced, so that a small body cannot fill the memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from simkit.errors import UsageError
from simkit.plugins.extras import require

Decode: TypeAlias = Callable[[bytes, int], tuple[bytes, bool]]
"""Takes a body and the maximum size of the result; returns at most one byte more than that, and whether it is whole."""

LAYERS = 3
"""Maximum number of codings applied to one body."""


class InvalidReply(Exception):
    """The received bytes are not an HTTP reply, or one that this client does not accept.

    `sent` holds the server's bytes. They are not part of the message, because they may repeat the request's key.
    `hopeless` if another attempt would be answered alike.
    """

    def __init__(self, message: str, sent: bytes = b"", *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.hopeless = hopeless


def codings_of(headers: Mapping[str, str], *, lenient: bool) -> tuple[str, ...]:
    """The codings of a body in the order in which they must be undone. `lenient` ignores those that cannot be.

    Raises:
        InvalidReply: one of them is not supported, or its package is not installed.
    """
    named = headers.get("content-encoding", "")
    if not named or named == "identity":
        return ()
    found = [name for part in named.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    try:
        for name in found[:LAYERS]:
            if name in _PACKAGES:
                require(_PACKAGES[name], "compression")
        if len(found) > LAYERS or any(name not in _DECODERS for name in found):
            raise UsageError("have the server or the gateway send it uncompressed")
    except UsageError as error:
        if lenient:
            return ()
        asked = f"the body is compressed ({named[:60]!r}) although the request asked for no compression"
        raise InvalidReply(f"{asked}; {error}", hopeless=True) from error
    return tuple(reversed(found))


def decode(body: bytes, codings: tuple[str, ...], limit: int, *, partial: bool = False) -> bytes:
    """The body without its codings. With `partial`, a body that was cut off or is too large gives its beginning.

    Raises:
        InvalidReply: it is damaged, cut off, or larger than the limit in bytes.
    """
    for name in codings:
        try:
            body, whole = _DECODERS[name](body, limit)
        except InvalidReply:
            raise
        except Exception as error:
            if partial:
                return b""
            raise InvalidReply(f"the body is not valid {name} data ({error})") from error
        if len(body) > limit and not partial:
            raise InvalidReply(f"the body is larger than {limit:,} bytes when it is unpacked; the rest was not read")
        if not whole and not partial:
            raise InvalidReply(f"the {name} data of the body were cut off")
        body = body[:limit]
    return body


def _gzip(data: bytes, limit: int) -> tuple[bytes, bool]:
    return _inflate(data, limit, 31)


def _deflate(data: bytes, limit: int) -> tuple[bytes, bool]:
    """Both meanings of `deflate`: zlib data, as in the standard, and raw data, as some servers send."""
    zlib_header = len(data) > 1 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    if zlib_header:
        try:
            return _inflate(data, limit, 15)
        except zlib.error:
            pass
    return _inflate(data, limit, -15)


def _inflate(data: bytes, limit: int, window: int) -> tuple[bytes, bool]:
    unpacked = bytearray()
    while True:
        one = zlib.decompressobj(window)
        unpacked += one.decompress(data, limit + 1 - len(unpacked))
        data = one.unused_data
        if not one.eof or len(unpacked) > limit or window < 31 or not data.startswith(b"\x1f\x8b"):
            return bytes(unpacked), one.eof


def _brotli(data: bytes, limit: int) -> tuple[bytes, bool]:
    one = require("brotli", "compression").Decompressor()
    unpacked = bytearray(one.process(data, output_buffer_limit=limit + 1))
    while not one.is_finished() and len(unpacked) <= limit and not one.can_accept_more_data():
        unpacked += one.process(b"", output_buffer_limit=limit + 1 - len(unpacked))
    return bytes(unpacked[: limit + 1]), one.is_finished()


def _zstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    package = require("zstandard", "compression")
    reader = package.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data, read_across_frames=True)
    unpacked = bytearray()
    while len(unpacked) <= limit and (piece := reader.read(min(1 << 16, limit + 1 - len(unpacked)))):
        unpacked += piece
    return bytes(unpacked), True  # the package does not tell whether data were cut off; such an answer is no JSON


_PACKAGES: Mapping[str, str] = {"br": "brotli", "zstd": "zstandard"}
_DECODERS: Mapping[str, Decode] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
