"""Parser of the text protocol for agents without tool calling: PLAN, APICALL and SPEAK, each ended by `<COMMAND_END>`.

    PLAN I know the area, so I can search. <COMMAND_END>
    APICALL {"name": "search_hotel", "parameters": {"area": "north"}} <COMMAND_END>
    SPEAK I found one. <COMMAND_END>

A command word opens a command at the start of a line or after the end of another command; inside text it is an ordinary
word. The parser tolerates common mistakes of models: text around the commands, a missing `<COMMAND_END>`, markdown
around words and JSON, line breaks anywhere, and a call in the middle of a plan. Text after a line with `APIRETURN` was
invented by the model and is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from simkit.core.reasoning import without_reasoning

END = "<COMMAND_END>"

Word: TypeAlias = Literal["PLAN", "APICALL", "SPEAK", "APIRETURN"]

_MARK = re.compile(
    r"(?P<end><[ \t]*COMMAND_END[ \t]*>)"
    r"|(?P<margin>^[ \t>*#_`-]*)?(?<![A-Za-z0-9_])(?P<word>PLAN|APICALL|SPEAK|APIRETURN)(?![A-Za-z0-9_])[*_`]*:?",
    re.MULTILINE,
)
_BETWEEN = re.compile(r"[\s>*#_`-]*")
_OPENING = re.compile(r"\s*(?:```\w*\s*)?")
_FENCED = re.compile(r"\s*```[^\n`]*\n(.*?)\s*```\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlanCommand:
    """The agent's reasoning, which stays private. `whole` is False if the text ended before the command did."""

    text: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class CallCommand:
    """A tool call; `parameters` is JSON, normally an object."""

    name: str
    parameters: Any


@dataclass(frozen=True, slots=True)
class SpeakCommand:
    """Text that is said to the user."""

    text: str
    whole: bool = True


Command: TypeAlias = PlanCommand | CallCommand | SpeakCommand


@dataclass(frozen=True, slots=True)
class CommandError:
    """Reason why a reply cannot be parsed, worded for the model that wrote it."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Mark:
    """An end mark or a command word; `opens` is True where a command can begin."""

    start: int
    stop: int
    word: Word | None
    opens: bool


def parse(text: str) -> tuple[Command, ...] | CommandError:
    """Parse a reply into its commands, at least one; otherwise returns the reason for the model."""
    return _Scanner(_bare(text)).commands()


def render(commands: Sequence[Command]) -> str:
    """Write commands in the protocol's form."""
    return "\n".join(f"{_rendered(command)} {END}" for command in commands)


def _rendered(command: Command) -> str:
    match command:
        case PlanCommand(text):
            return f"PLAN {text}"
        case SpeakCommand(text):
            return f"SPEAK {text}"
        case CallCommand(name, parameters):
            return f"APICALL {json.dumps({'name': name, 'parameters': parameters}, ensure_ascii=False)}"


def _bare(text: str) -> str:
    """The text without a leading block of reasoning and without a fence around all of it."""
    text = without_reasoning(text)
    fenced = _FENCED.fullmatch(text)
    return fenced[1] if fenced and "```" not in fenced[1] else text


class _Scanner:
    """Walks over the marks of a text; `_tried` caches each parsed call by the position of its JSON."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._marks = _marks(text)
        self._last_end = max((mark.start for mark in self._marks if mark.word is None), default=-1)
        self._tried: dict[int, tuple[CallCommand, int] | CommandError] = {}

    def commands(self) -> tuple[Command, ...] | CommandError:
        found: list[Command] = []
        at = 0
        while at < len(self._marks):
            mark = self._marks[at]
            if mark.word is None or not self._begins(mark):
                at += 1
                continue
            if mark.word == "APIRETURN":
                break
            if mark.word == "APICALL":
                made = self._call(mark)
                if isinstance(made, CommandError):
                    return made
                found.append(made[0])
                at = self._next(at, made[1])
                continue
            at, command = self._words(at, mark)
            found.extend(command)
        return tuple(found) or CommandError(f"it holds no command; write PLAN, APICALL or SPEAK, and {END} behind each")

    def _begins(self, mark: _Mark) -> bool:
        return mark.opens or self._calls(mark)

    def _calls(self, mark: _Mark) -> bool:
        """Whether a call can be read here, anywhere in a line."""
        return mark.word == "APICALL" and not isinstance(self._call(mark), CommandError)

    def _words(self, at: int, mark: _Mark) -> tuple[int, tuple[Command, ...]]:
        """Read a plan or a speech; returns the next mark, and the command unless it is empty."""
        stops = self._stops_plan if mark.word == "PLAN" else self._stops_speech
        until = next((i for i in range(at + 1, len(self._marks)) if stops(self._marks[i])), len(self._marks))
        end = self._marks[until].start if until < len(self._marks) else len(self._text)
        text = self._text[mark.stop : end].strip()
        whole = until < len(self._marks)
        made = PlanCommand(text, whole) if mark.word == "PLAN" else SpeakCommand(text, whole)
        return until, (made,) if text else ()

    def _stops_plan(self, mark: _Mark) -> bool:
        return mark.word is None or self._begins(mark)

    def _stops_speech(self, mark: _Mark) -> bool:
        """Whether a mark ends a speech: an end, a call or an invented return; other words only if no end follows."""
        if mark.word is None or not mark.opens:
            return mark.word is None
        return mark.word == "APIRETURN" or self._calls(mark) or mark.start > self._last_end

    def _next(self, at: int, position: int) -> int:
        """The first mark after a position, so that marks inside JSON are skipped."""
        return next((i for i in range(at + 1, len(self._marks)) if self._marks[i].start >= position), len(self._marks))

    def _call(self, mark: _Mark) -> tuple[CallCommand, int] | CommandError:
        if mark.stop not in self._tried:
            self._tried[mark.stop] = _read_call(self._text, mark.stop)
        return self._tried[mark.stop]


def _marks(text: str) -> tuple[_Mark, ...]:
    found: list[_Mark] = []
    free = 0
    for match in _MARK.finditer(text):
        word = cast("Word | None", match["word"])
        opens = word is not None and (match["margin"] is not None or _only_markup(text, free, match.start()))
        start = match.start() if match["margin"] is not None or word is None else match.start("word")
        found.append(_Mark(start, match.end(), word, opens))
        free = match.end() if word is None else -1
    return tuple(found)


def _only_markup(text: str, start: int, stop: int) -> bool:
    """Whether only spaces and markdown are between the last end and here."""
    return start >= 0 and _BETWEEN.fullmatch(text, start, stop) is not None


def _read_call(text: str, at: int) -> tuple[CallCommand, int] | CommandError:
    opening = _OPENING.match(text, at)
    start = opening.end() if opening else at
    try:
        value, end = _DECODER.raw_decode(text, start)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        near = text[error.pos : error.pos + 20]
        return CommandError(f"the APICALL is not JSON ({error.msg}, at `{near}`); {_FORM}")
    except (ValueError, RecursionError) as error:
        return CommandError(f"the APICALL holds JSON that cannot be used ({error}); {_FORM}")
    return _as_call(value, end)


def _as_call(value: Any, end: int) -> tuple[CallCommand, int] | CommandError:
    made = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    name = made.get("name")
    if not isinstance(name, str) or not name:
        return CommandError(f"the APICALL does not name a tool; {_FORM}")
    return CallCommand(name, made.get("parameters", made.get("arguments", {}))), end


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_constant)
_FORM = 'write APICALL {"name": "the tool", "parameters": {"a parameter": "its value"}} ' + END
