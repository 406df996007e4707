"""What a judge decided, read from what it wrote, and never made up: text without a clear verdict has none.

The last line decides where it is a verdict; otherwise all verdicts in the text must be the same one. The forms are
those of simkit's own prompts (`SCORE: 7`, `VERDICT: A`) and the bracketed ones that MT-Bench's prompts ask for
(`[[7]]`, `[[A]]`, `[[C]]` for a tie), so that a user's own prompts may ask for either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Choice: TypeAlias = Literal["first", "second", "tie"]
"""Which of two answers a judge prefers, in the order in which it was shown them."""

LOWEST, HIGHEST = 1.0, 10.0

_MARKS = r"[ \t*_`\"'(\[{}\])#>]*"
_SCORE = re.compile(
    rf"^(?:- )?{_MARKS}(?:the )?(?:final )?(?:score|rating|grade){_MARKS}[:=]{_MARKS}(?P<plain>[-+]?\d+(?:\.\d+)?)"
    rf"(?:{_MARKS}(?:/|out of) ?10)?{_MARKS}\.?{_MARKS}$|\[\[(?P<brackets>[-+]?\d+(?:\.\d+)?)\]\]",
    re.I | re.M,
)
_CHOICE = re.compile(
    rf"^(?:- )?{_MARKS}(?:the )?(?:final )?(?:verdict|winner|decision){_MARKS}[:=]{_MARKS}(?:answer |assistant )?"
    rf"(?P<plain>A|B|TIE){_MARKS}\.?{_MARKS}$|\[\[(?P<brackets>A|B|C)\]\]",
    re.I | re.M,
)
_CHOICES: dict[str, Choice] = {"A": "first", "B": "second", "TIE": "tie", "C": "tie"}


@dataclass(frozen=True, slots=True)
class Grade:
    """A grade from 1 to 10, or None and why there is none; `text` is what the judge wrote."""

    score: float | None
    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """The answer a judge prefers, or None and why there is none; `text` is what the judge wrote."""

    choice: Choice | None
    text: str = ""
    problem: str = ""


def read_grade(text: str) -> Grade:
    """The grade in what a judge wrote."""
    found = _decided(text, _SCORE)
    if isinstance(found, str):
        return Grade(None, text, found)
    score = float(found[0])
    if not LOWEST <= score <= HIGHEST:
        return Grade(None, text, f"the grade {found[0]} does not lie between {LOWEST:g} and {HIGHEST:g}")
    return Grade(score, text)


def read_preference(text: str) -> Preference:
    """The preference in what a judge wrote."""
    found = _decided(text, _CHOICE)
    if isinstance(found, str):
        return Preference(None, text, found)
    return Preference(_CHOICES[found[0].upper()], text)


def _decided(text: str, verdict: re.Pattern[str]) -> tuple[str] | str:
    """The one verdict of a text, or in words why it has none."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "the judge wrote nothing"
    found = _values(lines[-1], verdict) or _values(text, verdict)
    distinct = {value.upper() for value in found}
    if not distinct:
        return "the judge wrote no verdict"
    if len(distinct) > 1:
        return f"the judge wrote several verdicts: {', '.join(found)}"
    return (found[0],)


def _values(text: str, verdict: re.Pattern[str]) -> Sequence[str]:
    return [match["plain"] or match["brackets"] for match in verdict.finditer(text)]
