"""Which values of a call nobody has said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from simkit.rule_based.normalise import NUMBERS, words_of


def unsaid(
    arguments: Mapping[str, Any], known: Iterable[str], implied: Iterable[Any], properties: Mapping[str, Any]
) -> tuple[str, ...]:
    """The values of a call's arguments that an agent cannot know, each as `argument=value`.

    Known are words that were said or returned (`known`), values that are said to be implied, the default of an argument
    and, of an argument with listed values, all of them.

    Args:
        arguments: the arguments of the call.
        known: what the user has said, and what tools have returned.
        implied: values that need not be said.
        properties: the schemas of the tool's arguments.
    """
    said = [_said(text) for text in known]
    free = {_said(str(value)) for value in implied}
    return tuple(
        f"{name}={value}"
        for name, given in arguments.items()
        if not _chosen(given, properties.get(name, {}))
        for value in _leaves(given)
        if _said(str(value)) not in free and not any(_mentions(text, _said(str(value))) for text in said)
    )


def _said(text: str) -> str:
    """The words of a text between blanks, numbers in digits."""
    spaced = re.sub(r"[_/#-]+", " ", text)
    words = (str(NUMBERS.index(word)) if word in NUMBERS else word for word in words_of(spaced))
    return f" {' '.join(words)} "


def _mentions(text: str, value: str) -> bool:
    """Whether a text has the words of a value; the last one may go on (`kettles`)."""
    last = value.split()[-1:]
    return value in text or (bool(last) and last[0].isalpha() and len(last[0]) > 3 and value.rstrip() in text)


def _chosen(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether the tool's schema itself names a value, or there are only two of its kind."""
    return isinstance(value, bool) or value is None or value in schema.get("enum", ()) or value == schema.get("default")


def _leaves(value: object) -> Iterator[object]:
    match value:
        case Mapping():
            for each in cast("Mapping[str, object]", value).values():
                yield from _leaves(each)
        case list() | tuple():
            for each in cast("Sequence[object]", value):
                yield from _leaves(each)
        case None | bool():
            return
        case _:
            yield value
