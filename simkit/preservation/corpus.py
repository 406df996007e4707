"""A held-out corpus: the documents whose probability is measured before and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import orjson

from simkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Document:
    """A text under a name that stays the same while the text does."""

    id: str
    text: str

    @classmethod
    def of(cls, text: str, name: object = None) -> Document:
        """A document; without a name it is called after its content."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return cls(digest if name is None else str(name), text)

    @property
    def bytes(self) -> int:
        """Its length in UTF-8, which is the same for every tokenizer."""
        return len(self.text.encode("utf-8", "surrogatepass"))


def read_corpus(path: Path, limit: int | None = None) -> tuple[Document, ...]:
    """The documents of a corpus, each text once, at most the first `limit`.

    `.jsonl`: a document a line, as `{"text": "..."}` with an `id` if you like. Another file: documents are parted by
    empty lines. A folder: each of its `.txt` files is a document.

    Raises:
        UsageError: it cannot be read, a line has no text, two texts share an id, or there is nothing in it.
    """
    try:
        if path.is_dir():
            found = [Document.of(each.read_text(encoding="utf-8"), each.name) for each in sorted(path.glob("*.txt"))]
        elif path.suffix == ".jsonl":
            found = list(_lines(path))
        else:
            found = [Document.of(text) for text in _paragraphs(path.read_text(encoding="utf-8").splitlines())]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the corpus {path} cannot be read: {error}; give a text file, JSON lines or a folder") from (
            error
        )
    documents = _distinct([each for each in found if each.text.strip()], path)
    if not documents:
        raise UsageError(f"the corpus {path} holds no text; give documents parted by empty lines, or JSON lines")
    return tuple(documents[:limit])


def _lines(path: Path) -> Iterator[Document]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number} is not JSON ({error}); write one document a line") from error
        fields = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
        text: object = fields.get("text")
        if not isinstance(text, str):
            raise UsageError(f'{path}, line {number} has no text; write {{"text": "..."}}')
        yield Document.of(text, fields.get("id"))


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    gathered: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            gathered.append(line)
        elif gathered:
            yield "\n".join(gathered)
            gathered = []


def _distinct(documents: list[Document], path: Path) -> list[Document]:
    known: dict[str, Document] = {}
    for document in documents:
        if known.setdefault(document.id, document) != document:
            raise UsageError(f"{path} has two texts with the id {document.id}; give each its own, or none")
    return list(known.values())
