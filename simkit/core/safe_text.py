"""Conversion of text from models, users, tools and servers to a form that is safe to display.

A terminal interprets what it displays: an escape sequence sets the clipboard or clears the screen, a carriage return
overwrites text, a bidirectional override reverses words, an invisible character hides a difference. Each of these
characters is replaced by its Python escape (`\\x1b`, `\\u202e`), which is visible.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Any, cast

_INVISIBLE = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, C0 and C1
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, fillers, the Arabic letter mark
    r"\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators of lines, all that turns text round
    r"\u3164\ufeff\uffa0\ufff0-\uffff"  # fillers, the byte order mark, annotations, no characters
    r"\ud800-\udfff"  # halves of characters, which no terminal can be sent
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # layout, shorthand, musical beams
    r"\U000e0000-\U000e0fff"  # tags, and more variant selectors
)
_JOINERS = r"\u200c\u200d"
_VARIANTS = r"\ufe00-\ufe0f"

_SUSPECT = re.compile(f"[{_INVISIBLE}{_JOINERS}{_VARIANTS}]")
"""A single character class, so that clean text costs only one search."""

_UNSAFE = re.compile(
    f"[{_INVISIBLE}]"
    # Joiners make emojis and are letters of some scripts: they stay between two characters that are not ASCII.
    rf"|(?<![^\x00-\xa0{_JOINERS}])[{_JOINERS}]|[{_JOINERS}](?![^\x00-\xa0{_JOINERS}])"
    # One variant selector belongs to the character before it; more of them are a hidden text.
    rf"|(?<=[\x00-\x22\x24-\x29\x2b-\x2f\x3a-\xa0{_VARIANTS}])[{_VARIANTS}]|(?<![\s\S])[{_VARIANTS}]"
)
_BREAKS = re.compile(r"[\n\t]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """The text with escapes for all characters that control a terminal or are invisible; line breaks and tabs stay."""
    return text if _SUSPECT.search(text) is None else _UNSAFE.sub(_escape, text)


def visible_line(text: str) -> str:
    """Like `visible`, on one line: line breaks and tabs are escaped too, so that text cannot imitate several lines."""
    return _BREAKS.sub(_escape, visible(text))


def visible_block(text: str, indent: int) -> str:
    """Like `visible`, with every line after the first indented, so that none can pass for the next speaker's."""
    return visible(text).replace("\n", "\n" + " " * indent)


def visible_json(text: str) -> str:
    """JSON text in which the same characters are written as JSON escapes; the values do not change."""
    return text if _SUSPECT.search(text) is None else _SUSPECT.sub(_json_escape, text)


def json_text(value: Any, plain: Callable[[Any], Any] | None = None) -> str:
    """A value as visible JSON, in which numbers that JSON does not have are texts: `"NaN"`, `"Infinity"`.

    Args:
        plain: turns a value of another type into one that JSON has.
    """
    try:
        return visible_json(json.dumps(value, default=plain, ensure_ascii=False, allow_nan=False))
    except ValueError:
        pass
    named = json.dumps(
        _with_names(value),
        default=plain and (lambda each: _with_names(plain(each))),
        ensure_ascii=False,
        allow_nan=False,
    )
    return visible_json(named)


def _with_names(value: Any) -> Any:
    match value:
        case float() if not isfinite(value):
            return json.dumps(value)
        case dict():
            return {name: _with_names(each) for name, each in cast("dict[Any, Any]", value).items()}
        case list() | tuple():
            return [_with_names(each) for each in cast("list[Any]", value)]
        case _:
            return value


def _escape(found: re.Match[str]) -> str:
    sign = found[0]
    number = ord(sign)
    if sign in _NAMED:
        return _NAMED[sign]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2))
