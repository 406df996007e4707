"""The files of the viewer's pages: a fixed list from the package, so that no path of a request reaches the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the pages: its contents, media type, and a digest of its contents."""

    body: bytes
    media_type: str
    digest: str


def page_files() -> dict[str, PageFile]:
    """All files of the pages by name, such as `app.js` and `vendor/preact.js`."""
    return {name: _read(place) for name, place in _listed(files("simkit.viewing") / "static", "")}


def _listed(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    if not folder.is_dir():
        return
    for place in folder.iterdir():
        if place.is_dir():
            yield from _listed(place, f"{prefix}{place.name}/")
        elif _ending(place.name) in TYPES:
            yield f"{prefix}{place.name}", place


def _read(place: Traversable) -> PageFile:
    body = place.read_bytes()
    return PageFile(body, TYPES[_ending(place.name)], blake2b(body, digest_size=8).hexdigest())


def _ending(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""
