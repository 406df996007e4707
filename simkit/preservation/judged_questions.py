"""Options of the judged questions, and the evaluation that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simkit.errors import UsageError
from simkit.preservation.evaluation import AnswerSource, Evaluation
from simkit.preservation.judge import Judge, JudgePrompts
from simkit.preservation.questions import Question, read_questions, stored_answers

if TYPE_CHECKING:
    from simkit.models.config import ModelConfig
    from simkit.run.run import Run

NO_JUDGE = "none"
"""Value of `judge` that stores the answers without judging them."""

MODEL_KINDS = ("openai/", "openai-responses/", "anthropic/", "scripted/", "local/")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuestions:
    """Options of a judged evaluation.

    Attributes:
        file: question file; the suites are named after it.
        limit: maximum number of questions, taken from the beginning of the file.
        trials: samples of answers to each question.
        judge: model of the judge, or `none`.
        judge_url: endpoint of the judge.
        judge_temperature: sampling temperature of the judge.
        grade_prompt, pair_prompt: prompt files that replace those of simkit.
        against: model, or run with stored answers, to compare with; `against_url` is the model's endpoint.
        answers_of: run whose stored answers are judged; the model is not asked.
        allow_incomplete: use stored answers even if lines of the run's journals could not be read.
    """

    file: Path
    limit: int | None = None
    trials: int = 1
    judge: str | None = None
    judge_url: str | None = None
    judge_temperature: float | None = 0.0
    grade_prompt: Path | None = None
    pair_prompt: Path | None = None
    against: str | None = None
    against_url: str | None = None
    answers_of: str | None = None
    allow_incomplete: bool = False

    @property
    def name(self) -> str:
        """First part of the suites' names."""
        return self.file.stem

    def check(self, model: str | None) -> tuple[Question, ...]:
        """Check all options before any model is asked, and return the questions.

        Raises:
            UsageError: the file is not a question file, the model or the judge is missing, or an option is invalid.
        """
        if self.trials < 1:
            raise UsageError(f"--trials is {self.trials}; give 1 or more")
        if model is None and self.answers_of is None:
            raise UsageError(
                "no model is given to answer the questions; give --model openai/NAME or --model local/PATH, or "
                "--answers-of RUN to judge the stored answers of a run"
            )
        if self.judge is None:
            raise UsageError(
                "no judge is given; give --judge-model openai/NAME (and its endpoint as --judge-base-url), or "
                "--judge-model none to store the answers and judge them later with --answers-of"
            )
        if self.judge == NO_JUDGE and self.against is not None:
            raise UsageError("a comparison needs a judge; give --judge-model openai/NAME, or omit --against")
        JudgePrompts.choose(self.grade_prompt, self.pair_prompt)
        return read_questions(self.file, self.limit)

    async def evaluation(self, run: Run, questions: tuple[Question, ...]) -> Evaluation:
        """The evaluation of these questions in a run.

        Raises:
            UsageError: the name of a model or a run is invalid, or the run has no answers to these questions.
        """
        return Evaluation(
            name=self.name,
            questions=questions,
            ours=await self._ours(run, questions),
            theirs=None if self.against is None else await self._theirs(run, self.against, questions),
            judge=None if self.judge in (None, NO_JUDGE) else await self._judge(run, self.judge),
        )

    async def _ours(self, run: Run, questions: tuple[Question, ...]) -> AnswerSource:
        if self.answers_of is not None:
            return await self._stored(run, self.answers_of, questions)
        assert run.models.model is not None
        return AnswerSource(await run.open_chat_model(run.models.model), trials=self.trials)

    async def _theirs(self, run: Run, against: str, questions: tuple[Question, ...]) -> AnswerSource:
        if not against.startswith(MODEL_KINDS) and ".py" not in against:
            return await self._stored(run, against, questions)
        model = await run.open_chat_model(against, _options(run, self.against_url, run.models.temperature))
        return AnswerSource(model, trials=self.trials, role="opponent")

    async def _stored(self, run: Run, name: str, questions: tuple[Question, ...]) -> AnswerSource:
        return AnswerSource(
            stored=await stored_answers(
                run, name, f"{self.name}/answers", questions, allow_incomplete=self.allow_incomplete
            )
        )

    async def _judge(self, run: Run, spec: str) -> Judge:
        model = await run.open_chat_model(spec, _options(run, self.judge_url, self.judge_temperature))
        return Judge(model, JudgePrompts.choose(self.grade_prompt, self.pair_prompt), run.seed)


def _options(run: Run, base_url: str | None, temperature: float | None) -> ModelConfig:
    """The run's model options with this temperature, and with this endpoint if one is given."""
    changes = {"base_url": base_url or run.models.base_url, "temperature": temperature}
    return run.models.model_copy(update=changes)
