"""The viewer's server: answers with their tags, news, notes, and the pages."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from simkit.errors import StoreError
from simkit.store import LoadReport, Store
from simkit.store.live_replica import LiveReplica
from simkit.store.notes import FILE
from simkit.viewing.api import Annotations, answer
from simkit.viewing.guards import Door, Guard, Message
from simkit.viewing.pages import page_files
from simkit.viewing.server import Viewer, make_app
from simkit.viewing.watching import News, Watch

pytestmark = pytest.mark.anyio


@dataclass
class Reply:
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    @property
    def value(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks an application in this process, as a browser on this machine would."""

    app: Guard
    watch: Watch

    async def ask(self, target: str, method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
        path, _, query = target.partition("?")
        named = {"host": "127.0.0.1:7788", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 7788),
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        reply = Reply()
        parts: list[Message] = [
            {"type": "http.request", "body": body[50_000:], "more_body": False},
            {"type": "http.request", "body": body[:50_000], "more_body": True},
        ]

        async def receive() -> Message:
            if not parts:
                await anyio.sleep_forever()  # the browser stays
            return parts.pop()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.body += message.get("body", b"")

        await self.app(scope, receive, send)
        return reply


@asynccontextmanager
async def serving(store: Path, annotations: Annotations | None = None) -> AsyncGenerator[Client]:
    """The application over a store."""
    with LiveReplica(store) as replica:
        watch = Watch(replica)
        viewer = Viewer(store=store, annotations=annotations or Annotations(True, "", "ann"))
        yield Client(make_app(viewer, watch, Door.at("127.0.0.1", 7788, None)), watch)


async def test_answers_are_those_of_the_api_with_a_tag_and_compressed(played: Path) -> None:
    async with serving(played) as client:
        found = await client.ask("/api/runs/last", accept_encoding="gzip")
        assert (found.status, found.headers["content-encoding"]) == (200, "gzip")
        assert found.headers["cache-control"] == "no-cache"
        assert int(found.headers["content-length"]) == len(found.body)
        with Store(played).reading() as reader:
            assert json.loads(gzip.decompress(found.body)) == answer(reader, "/api/runs/last")
        plain = await client.ask("/api/runs/last")
        assert plain.body == gzip.decompress(found.body)
        again = await client.ask("/api/runs/last", if_none_match=found.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        other = await client.ask("/api/runs", if_none_match=found.headers["etag"])
        assert other.status == 200


async def test_paths_are_decoded_once_and_queries_too(played: Path) -> None:
    async with serving(played) as client:
        assert (await client.ask("/api/runs/la%73t")).status == 200
        assert (await client.ask("/api/runs/la%2573t")).status == 404
        found = await client.ask("/api/runs/before/search?q=%48otel&limit=1")
        assert len(found.value["hits"]) == 1


async def test_problems_are_told_as_json(played: Path) -> None:
    async with serving(played) as client:
        found = await client.ask("/api/runs/nothing")
        assert (found.status, found.headers["cache-control"]) == (404, "no-store")
        assert found.value["error"] == "there is no run 'nothing'"
        assert found.value["near"]
        assert (await client.ask("/api/compare?a=last")).status == 400


@pytest.mark.parametrize(
    "name", ["../guards.py", "..%2fguards.py", "%2e%2e/guards.py", "nothing.js", "", "/etc/passwd"]
)
async def test_only_the_listed_files_are_served(played: Path, name: str) -> None:
    async with serving(played) as client:
        assert (await client.ask(f"/static/{name}")).status == 404


@pytest.mark.parametrize("path", ["/", "/runs/last", "/runs/a/b/0", "/compare", "/search", "/anything"])
async def test_every_page_is_the_same_file(played: Path, path: str) -> None:
    async with serving(played) as client:
        found = await client.ask(path)
    assert (found.status, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert found.body == page_files()["index.html"].body


async def test_files_of_the_pages_have_types_and_tags(played: Path) -> None:
    async with serving(played) as client:
        for name, file in page_files().items():
            found = await client.ask(f"/static/{name}")
            assert (found.status, found.body) == (200, file.body)
            assert found.headers["content-type"] == file.media_type
            assert (await client.ask(f"/static/{name}", if_none_match=found.headers["etag"])).status == 304


def cut(store: Path) -> tuple[Path, list[bytes]]:
    """Cut the last lines off a journal, and remove the database."""
    journal = sorted(store.rglob("main.jsonl"))[-1]
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-20]))
    (store / "simkit.duckdb").unlink()
    return journal, lines[-20:]


