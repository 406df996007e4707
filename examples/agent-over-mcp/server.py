"""An MCP server of a small library. What is reserved stands in a file of the folder in which the server runs."""

from __future__ import annotations

import json
from pathlib import Path

from mcp.server.mcpserver import MCPServer

BOOKS = {
    "The Dispossessed": "Ursula Le Guin",
    "The Left Hand of Darkness": "Ursula Le Guin",
    "Beloved": "Toni Morrison",
    "Sula": "Toni Morrison",
    "Solaris": "Stanislaw Lem",
    "The Cyberiad": "Stanislaw Lem",
}
FILE = Path("reserved.json")

server = MCPServer("library")


def reserved() -> dict[str, str]:
    """The reader of each reserved book."""
    return dict(json.loads(FILE.read_text())) if FILE.exists() else {}


@server.tool()
def find_books(author: str) -> list[str]:
    """Find the books of an author that are not reserved."""
    return [title for title, by in BOOKS.items() if by == author and title not in reserved()]


@server.tool()
def reserve_book(title: str, reader: str) -> dict[str, str | bool]:
    """Reserve a book for a reader."""
    if title not in BOOKS or title in reserved():
        return {"success": False, "reason": f"{title} cannot be reserved"}
    FILE.write_text(json.dumps({**reserved(), title: reader}))
    return {"success": True, "title": title}


if __name__ == "__main__":
    server.run()
