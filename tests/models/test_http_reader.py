from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit.models.transport.http1 import ERROR_BODY, HEAD_LIMIT, HttpReply, IncompleteReply, InvalidReply, ReplyReader


def read(data: bytes, *sizes: int, limit: int = 1 << 20) -> HttpReply | None:
    """Feed `data` in pieces of these sizes, the last one repeated."""
    reader, reply, position, turn = ReplyReader(limit), None, 0, 0
    while position < len(data):
        size = sizes[min(turn, len(sizes) - 1)] if sizes else len(data)
        reply = reader.feed(data[position : position + size])
        position, turn = position + size, turn + 1
        if reply is not None:
            break
    return reply


def framed(body: bytes, *, status: int = 200, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(pieces: list[bytes], trailers: str = "") -> bytes:
    body = b"".join(b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers.encode() + b"\r\n"


SPLITS = st.lists(st.integers(1, 40), min_size=1, max_size=10)


@given(st.binary(max_size=200), SPLITS)
def test_a_body_of_known_length_however_it_is_split(body: bytes, sizes: list[int]) -> None:
    reply = read(framed(body, headers="X-Id:  7 \r\nx-id: 8\r\n"), *sizes)
    assert reply == HttpReply(200, {"x-id": "7, 8", "content-length": str(len(body))}, body, reusable=True)


@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from(["", "x-sum: 1\r\ny: 2\r\n"]), SPLITS)
def test_chunks_however_they_are_split(pieces: list[bytes], trailers: str, sizes: list[int]) -> None:
    reply = read(chunked(pieces, trailers), *sizes)
    assert reply is not None
    assert (reply.body, reply.reusable) == (b"".join(pieces), True)


@given(st.binary(max_size=100), SPLITS)
def test_a_body_that_ends_with_the_connection(body: bytes, sizes: list[int]) -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\n" + body
    reader = ReplyReader()
    for start in range(0, len(data), sizes[0]):
        assert reader.feed(data[start : start + sizes[0]]) is None
    assert reader.end() == HttpReply(200, {}, body, reusable=False)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_every_cut_is_noticed(body: bytes, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([framed(body), chunked([body, body])]))
    cut = data.draw(st.integers(0, len(whole) - 1))
    reader = ReplyReader()
    assert reader.feed(whole[:cut]) is None
    with pytest.raises(IncompleteReply) as caught:
        reader.end()
    assert caught.value.empty == (cut == 0)


@given(st.binary(max_size=300), SPLITS)
def test_noise_is_refused_or_waited_for_and_never_an_answer(noise: bytes, sizes: list[int]) -> None:
    reader = ReplyReader(1000)
    try:
        for start in range(0, len(noise), sizes[0]):
            assert reader.feed(noise[start : start + sizes[0]]) is None
        with pytest.raises(IncompleteReply):
            reader.end()
    except InvalidReply:
        assert noise != b""


def test_interim_answers_are_passed_over() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    for size in (1, 7, 1000):
        assert read(interim + framed(b"{}"), size) == HttpReply(200, {"content-length": "2"}, b"{}", reusable=True)


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        ("HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 0", False),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\ncontent-length: 0", False),
        ("HTTP/1.0 200 OK\r\ncontent-length: 0", False),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\ncontent-length: 0", True),
        ("HTTP/1.1 200\r\ncontent-length: 0, 0", True),
        ("HTTP/1.1 204 No Content", True),
    ],
)
def test_whether_a_connection_lives_on(head: str, reusable: bool) -> None:
    reply = read(f"{head}\r\n\r\n".encode())
    assert reply is not None
    assert reply.reusable is reusable


def test_bytes_after_the_reply_end_the_connection() -> None:
    reply = read(framed(b"{}") + b"HTTP")
    assert reply is not None
    assert (reply.body, reply.reusable) == (b"{}", False)


def test_chunked_and_a_length_ends_the_connection() -> None:
    data = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert read(data) == HttpReply(200, {"content-length": "3", "transfer-encoding": "chunked"}, b"{}", reusable=False)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"HTTP/2 200 OK\r\n\r\n", "does not begin like HTTP/1.1"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "does not begin"),
        (b"HTTP/1.1 600 OK\r\n\r\n", "does not begin"),
        (b"220 smtp ready\r\n\r\n", "does not begin"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "switch protocols"),
        (b"HTTP/1.1 200 OK\r\nbad header: 1\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\na: 1\nb: 2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\na : 1\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "content length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "content length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: \xb2\r\n\r\n", "content length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n", "larger than"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "transfer coding"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: lzma\r\n\r\n", "asked for no compression"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "no size"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n", "no size"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{}\r\n", "does not end"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n", "larger than"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 20) + b"y", "larger than"),
        (b"x" * HEAD_LIMIT, "headers are longer"),
        (b"HTTP/1.1 200 OK\r\na:" + b" " * 60_000 + b"\0\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\na:" + b" \t" * 30_000 + b"\nb\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 16_000 + b"\r\n", "lines of headers"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "interim replies"),
        (b"HTTP/1.1 102 Processing\r\nx: y\r\n\r\n" * 10_000, "interim replies"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * HEAD_LIMIT, "endless size line"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x" * HEAD_LIMIT, "trailers .* endless"),
    ],
)
def test_what_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(InvalidReply, match=told):
        read(data)


@pytest.mark.parametrize("status", [302, 400, 429, 500])
@pytest.mark.parametrize("framing", ["length", "chunked", "one chunk", "until the end"])
def test_of_the_body_of_an_error_only_the_beginning_is_read(status: int, framing: str) -> None:
    body = b"a reason. " * 100_000
    match framing:
        case "length":
            head, sent = f"content-length: {100 * len(body)}\r\n", body
        case "chunked":
            head, sent = "transfer-encoding: chunked\r\n", b"A\r\na reason. \r\n" * 100_000
        case "one chunk":
            head, sent = "transfer-encoding: chunked\r\n", b"fffffffffff\r\n" + body
        case _:
            head, sent = "", body
    reader = ReplyReader(1 << 30)
    assert reader.feed(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode()) is None
    reply = None
    for start in range(0, len(sent), 50_000):
        reply = reader.feed(sent[start : start + 50_000])
        if reply is not None:
            break
    assert reply == HttpReply(status, reply.headers if reply else {}, body[:ERROR_BODY], reusable=False)


def test_interim_replies_before_the_answer_are_passed_over() -> None:
    reply = read(b"HTTP/1.1 100 Continue\r\n\r\n" * 10 + framed(b"{}"))
    assert reply is not None
    assert reply.body == b"{}"
