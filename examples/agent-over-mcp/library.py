"""A world whose tools are those of the MCP server beside it, and its readers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from simkit import Goal, Ontology, Speak, Task, ToolServer, User, UserTurn, World
from simkit.tools.mcp import McpTools

SERVER = Path(__file__).with_name("server.py")
WISHES = (
    ("Ursula Le Guin", "The Dispossessed"),
    ("Ursula Le Guin", "The Left Hand of Darkness"),
    ("Toni Morrison", "Sula"),
    ("Stanislaw Lem", "Solaris"),
)
READERS = {"train": ("Ada", "Grace"), "test": ("Edith", "Mary")}


class Library(World):
    """Readers who want one book each."""

    name = "library"
    splits = ("train", "test")

    def tasks(self, split: str) -> Sequence[Task]:
        """One task for each wish of each reader."""
        readers = READERS[self.check_split(split)]
        return [self._task(split, reader, author, title) for reader in readers for author, title in WISHES]

    def _task(self, split: str, reader: str, author: str, title: str) -> Task:
        wanted = {"tool": "reserve_book", "parameters": {"title": title, "reader": reader}, "booking": True}
        return Task(
            id=f"{reader}-{title}".lower().replace(" ", "-"),
            world=self.name,
            split=split,
            instructions=f"You are {reader}. Ask for books by {author}, and reserve {title}.",
            goals=(Goal("reserve", wanted),),
            data={"reader": reader, "author": author, "title": title},
        )

    @property
    def ontology(self) -> Ontology:
        """No domains: nobody here plays by rules about them."""
        return Ontology(())

    def tools(self) -> ToolServer:
        """The tools of the server; each branch has a folder of its own for what is reserved."""
        command = shlex.join([sys.executable, str(SERVER)])
        return McpTools(command, cwd="{state}", policy="You are a librarian. Reserve what the reader asks for.")


class Reader(User):
    """A reader who asks for an author, names a book, and leaves."""

    name = "reader"

    async def speak(self, request: Speak) -> UserTurn:
        """The next words of the reader."""
        wish = request.task.data
        lines = (
            f"Hello, do you have books by {wish['author']}?",
            f"I take {wish['title']}. My name is {wish['reader']}.",
            "Thank you, goodbye.",
        )
        turn = min(request.state or 0, len(lines) - 1)
        return UserTurn(lines[turn], end=turn == len(lines) - 1, state=turn + 1)
