"""The judged evaluation: every question answered and graded, and compared with somebody else's answers.

Three suites come of it, named after the question file: `NAME/answers`, `NAME/grades` and `NAME/pairs`; an item is a
question, a trial one sample of its answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio

from simkit.core.cancellation import unasked
from simkit.models.base import ChatModel
from simkit.preservation.agreement import Pair
from simkit.preservation.answers import Answers, ask
from simkit.preservation.findings import Findings
from simkit.preservation.judging import Judge
from simkit.preservation.questions import Question
from simkit.preservation.verdicts import Grade
from simkit.statistics.scores import mean

if TYPE_CHECKING:
    from simkit.run.run import Run


@dataclass(frozen=True, slots=True)
class Source:
    """Where answers come from: `model` is asked, each question `trials` times, or `kept` has them by question."""

    model: ChatModel | None = None
    kept: Mapping[str, Sequence[Answers]] = field(default_factory=dict[str, Sequence[Answers]])
    trials: int = 1
    role: str = "agent"

    def count(self, question: Question) -> int:
        """How many samples of answers there are to a question."""
        return self.trials if self.model is not None else len(self.kept[question.id])

    async def answers(self, question: Question, trial: int, seed: int) -> Answers:
        """One sample; kept ones come round again where there are fewer."""
        if self.model is None:
            found = self.kept[question.id]
            return found[trial % len(found)]
        return await ask(self.model, question, trial, seed=seed, role=self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is done with a question file: whose answers, who judges them, and whom they are compared with.

    Attributes:
        name: the name of the suites.
        questions: what is asked.
        ours: the answers that are evaluated.
        theirs: the answers they are compared with, None for grades alone.
        judge: grades and compares; None only keeps the answers.
    """

    name: str
    questions: Sequence[Question]
    ours: Source
    theirs: Source | None = None
    judge: Judge | None = None


async def evaluate(run: Run, evaluation: Evaluation) -> Findings:
    """Answer, grade and compare everything, as many questions at once as the run allows.

    A resumed run asks nothing again that was answered: models answer from the journal.

    Raises:
        RunStopped: a budget is used up, or an endpoint is down.
    """
    session = _Session(run, evaluation, anyio.CapacityLimiter(run.concurrency))
    async with anyio.create_task_group() as group:
        for question in evaluation.questions:
            for trial in range(evaluation.ours.count(question)):
                group.start_soon(session.play, question, trial)
    return session.findings


@dataclass(frozen=True, slots=True)
class _Session:
    run: Run
    evaluation: Evaluation
    limiter: anyio.CapacityLimiter
    findings: Findings = field(default_factory=Findings)

    async def play(self, question: Question, trial: int) -> None:
        """One sample of answers to one question, with everything that is judged of it."""
        with unasked(f"question {question.id}"):
            async with self.limiter:
                await self._play(question, trial)

    async def _play(self, question: Question, trial: int) -> None:
        ours = await self._answer(question, trial)
        if self.evaluation.judge is None or ours.problem:
            return
        await self._grade(self.evaluation.judge, question, ours)
        if self.evaluation.theirs is not None:
            theirs = await self.evaluation.theirs.answers(question, trial, self.run.seed)
            await self._compare(self.evaluation.judge, question, ours, theirs)

    async def _answer(self, question: Question, trial: int) -> Answers:
        ours = replace(await self.evaluation.ours.answers(question, trial, self.run.seed), trial=trial)
        _keep_answers(self.run, self.evaluation.name, question, trial, ours)
        self.findings.answered += not ours.problem
        self.findings.unanswered += bool(ours.problem)
        self.findings.note(ours.problem)
        self._tell()
        return ours

    async def _grade(self, judge: Judge, question: Question, ours: Answers) -> None:
        grades = [await judge.grade(question, ours, turn) for turn in range(len(question.turns))]
        self.findings.grades.setdefault(question.id, []).append(grades)
        self.findings.note(*(grade.problem for grade in grades))
        _keep_grades(self.run, self.evaluation, question, ours.trial, grades)
        self._tell()

    async def _compare(self, judge: Judge, question: Question, ours: Answers, theirs: Answers) -> None:
        if theirs.problem:
            detail = _by(self.evaluation, question) | {"problem": f"the other side: {theirs.problem}"}
            suite = f"{self.evaluation.name}/pairs"
            self.run.score_item(suite, question.id, trial=ours.trial, detail=detail, judged=0.0)
            self.findings.unopposed += 1
            self.findings.note(f"the other side: {theirs.problem}")
            return
        pairs = [await judge.pair(question, ours, theirs, turn) for turn in range(len(question.turns))]
        self.findings.pairs.setdefault(question.id, []).append(pairs)
        self.findings.note(*(each.problem for pair in pairs for each in (pair.ours_first, pair.theirs_first)))
        _keep_pairs(self.run, self.evaluation, question, ours.trial, pairs)
        self._tell()

    def _tell(self) -> None:
        found = self.findings
        samples = sum(map(len, found.grades.values()))
        answered = found.answered + found.unanswered
        self.run.tally.note = f"{self.evaluation.name}: {answered} of {self._planned} answered, {samples} graded"

    @property
    def _planned(self) -> int:
        return sum(map(self.evaluation.ours.count, self.evaluation.questions))


def _keep_answers(run: Run, name: str, question: Question, trial: int, answers: Answers) -> None:
    suite = f"{name}/answers"
    run.score_item(
        suite, question.id, trial=trial, detail=answers.to_json(question), answered=float(not answers.problem)
    )
    run.score_item(suite, question.id, trial=trial, words=float(answers.words))


def _keep_grades(run: Run, evaluation: Evaluation, question: Question, trial: int, grades: Sequence[Grade]) -> None:
    verdicts = [{"score": each.score, "problem": each.problem, "text": each.text} for each in grades]
    detail = _by(evaluation, question) | {"verdicts": verdicts}
    given = [each.score for each in grades]
    _keep(run, f"{evaluation.name}/grades", question, trial, detail, "score", given)


def _keep_pairs(run: Run, evaluation: Evaluation, question: Question, trial: int, pairs: Sequence[Pair]) -> None:
    verdicts = [_pair_json(each) for each in pairs]
    detail = _by(evaluation, question) | {"verdicts": verdicts}
    _keep(run, f"{evaluation.name}/pairs", question, trial, detail, "win", [each.value for each in pairs])


def _keep(
    run: Run,
    suite: str,
    question: Question,
    trial: int,
    detail: Mapping[str, Any],
    metric: str,
    values: Sequence[float | None],
) -> None:
    """The mean over turns as `metric`, where every turn has a verdict, and each turn's own as `metric_turn_N`."""
    run.score_item(suite, question.id, trial=trial, detail=detail, judged=float(None not in values))
    turns = {f"{metric}_turn_{number}": value for number, value in enumerate(values, 1) if value is not None}
    whole = {metric: mean(list(turns.values()))} if len(turns) == len(values) else {}
    run.score_item(suite, question.id, trial=trial, detail=None, **whole, **turns)


def _by(evaluation: Evaluation, question: Question) -> dict[str, Any]:
    assert evaluation.judge is not None
    prompts = evaluation.judge.prompts
    return {
        "category": question.category,
        "judge": evaluation.judge.model.name,
        "prompts": [prompts.grade.name, prompts.pair.name],
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    orders = {"ours_first": pair.ours_first, "theirs_first": pair.theirs_first}
    told = {name: {"choice": each.choice, "problem": each.problem, "text": each.text} for name, each in orders.items()}
    return {"winner": pair.winner, **told}
