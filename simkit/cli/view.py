"""`simkit view`: serves the pages of a store to a browser on this machine."""

from __future__ import annotations

import getpass
import os
import secrets
import signal
import sys
import webbrowser
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio

from simkit.cli.output import flush, say, say_json
from simkit.cli.program import open_store
from simkit.store import Store
from simkit.store.watchers import announced

if TYPE_CHECKING:
    from simkit.viewing.api import Annotations
    from simkit.viewing.guards import Door


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFlags:
    """The flags of the command."""

    run: str | None = None
    episode: str | None = None
    browser: bool = True
    host: str = "127.0.0.1"
    port: int | None = None
    token: str | None = None
    cache: Path | None = None
    author: str | None = None
    json: bool = False
    page: str | None = None  # opened instead of that of `run`, which need not exist yet
    attached: bool = False  # end when standard input does


def view(path: Path | None, flags: ViewFlags) -> None:
    """Serve a store's pages until Ctrl-C.

    Raises:
        UsageError: there is no such store, run or episode, or the address cannot be used.
        StoreError: the store cannot be read.
    """
    from simkit.viewing.guards import Door, is_loopback
    from simkit.viewing.server import Viewer, listen, serve

    store = open_store(path)
    page = _page(store, flags)
    token = flags.token or (None if is_loopback(flags.host) else secrets.token_urlsafe(24))
    with listen(flags.host, flags.port) as place:
        door = Door.at(flags.host, place.getsockname()[1], token)
        url = f"{_address(door)}{page}"
        address = f"{url}?token={quote(token)}" if token else url
        viewer = Viewer(
            store=store.path, readonly=not store.writable(), annotations=annotations_of(store, flags), cache=flags.cache
        )
        ready = partial(_ready, store, address, flags)
        serving = partial(_with_parent, serve) if flags.attached else serve
        try:
            with announced(store.path, _address(door)):
                anyio.run(serving, viewer, door, place, ready)
        except KeyboardInterrupt:  # the server has ended and says why
            say("stopped", err=True)


def annotations_of(store: Store, flags: ViewFlags) -> Annotations:
    """Whether notes can be written, and by whom."""
    from simkit.viewing.api import Annotations

    author = flags.author or _user()
    if not os.access(store.path, os.W_OK):
        return Annotations(False, "the store is read-only", author)
    return Annotations(True, "", author)


def _user() -> str:
    """Name of the user of this process; its number if it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


async def _with_parent(serve: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Serve until standard input ends, since the process that holds its other end has gone."""

    async def follow() -> None:
        while True:
            await anyio.wait_readable(sys.stdin)
            if not os.read(sys.stdin.fileno(), 4096):
                signal.raise_signal(signal.SIGINT)
                return

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await serve(*arguments)
        group.cancel_scope.cancel()


def _page(store: Store, flags: ViewFlags) -> str:
    """Path of the page to open."""
    if flags.page is not None:
        return flags.page
    if flags.run is None:
        return "/"
    with store.reading() as reader:
        run = reader.resolve(flags.run).run_id
        if flags.episode is None:
            return f"/runs/{quote(run, safe='')}"
        found = reader.episode(run, flags.episode)
        return f"/runs/{quote(run, safe='')}/{quote(found.task_id, safe='')}/{found.trial}"


def _address(door: Door) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(door.host, door.host)
    return f"http://{f'[{name}]' if ':' in name else name}:{door.port}"


def _ready(store: Store, address: str, flags: ViewFlags) -> None:
    if flags.json:
        say_json({"url": address, "store": str(store.path)})
    else:
        say(f"viewing {store.path} at {address}  (Ctrl-C ends it)")
    flush()
    if flags.browser and has_browser():
        webbrowser.open(address, new=2)


def has_browser() -> bool:
    """Whether a browser with windows can be opened; one in the terminal would take it from the server."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