async def test_pages_that_listen_are_told_of_new_lines(store: Path) -> None:
    journal, rest = cut(store)
    async with serving(store) as client, client.watch.listening(), anyio.create_task_group() as group:
        group.start_soon(client.watch.follow)
        first = await client.watch.after(News())
        ((run, (finished, expected)),) = first.running.items()
        assert finished < expected == 12
        tag = (await client.ask(f"/api/runs/{run}")).headers["etag"]
        with journal.open("ab") as file:
            file.writelines(rest)
        with anyio.fail_after(20):
            second = await client.watch.after(first)
        assert second.version == first.version + 1
        assert dict(second.running) == {}
        found = await client.ask(f"/api/runs/{run}", if_none_match=tag)
        assert (found.status, found.value["status"]) == (200, "done")
        group.cancel_scope.cancel()


async def test_without_listeners_the_store_is_read_when_a_page_asks(store: Path) -> None:
    async with serving(store) as client:
        assert len((await client.ask("/api/runs")).value) == 3
        (journal,) = (store / "journals").glob("josh-*/main.jsonl")
        Store(store).prune([journal.parent.name])
        client.watch._loaded_at = float("-inf")  # pyright: ignore[reportPrivateUsage]
        assert len((await client.ask("/api/runs")).value) == 2


async def test_news_are_sent_as_events_until_the_server_ends(played: Path) -> None:
    replies: list[Reply] = []
    async with serving(played) as client, anyio.create_task_group() as group:

        async def listen() -> None:
            replies.append(await client.ask("/api/events"))

        group.start_soon(listen)
        while not client.watch._listeners:  # pyright: ignore[reportPrivateUsage]
            await anyio.lowlevel.checkpoint()
        client.watch.news = replace(client.watch.news, version=7)
        client.watch.stop()
    (found,) = replies
    assert found.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in found.body.decode().split("\n\n") if line]
    assert events[0] == {"version": events[0]["version"], "running": {}, "notes": 0}


def a_note(store: Path, **changes: object) -> dict[str, object]:
    """What a page sends about the first words of the first episode of `before`."""
    with Store(store).reading() as reader:
        run = reader.resolve("before").run_id
        lines = answer(reader, f"/api/transcript/{run}/test-00000/0/.0")["lines"]
    place = {"run_id": run, "task_id": "test-00000", "trial": 0, "path": "", "turn": 0}
    line = lines[-1]
    return place | {"seq": line["seq"], "label": "good", "text": "clear", "digest": line["digest"]} | changes


async def send(client: Client, note: object, **headers: str) -> Reply:
    named = {"content_type": "application/json", "origin": "http://127.0.0.1:7788", **headers}
    body = note if isinstance(note, bytes) else json.dumps(note).encode()
    return await client.ask("/api/notes", "POST", body, **named)


async def test_a_note_is_written_shown_and_told(store: Path) -> None:
    given = a_note(store)
    async with serving(store) as client:
        before = client.watch.news
        made = await send(client, given)
        assert made.status == 201
        assert {name: made.value[name] for name in given} == given
        assert (made.value["author"], made.value["stale"]) == ("ann", False)
        assert client.watch.news.notes > before.notes
        assert client.watch.news.version > before.version
        for path in ("/api/notes", "/api/runs/before/notes"):
            assert (await client.ask(path)).value == {"notes": [made.value]}
        assert (await client.ask("/api/runs/after/notes")).value == {"notes": []}
    (row,) = Store(store).query("select author, text, label from notes").rows
    assert row == ("ann", "clear", "good")


async def test_a_note_about_a_conversation_belongs_to_its_last_branch(store: Path) -> None:
    async with serving(store) as client:
        made = await send(client, a_note(store, seq=None, digest="whatever the page has", text="\x1b[31m\u202e"))
        assert (made.status, made.value["seq"], made.value["text"]) == (201, None, "\x1b[31m\u202e")
    with Store(store).loader.writing() as database:
        database.execute('update messages set message = \'{"role": "user", "content": "another"}\'')
    with Store(store).reading() as reader:
        (found,) = answer(reader, "/api/notes")["notes"]
    assert found["stale"]


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"digest": "0" * 16}, 400, "has changed since"),
        ({"seq": 99}, 404, "added no message 99"),
        ({"turn": 99}, 404, "there is no branch"),
        ({"run_id": "x"}, 404, "there is no branch"),
        ({"run_id": "../../etc"}, 404, "there is no branch"),
        ({"label": " ", "text": ""}, 400, "is empty"),
        ({"label": "x" * 101}, 400, "longer than 100"),
        ({"trial": "0"}, 400, "trial of a note"),
        ({"trial": True}, 400, "trial of a note"),
        ({"seq": "1"}, 400, "seq of a note"),
        ({"text": None}, 400, "text of a note"),
        ({"author": "somebody else"}, 400, "no field 'author'"),
        ({"text": "x" * 70_000}, 400, "at most 64 kB"),
    ],
)
async def test_what_is_no_note_is_refused(store: Path, changes: dict[str, object], status: int, reason: str) -> None:
    async with serving(store) as client:
        found = await send(client, a_note(store, **changes))
    assert found.status == status
    assert reason in found.value["error"]
    assert not (store / FILE).exists()


