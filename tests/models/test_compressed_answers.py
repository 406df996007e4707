"""Answers that are compressed although no request asks for it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from simkit.models.transport.decoding import InvalidReply, codings_of, decode
from simkit.models.transport.http1 import ERROR_BODY, ReplyReader

TEXT = b'{"choices": [{"message": {"content": "Which day?"}}]}' * 50
LIMIT = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    one = zlib.compressobj(wbits=-15)
    return one.compress(data) + one.flush()


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:100]) + gzip.compress(data[100:])


def brotli(data: bytes) -> bytes:
    return pytest.importorskip("brotli", reason="needs the extra `compression`").compress(data)


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard", reason="needs the extra `compression`").ZstdCompressor().compress(data)


def read(body: bytes, coding: str, *, status: int = 200, limit: int = LIMIT) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n"
    reply = ReplyReader(limit).feed(head.encode() + body)
    assert reply is not None
    return reply.body


FORMS = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", two_members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("identity, gzip", gzip.compress),
    ("br", brotli),
    ("zstd", zstd),
]


@pytest.mark.parametrize(("coding", "compress"), FORMS)
def test_each_coding_is_undone(coding: str, compress: Callable[[bytes], bytes]) -> None:
    assert read(compress(TEXT), coding) == TEXT


def test_codings_are_undone_in_reverse_order() -> None:
    assert read(gzip.compress(zlib.compress(TEXT)), "deflate, gzip") == TEXT
    assert codings_of({"content-encoding": "a, identity"}, lenient=True) == ()


@pytest.mark.parametrize(("coding", "compress"), FORMS)
def test_a_small_body_cannot_become_a_large_one(coding: str, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(1 << 24))
    with pytest.raises(InvalidReply, match="larger than") as caught:
        read(bomb, coding)
    assert not caught.value.hopeless


@pytest.mark.parametrize(("coding", "compress"), FORMS[:6])
def test_cut_off_and_damaged_data_are_noticed(coding: str, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(TEXT)
    with pytest.raises(InvalidReply, match=r"cut off|not valid"):
        read(whole[:-5], coding)
    with pytest.raises(InvalidReply, match="not valid"):
        read(b"\xff" * 20, coding)


@pytest.mark.parametrize("coding", ["compress", "dcb", "gzip, gzip, gzip, gzip"])
def test_an_unknown_coding_is_refused_for_good(coding: str) -> None:
    with pytest.raises(InvalidReply, match="asked for no compression") as caught:
        read(b"x", coding)
    assert caught.value.hopeless


@pytest.mark.parametrize(("coding", "package"), [("br", "brotli"), ("zstd", "zstandard")])
def test_a_missing_package_is_named_with_its_extra(coding: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(InvalidReply, match=rf"`{package}`.*\[compression\]") as caught:
        read(b"x", coding)
    assert caught.value.hopeless


def test_an_error_is_told_even_if_its_text_cannot_be_unpacked() -> None:
    assert read(gzip.compress(b"slow down"), "gzip", status=429) == b"slow down"
    assert read(gzip.compress(b"slow down")[:-4], "gzip", status=429) == b"slow down"
    assert read(b"x", "dcb", status=500) == b"x"
    assert read(b"\xff" * 9, "gzip", status=500) == b""
    assert len(read(gzip.compress(bytes(1 << 22)), "gzip", status=500)) == ERROR_BODY


def test_partial_results_stay_within_the_limit() -> None:
    assert decode(gzip.compress(bytes(5000)), ("gzip",), 100, partial=True) == bytes(100)
