"""What a user asked to have judged, turned into an evaluation: files read, models opened, kept answers found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simkit.errors import UsageError
from simkit.preservation.evaluation import Evaluation, Source
from simkit.preservation.judge import Judge, JudgePrompts
from simkit.preservation.questions import Question, kept_answers, read_questions

if TYPE_CHECKING:
    from simkit.models.config import ModelConfig
    from simkit.run.run import Run

NO_JUDGE = "none"
"""The judge of somebody who only wants answers, to be judged later."""

MODEL_KINDS = ("openai/", "scripted/", "local/")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuestions:
    """A question file, whose answers to it are judged, by whom, and against whom.

    Attributes:
        file: the questions; their suites are named after it.
        limit: the first so many of them.
        trials: samples of answers to each.
        judge: the judge's model, or `none`; `judge_url` its endpoint, `judge_temperature` how it samples.
        grade_prompt, pair_prompt: files of prompts instead of simkit's own.
        against: a model, or a run whose kept answers are compared with; `against_url` is the model's endpoint.
        answers_of: a run whose kept answers are judged again instead of asking the model.
        allow_incomplete: take kept answers although lines of the run's journals could not be read.
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
        """The beginning of the suites' names."""
        return self.file.stem

    def check(self, model: str | None) -> tuple[Question, ...]:
        """The questions, when everything that can be checked before anybody is asked is right.

        Raises:
            UsageError: the file is no question file, nobody answers or judges, or a number cannot be used.
        """
        if self.trials < 1:
            raise UsageError(f"--trials is {self.trials}; have each question answered at least once")
        if model is None and self.answers_of is None:
            raise UsageError(
                "nobody answers the questions; give --model openai/NAME or --model local/PATH, or --answers-of RUN to "
                "judge answers that a run has kept"
            )
        if self.judge is None:
            raise UsageError(
                "nobody judges the answers; give --judge-model openai/NAME (--judge-base-url says where it is), or "
                "--judge-model none to keep the answers and judge them later with --answers-of"
            )
        if self.judge == NO_JUDGE and self.against is not None:
            raise UsageError("a comparison needs a judge; give --judge-model openai/NAME, or leave --against out")
        JudgePrompts.choose(self.grade_prompt, self.pair_prompt)
        return read_questions(self.file, self.limit)

    async def evaluation(self, run: Run, questions: tuple[Question, ...]) -> Evaluation:
        """The evaluation of these questions in a run.

        Raises:
            UsageError: a model's name or a run's cannot be used, or a run has no answers to these questions.
        """
        return Evaluation(
            name=self.name,
            questions=questions,
            ours=await self._ours(run, questions),
            theirs=None if self.against is None else await self._theirs(run, self.against, questions),
            judge=None if self.judge in (None, NO_JUDGE) else self._judge(run, self.judge),
        )

    async def _ours(self, run: Run, questions: tuple[Question, ...]) -> Source:
        if self.answers_of is not None:
            return await self._kept(run, self.answers_of, questions)
        assert run.models.model is not None
        return Source(run.chat_model(run.models.model), trials=self.trials)

    async def _theirs(self, run: Run, against: str, questions: tuple[Question, ...]) -> Source:
        if not against.startswith(MODEL_KINDS) and ".py" not in against:
            return await self._kept(run, against, questions)
        model = run.chat_model(against, _options(run, self.against_url, run.models.temperature))
        return Source(model, trials=self.trials, role="opponent")

    async def _kept(self, run: Run, name: str, questions: tuple[Question, ...]) -> Source:
        return Source(
            kept=await kept_answers(
                run, name, f"{self.name}/answers", questions, allow_incomplete=self.allow_incomplete
            )
        )

    def _judge(self, run: Run, spec: str) -> Judge:
        model = run.chat_model(spec, _options(run, self.judge_url, self.judge_temperature))
        return Judge(model, JudgePrompts.choose(self.grade_prompt, self.pair_prompt), run.seed)


def _options(run: Run, base_url: str | None, temperature: float | None) -> ModelConfig:
    """The run's choices with another endpoint, where one is named, and another temperature."""
    changes = {"base_url": base_url or run.models.base_url, "temperature": temperature}
    return run.models.model_copy(update=changes)
