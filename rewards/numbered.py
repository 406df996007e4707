"""Conversations as numbered lines for judges, and the search for what they quote."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, text_of

Speaker: TypeAlias = Literal["user", "agent", "tool"]

LONGEST = 2000
"""Characters of a line that a judge is shown; the rest is left out, and said to be."""

SHORTEST = 5
"""Bytes of a quote that is not a whole line."""

_ENDS = " .,;:!?\"'“”‘’…`*"

MARK = "    "
"""Beginning of continued lines, so that no text can look like the beginning of the next line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a numbered conversation: an utterance, a call or a result, with its number from 1."""

    number: int
    speaker: Speaker
    label: str
    text: str

    def __str__(self) -> str:
        cut = f"... ({len(self.text) - LONGEST} more characters)" if len(self.text) > LONGEST else ""
        said = f"\n{MARK}".join(f"{self.text[:LONGEST]}{cut}".splitlines())
        return f"[{self.number}] {self.label}: {said}"


def numbered(conversation: Iterable[Entry]) -> tuple[Line, ...]:
    """What both parties said and did, in order; the agent's plans and the system prompt are left out."""
    said = (each for entry in conversation for each in _said(entry))
    return tuple(Line(number, *each) for number, each in enumerate(said, 1))


def as_text(lines: Iterable[Line]) -> str:
    """The lines as a judge reads them."""
    return "\n".join(map(str, lines))


def quoted(lines: Iterable[Line], quote: str) -> Line | None:
    """The line that a judge quotes: the first that contains the words of the quote; None for an invented one.

    Case, white space and punctuation at the ends do not count, and neither does a label that was quoted with the words.
    A quote of less than a line has at least `SHORTEST` bytes without its label: shorter ones are in any conversation.
    """
    wanted = _plain(re.sub(r"^\s*\[\d+\]\s*", "", quote))
    return next((line for line in lines if wanted and _shows(line, wanted)), None)


def _shows(line: Line, wanted: str) -> bool:
    side, calls, name = _plain(line.label).partition(" calls ")
    text = f"{name}: {_plain(line.text)}" if calls else _plain(line.text)
    said = wanted.removeprefix(f"{side}{calls}" if calls else f"{side}: ")
    return said == text or (len(said.encode()) >= SHORTEST and said in text)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_ENDS)


def _said(entry: Entry) -> Iterator[tuple[Speaker, str, str]]:
    message = entry.message
    if isinstance(message, AssistantMessage) and message.tool_calls:
        side: Speaker = "user" if entry.author == "user_tool" else "agent"
        for call in message.tool_calls:
            yield side, f"{side} calls {call.function.name}", call.function.arguments
    elif entry.heard is not None:
        side = "user" if entry.author == "user" else "agent"
        yield side, side, entry.heard
    elif entry.author in ("tool", "user_tool"):
        yield "tool", "result", text_of(message)
