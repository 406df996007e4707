"""What a model answered to the questions: asked now, or kept by an earlier run and judged again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import orjson

from simkit.core.ids import TurnKey
from simkit.core.messages import Message, UserMessage, text_of, without_reasoning
from simkit.errors import ModelFault, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest
from simkit.preservation.questions import Question

if TYPE_CHECKING:
    from simkit.run.run import Run
    from simkit.store import Store


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to one question, a text a turn; `problem` says why there are not as many as there are turns."""

    question: str
    trial: int
    texts: tuple[str, ...]
    problem: str = ""

    @property
    def words(self) -> int:
        """Words of all answers together."""
        return sum(len(text.split()) for text in self.texts)

    def to_json(self, question: Question) -> dict[str, Any]:
        """What the store keeps of them: enough to judge them again."""
        kept: dict[str, Any] = {"turns": list(question.turns), "answers": list(self.texts), "digest": question.digest}
        return kept | {"category": question.category, "problem": self.problem}


async def ask(model: ChatModel, question: Question, trial: int, *, seed: int, role: str = "agent") -> Answers:
    """A model's answers to one question, turn after turn; a call that fails for good ends them."""
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


async def kept_answers(
    run: Run, name: str, suite: str, questions: Sequence[Question], *, allow_incomplete: bool = False
) -> dict[str, list[Answers]]:
    """The answers to these questions that a run of the same store has kept, by question.

    Raises:
        UsageError: there is no such run, it has no answers of this suite, or the questions have changed since.
        StoreIncomplete: the run's journals hold lines that could not be read.
    """
    import anyio.to_thread

    await run.commit()
    read = partial(_kept_rows, run.store, name, suite, allow_incomplete=allow_incomplete)
    source, rows = await anyio.to_thread.run_sync(read)
    kept: dict[str, list[Answers]] = {}
    wanted = {question.id: question for question in questions}
    for item, trial, detail in rows:
        if item in wanted:
            kept.setdefault(item, []).append(_restored(wanted[item], trial, orjson.loads(detail), source))
    if missing := [question.id for question in questions if question.id not in kept]:
        raise UsageError(
            f"{source} has no answers to {len(missing)} of {len(questions)} questions of `{suite}` (the first "
            f"is {missing[0]}); let it answer them first, or name another run (`from item_scores` lists them)"
        )
    return kept


def _kept_rows(store: Store, name: str, suite: str, *, allow_incomplete: bool) -> tuple[str, list[tuple[Any, ...]]]:
    """The id of a run, and the rows of its answers."""
    with store.reading(allow_incomplete=allow_incomplete) as reader:
        source = reader.resolve(name).run_id
        reader.require_complete([source], "judging answers that were kept")
        return source, reader.query(_KEPT, [source, suite]).rows


_KEPT = """
select item, trial, detail from item_scores where run_id = ? and suite = ? and metric = 'answered' order by item, trial
"""


def _restored(question: Question, trial: int, detail: Mapping[str, Any], run_id: str) -> Answers:
    if detail["digest"] != question.digest:
        raise UsageError(
            f"the question {question.id} reads otherwise now than when {run_id} answered it; give changed questions "
            "new ids, or have them answered again"
        )
    return Answers(question.id, trial, tuple(cast("list[str]", detail["answers"])), str(detail["problem"]))
