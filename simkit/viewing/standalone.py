"""The viewer's pages as one HTML file: modules as `data:` URLs, styles and data inside, and nothing to fetch."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from operator import itemgetter
from posixpath import dirname, join, normpath

import orjson

from simkit.viewing.pages import PageFile

_IMPORT = re.compile(r"""(\bfrom\s*|\bimport\s*\(?\s*)(["'])(\.{1,2}/[^"'\n]+)\2""")
_PREFIX = "simkit/"
_START = (
    "const map = JSON.parse(document.querySelector('script[type=importmap]').textContent);"
    "const start = document.createElement('script');"
    f"start.type = 'module'; start.src = map.imports['{_PREFIX}app.js']; document.body.append(start);"
)
"""'strict-dynamic' refuses the imports of a script in the page, and trusts those of one that such a script made."""


def standalone(files: Mapping[str, PageFile], data: bytes, *, title: str, fetches: bool = False) -> str:
    """The whole page.

    Args:
        files: the viewer's files by name.
        data: the exported answers as JSON.
        title: of the document.
        fetches: whether it may ask for files beside it.
    """
    modules = {name: file.body.decode() for name, file in files.items() if name.endswith(".js")}
    styles = "\n".join(file.body.decode() for _, file in sorted(_styles(files), key=itemgetter(0)))
    imports = orjson.dumps(
        {"imports": {_PREFIX + name: _as_url(name, text) for name, text in modules.items()}}
    ).decode()
    policy = (
        f"default-src 'none'; script-src 'strict-dynamic' {_hash(imports)} {_hash(_START)}; style-src {_hash(styles)}; "
        f"style-src-attr 'unsafe-inline'; img-src data:; connect-src '{'self' if fetches else 'none'}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">',
            f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">',
            f"<style>{styles}</style>",
            f'<script type="application/json" id="simkit-data">{inline_json(data)}</script>',
            f'<script type="importmap">{imports}</script>',
            f'</head>\n<body>\n<div id="app"></div>\n<script>{_START}</script>',
            "<noscript>This file draws its pages with JavaScript. Allow scripts for it.</noscript>\n</body>\n</html>\n",
        )
    )


def inline_json(data: bytes) -> str:
    """JSON that can stand in a script element: `<` is written as an escape, so that no text ends the element."""
    return data.decode().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _styles(files: Mapping[str, PageFile]) -> Iterator[tuple[tuple[int, str], PageFile]]:
    """The style sheets, in the order in which the page names them."""
    page = files["index.html"].body.decode()
    for name, file in files.items():
        if name.endswith(".css"):
            yield (page.find(f"/static/{name}"), name), file


def _as_url(name: str, text: str) -> str:
    """A module as a URL; it imports others by their names in the import map, as such a URL has no neighbours."""

    def named(found: re.Match[str]) -> str:
        begin, quote, path = found.groups()
        return f"{begin}{quote}{_PREFIX}{normpath(join(dirname(name), path))}{quote}"

    return f"data:text/javascript;base64,{b64encode(_IMPORT.sub(named, text).encode()).decode()}"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
