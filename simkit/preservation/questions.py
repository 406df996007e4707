"""Questions of a question file, and the answers of a model to them.

A question file has the form of MT-Bench: JSON lines with an id, a category and turns.

    {"question_id": 81, "category": "writing", "turns": ["Write ...", "Make it shorter."], "reference": ["...", "..."]}

The second turn is asked after the model has answered the first (Zheng et al. 2023, arXiv 2306.05685, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from simkit.core.ids import TurnKey
from simkit.core.messages import Message, UserMessage, text_of
from simkit.core.reasoning import without_reasoning
from simkit.errors import ModelFault, UsageError, reason
from simkit.models.base import CallKey, ChatModel, ChatRequest

if TYPE_CHECKING:
    from simkit.run.run import Run
    from simkit.store import Store


@dataclass(frozen=True, slots=True)
class Question:
    """The messages of a user, turn by turn.

    Attributes:
        id: name of the question, the same in every run.
        turns: the user's messages; each is sent after the one before it was answered.
        category: label for the reader.
        reference: correct answer for each turn, for the judge; "" for a turn without one. May be empty.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""
    reference: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the turns: 16 hex digits."""
        return blake2b(orjson.dumps(self.turns), digest_size=8).hexdigest()


def read_questions(path: Path, limit: int | None = None) -> tuple[Question, ...]:
    """Read the questions of a file, at most the first `limit`; empty lines are ignored.

    Raises:
        UsageError: the file cannot be read, holds no question, or has an invalid line, which the message names.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the question file {path} cannot be read: {reason(error)}; give JSON lines in UTF-8"
        ) from error
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    found = [_question(line, f"{path}, line {number}") for number, line in numbered]
    if not found:
        raise UsageError(f'{path} holds no question; a line is {{"question_id": 1, "turns": ["...", "..."]}}')
    ids = [question.id for question in found]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise UsageError(
            f"{path} has two questions with the id {twice}; give each its own id, because results are stored by id"
        )
    return tuple(islice(found, limit))


def _question(line: str, where: str) -> Question:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON ({error}); write one question per line") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} is not a JSON object; a question has question_id and turns")
    fields = cast("dict[str, Any]", row)
    name = fields.get("question_id")
    if not isinstance(name, (int, str)) or not str(name).strip():
        raise UsageError(f"{where} has no question_id; give a number or a name, the same in every run")
    turns = _texts(fields, "turns", where)
    if not turns:
        raise UsageError(f"{where} has no turns; give the user's messages as a list of texts, one per turn")
    reference = _texts(fields, "reference", where)
    if len(reference) > len(turns):
        raise UsageError(f"{where} has {len(reference)} references for {len(turns)} turns; give at most one per turn")
    given = reference and reference + ("",) * (len(turns) - len(reference))
    return Question(str(name).strip(), turns, str(fields.get("category") or ""), given)


def _texts(fields: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value: object = fields.get(name)
    if value is None:
        return ()
    texts = cast("list[object]", value) if isinstance(value, list) else None
    if texts is None or not all(isinstance(each, str) and (each.strip() or name == "reference") for each in texts):
        raise UsageError(f"{where}: `{name}` is not a list of non-empty texts")
    return tuple(cast("list[str]", texts))


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to one question, one text per turn; `problem` says why answers are missing."""

    question: str
    trial: int
    texts: tuple[str, ...]
    problem: str = ""

    @property
    def words(self) -> int:
        """Number of words in all answers."""
        return sum(len(text.split()) for text in self.texts)

    def to_json(self, question: Question) -> dict[str, Any]:
        """The answers as they are stored, with all that is needed to judge them again."""
        kept: dict[str, Any] = {"turns": list(question.turns), "answers": list(self.texts), "digest": question.digest}
        return kept | {"category": question.category, "problem": self.problem}


async def ask(model: ChatModel, question: Question, trial: int, *, seed: int, role: str = "agent") -> Answers:
    """Ask a model one question, turn by turn; a call that fails permanently ends the conversation."""
    messages: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()
    for number, said in enumerate(question.turns, 1):
        key = CallKey(TurnKey(seed, question.id, trial, "", number), role)
        messages = (*messages, UserMessage.of(said))
        try:
            response = await model.complete(ChatRequest(messages=messages, seed=key.seed), key)
        except ModelFault as fault:
            return Answers(question.id, trial, texts, f"turn {number} was not answered: {fault}")
        messages = (*messages, response.message)
        texts = (*texts, without_reasoning(text_of(response.message)).strip())
    return Answers(question.id, trial, texts)


async def stored_answers(
    run: Run, name: str, suite: str, questions: Sequence[Question], *, allow_incomplete: bool = False
) -> dict[str, list[Answers]]:
    """Answers to these questions that a run of the same store has recorded, by question.

    Raises:
        UsageError: there is no such run, it has no answers of this suite, or the questions have changed since.
        StoreIncomplete: the run's journals hold lines that could not be read.
    """
    import anyio.to_thread

    await run.commit()
    read = partial(_stored_rows, run.store, name, suite, allow_incomplete=allow_incomplete)
    source, rows = await anyio.to_thread.run_sync(read)
    kept: dict[str, list[Answers]] = {}
    wanted = {question.id: question for question in questions}
    for item, trial, detail in rows:
        if item in wanted:
            kept.setdefault(item, []).append(_read_answers(wanted[item], trial, orjson.loads(detail), source))
    if missing := [question.id for question in questions if question.id not in kept]:
        raise UsageError(
            f"{source} has no answers to {len(missing)} of {len(questions)} questions of `{suite}` (the first "
            f"is {missing[0]}); let it answer them first, or name another run (item_scores lists them)"
        )
    return kept


def _stored_rows(store: Store, name: str, suite: str, *, allow_incomplete: bool) -> tuple[str, list[tuple[Any, ...]]]:
    """The id of a run and the rows of its answers."""
    with store.reading(allow_incomplete=allow_incomplete) as reader:
        source = reader.resolve(name).run_id
        reader.require_complete([source], "judging stored answers")
        return source, reader.query(_STORED, [source, suite]).rows


_STORED = """
select item, trial, detail from item_scores where run_id = ? and suite = ? and metric = 'answered' order by item, trial
"""


def _read_answers(question: Question, trial: int, detail: Mapping[str, Any], run_id: str) -> Answers:
    if detail["digest"] != question.digest:
        raise UsageError(
            f"the question {question.id} has changed since {run_id} answered it; give changed questions new ids, or "
            "have them answered again"
        )
    return Answers(question.id, trial, tuple(cast("list[str]", detail["answers"])), str(detail["problem"]))