async def test_other_bodies_and_other_senders_are_refused(store: Path) -> None:
    given = a_note(store)
    async with serving(store) as client:
        assert (await send(client, b"{")).status == 400
        assert (await send(client, [given])).status == 400
        assert (await send(client, given, content_type="text/plain")).status == 400
        assert (await send(client, given, origin="http://evil.example")).status == 403
        assert (await send(client, given, sec_fetch_site="cross-site")).status == 403
    assert not (store / FILE).exists()


async def test_notes_that_are_off_say_why(store: Path) -> None:
    async with serving(store, Annotations(False, "the store is read-only", "ann")) as client:
        found = await send(client, a_note(store))
        assert (found.status, found.value["hint"]) == (403, "the store is read-only")
        told = (await client.ask("/api/version")).value["annotations"]
        assert told == {"enabled": False, "reason": "the store is read-only", "author": "ann"}


async def test_news_about_one_run_leave_the_answers_about_others_as_they_are(store: Path) -> None:
    journal, rest = cut(store)
    other = next(each.name for each in journal.parent.parent.iterdir() if each != journal.parent)
    async with serving(store) as client:
        paths = (f"/api/runs/{journal.parent.name}", f"/api/runs/{other}", "/api/runs")
        tags = [(await client.ask(path)).headers["etag"] for path in paths]
        with journal.open("ab") as file:
            file.writelines(rest)
        await client.watch.refresh()
        asked = [await client.ask(path, if_none_match=tag) for path, tag in zip(paths, tags, strict=True)]
        assert [found.status for found in asked] == [200, 304, 200]


async def test_a_long_conversation_is_cut_sooner(store: Path) -> None:
    more = "select * exclude (n) replace (seq + 1000 * n as seq) from messages, range(1, 40) as numbers(n)"
    with Store(store).loader.writing() as database:
        database.execute("update messages set content = repeat('x', 15000)")
        database.execute(f"insert into messages {more}")
    async with serving(store) as client:
        final = (await client.ask("/api/episodes/before/test-00000/0")).value["final"]
        found = (await client.ask(f"/api/transcript/before/test-00000/0/{final}")).value["lines"]
    assert len(found) > 270
    assert {line["cut"] for line in found} >= {15000}
    assert sum(len(line["content"]) for line in found) <= 4_000_000


HOSTILE = (
    "%00",
    "%ff",
    "..%2f..%2fetc%2fpasswd",
    "'%20or%20'1'='1",
    "%F0%9F%98%80",
    "last%0d%0aX:%20y",
    "9" * 400,
    "~",
    ".",
    "",
)


@pytest.mark.parametrize("part", HOSTILE)
async def test_no_address_breaks_the_server(played: Path, part: str) -> None:
    paths = [
        f"/api/{part}",
        f"/api/runs/{part}",
        f"/api/runs/last/{part}",
        f"/api/runs/last/trees?from={part}",
        f"/api/runs/last/search?q={part}&limit={part}",
        f"/api/episodes/last/{part}/{part}",
        f"/api/episodes/last/test-00000/{part}",
        f"/api/transcript/last/test-00000/0/{part}",
        f"/api/message/last/test-00000/0/.0/{part}",
        f"/api/calls/last/test-00000/0/{part}",
        f"/api/compare?a={part}&b=last",
        f"/static/{part}",
        f"/runs/{part}?{part}",
    ]
    async with serving(played) as client:
        for path in paths:
            found = await client.ask(path)
            assert found.status in (200, 400, 404), path
            assert "\n" not in "".join(found.headers.values())
            if found.status != 200:
                assert found.value["error"]


async def test_a_store_that_cannot_be_read_is_told_and_the_last_state_stays(store: Path) -> None:
    async with serving(store) as client, anyio.create_task_group() as group:
        assert (await client.ask("/api/runs")).status == 200
        replica = client.watch._replica  # pyright: ignore[reportPrivateUsage]

        def refresh() -> LoadReport:
            raise StoreError("the disk is full")

        replica.refresh = refresh
        client.watch._loaded_at = float("-inf")  # pyright: ignore[reportPrivateUsage]
        found = await client.ask("/api/runs")
        assert (found.status, found.value["error"]) == (503, "the store cannot be read: the disk is full")
        async with client.watch.listening():
            group.start_soon(client.watch.follow)
            while not client.watch.messages:
                await anyio.lowlevel.checkpoint()
            assert (await client.ask("/api/version")).value["notes"] == ["the disk is full"]
            assert len((await client.ask("/api/runs")).value) == 3
        group.cancel_scope.cancel()
