"""A check of the built site: every link leads to a page, a file or a heading of it."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in {"href", "src"}:
                self.links.append(value)
            elif value and name in {"id", "name"}:
                self.anchors.add(value)


def broken_links(site: Path) -> list[str]:
    """Links of the built site that lead nowhere, as `page: link`; addresses outside the site are not asked."""
    pages = {path.resolve(): _read(path) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site.resolve())}: {link}"
        for path, page in pages.items()
        if path.name != "404.html"
        for link in page.links
        if not _leads_somewhere(link, path, pages)
    ]


def outside_addresses(site: Path) -> Iterator[str]:
    """What pages would load from other servers: scripts, styles, pictures."""
    for path in sorted(site.rglob("*.html")):
        parser = _Loads()
        parser.feed(path.read_text("utf-8"))
        yield from (f"{path.relative_to(site)}: {each}" for each in parser.loaded)


class _Loads(HTMLParser):
    """Addresses of other servers that a page loads when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = (
            given.get("src") if tag in {"script", "img", "iframe"} else given.get("href") if tag == "link" else None
        )
        if address and urlsplit(address).netloc and given.get("rel") not in {"canonical", "edit"}:
            self.loaded.append(address)


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text("utf-8"))
    return page


def _leads_somewhere(link: str, path: Path, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if target not in pages:
        return target.is_file()
    anchor = unquote(parts.fragment)
    return not anchor or anchor.startswith("__") or anchor in pages[target].anchors
