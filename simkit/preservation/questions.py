"""Questions of the user's own, in the form MT-Bench made common: JSON lines of an id, a category and turns.

    {"question_id": 81, "category": "writing", "turns": ["Write ...", "Make it shorter."], "reference": ["...", "..."]}

The second turn is asked after the model has answered the first (Zheng et al. 2023, arXiv 2306.05685, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, cast

import orjson

from simkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Question:
    """What a user says, turn by turn.

    Attributes:
        id: its name, the same in every run.
        turns: the user's words; turn 2 is said after turn 1 was answered.
        category: a label for the reader.
        reference: an answer known to be right for each turn ("" where there is none), for the judge; may be empty.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""
    reference: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """16 hex digits that are equal when the turns are."""
        return blake2b(orjson.dumps(self.turns), digest_size=8).hexdigest()


def read_questions(path: Path, limit: int | None = None) -> tuple[Question, ...]:
    """The questions of a file, at most the first `limit`; empty lines mean nothing.

    Raises:
        UsageError: the file cannot be read or holds none, or a line is no question; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the question file {path} cannot be read: {error}; give JSON lines in UTF-8") from error
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    found = [_question(line, f"{path}, line {number}") for number, line in numbered]
    if not found:
        raise UsageError(f'{path} holds no question; a line is {{"question_id": 1, "turns": ["...", "..."]}}')
    ids = [question.id for question in found]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise UsageError(f"{path} has two questions with the id {twice}; give each its own, results are kept by it")
    return tuple(islice(found, limit))


def _question(line: str, where: str) -> Question:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON ({error}); write one question a line") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} is no JSON object; a question has question_id and turns")
    fields = cast("dict[str, Any]", row)
    name = fields.get("question_id")
    if not isinstance(name, (int, str)) or not str(name).strip():
        raise UsageError(f"{where} has no question_id; give a number or a name, the same in every run")
    turns = _texts(fields, "turns", where)
    if not turns:
        raise UsageError(f"{where} has no turns; give what the user says as a list of texts: two for two turns")
    reference = _texts(fields, "reference", where)
    if len(reference) > len(turns):
        raise UsageError(f"{where} has {len(reference)} references for {len(turns)} turns; give one a turn at most")
    given = reference and reference + ("",) * (len(turns) - len(reference))
    return Question(str(name).strip(), turns, str(fields.get("category") or ""), given)


def _texts(fields: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value: object = fields.get(name)
    if value is None:
        return ()
    texts = cast("list[object]", value) if isinstance(value, list) else None
    if texts is None or not all(isinstance(each, str) and (each.strip() or name == "reference") for each in texts):
        raise UsageError(f"{where}: `{name}` is not a list of texts that say something")
    return tuple(cast("list[str]", texts))
