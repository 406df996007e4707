"""Comparison of the parameters of a tool call with those of a goal.

There are two modes. `lenient` is the correct one: case, apostrophes and padding are ignored, numbers and booleans are
treated as the words people use, and every spelling of "I don't care" means no constraint. The literal mode
(`lenient=False`) reproduces the published ToolWOZ release, so that scores stay comparable with the paper's: only
strings are folded, and a "don't care" counts as empty only in the spellings listed in `NO_WISH`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from simkit.rule_based.normalise import NO_WISH, NO_WISH_FOLDED, fold

_SHORT_TIME = re.compile(r"\d:\d\d")


def clean(parameters: Mapping[str, Any], *, lenient: bool = True) -> dict[str, Any]:
    """The parameters that are constraints, with their values folded for comparison.

    Lists and objects are unchanged; they do not equal any value of a goal.
    """
    if lenient:
        folded = {key: plain(value) for key, value in parameters.items()}
        return {key: value for key, value in folded.items() if value is not None}
    return {
        key: fold(value) if isinstance(value, str) else _comparable(value)
        for key, value in parameters.items()
        if not (isinstance(value, str) and value in NO_WISH)
    }


def plain(value: object) -> Any:
    """One value in lenient mode; None if it is not a constraint. Lists and objects are returned unchanged."""
    match value:
        case None:
            return None
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case str():
            text = " ".join(fold(value).split())
            if text in NO_WISH_FOLDED:
                return None
            return text.zfill(5) if _SHORT_TIME.fullmatch(text) else text
        case _:
            return _comparable(value)


def _comparable(value: object) -> Any:
    """Lists as tuples, so that a list in a call can equal one in a frozen goal."""
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def covers(whole: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Whether every parameter of `part` is in `whole` with an equal value; both must be cleaned."""
    return all(key in whole and whole[key] == value for key, value in part.items())


def compound(value: object) -> bool:
    """Whether a JSON value is a list or an object, which no tool of a travel world takes."""
    return isinstance(value, (list, dict, tuple))


def first_row(value: object) -> Mapping[str, Any] | None:
    """The first entity of a search's answer, or None if the answer is empty."""
    if isinstance(value, (list, tuple)):
        rows = cast("list[object] | tuple[object, ...]", value)
        value = rows[0] if rows else None
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) and value else None


def succeeded(result: object, *, error: bool) -> bool:
    """Whether a call succeeded: its result is not an error and does not report a failure (`success` false)."""
    refused = isinstance(result, Mapping) and cast("Mapping[str, Any]", result).get("success") is False
    return not error and not refused
