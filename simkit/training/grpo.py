"""GRPO on whole conversations: online, over several turns, with a simulated user.

In every step the model in the trainer's memory plays groups of conversations (`simkit.training.groups`) through
`LocalEngine`. TRL turns their rewards into advantages and learns from the sampled tokens. The tokens of users and tools
are part of the sequence but masked (`env_mask`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import anyio

from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.run.tuning import fast_loop
from simkit.search.base import WorkUnit
from simkit.search.tree import together
from simkit.statistics.scores import mean
from simkit.training import backend
from simkit.training.dev import ConversationSetup, opened
from simkit.training.groups import PlayedBranch, ReplyCollector, TokenSequence, joined, play_group
from simkit.training.guard import Guard
from simkit.training.jobs import OnMetrics, TrainingFolder, TrainingResult, ignore_metrics
from simkit.training.presets import Preset
from simkit.training.trainer import TrainerCallbacks, finish_training, in_memory, open_form, write_model


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoJob:
    """One GRPO training.

    Attributes:
        model: a folder, or the name of a model on the Hugging Face hub.
        place: the practice goals and the players.
        preset: the settings; each step plays `batch` conversations.
        out: the folder for the trained model.
        group: number of conversations with a common opening; `batch` is a multiple of it.
        temperature: sampling temperature in practice; above 0, or all branches would be equal.
        seed, guard, keep_adapter, threads: as in `TrainingJob`.

    Raises:
        UsageError: a value is invalid.
    """

    model: str
    place: ConversationSetup
    preset: Preset
    out: Path
    group: int = 8
    temperature: float = 1.0
    seed: int = 0
    guard: Guard | None = None
    keep_adapter: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        if self.group < 2:
            raise UsageError(f"a group of {self.group} has nothing to compare with; give at least 2 conversations")
        if self.preset.batch % self.group:
            raise UsageError(
                f"{self.preset.batch} conversations a step cannot be split into groups of {self.group}; "
                f"choose a batch that is a multiple of {self.group}"
            )
        if not self.temperature > 0:
            raise UsageError(f"the temperature is {self.temperature}; GRPO compares branches that differ: above 0")

    @property
    def method(self) -> str:
        """The method's name in results."""
        return "grpo"

    def described(self) -> dict[str, Any]:
        """The job as JSON."""
        return {
            "method": self.method,
            "model": self.model,
            "place": asdict(self.place),
            "preset": asdict(self.preset),
            "group": self.group,
            "temperature": self.temperature,
            "seed": self.seed,
            "guard": self.guard.to_json() if self.guard else None,
            "keep_adapter": self.keep_adapter,
        }


def train_grpo(job: GrpoJob, on_metrics: OnMetrics = ignore_metrics) -> TrainingResult:
    """Practise, and write the model to `job.out`. Resumes and repeats like `train`.

    Raises:
        UsageError: a library, the model or the world is missing, or the folder holds something else.
    """
    records = TrainingFolder.open(job.out, job.described())
    done = records.result()
    if done is not None:
        return done
    began = time.monotonic()
    with backend.quiet():
        form = open_form(job.model)
        tasks = job.place.chosen()
        watcher = TrainerCallbacks(job.guard, form, records, on_metrics)
        practice = GrpoConversations(job, tasks, form)
        tuner = backend.grpo_trainer(
            backend.load_model(job.model, job.preset),
            _rows(tasks, job.preset.batch // job.group),
            {**backend.arguments(job.preset, records.checkpoints, job.seed, _save_every(job)), **_own(job)},
            job.preset,
            rollout_func=practice.play,
            processing_class=form.tokenizer,
            callbacks=[watcher.callback()],
        )
        tuner.train(resume_from_checkpoint=records.last_checkpoint())
        history: list[Mapping[str, Any]] = list(tuner.state.log_history)
        steps = int(tuner.state.global_step)
        kept = watcher.kept(steps)
        del tuner
        write_model(job, records.checkpoint(kept) if kept else None, form.tokenizer)
    return finish_training(
        records,
        watcher,
        history,
        "reward",
        path=job.out,
        method=job.method,
        steps=steps,
        kept=kept,
        examples=steps * job.preset.batch,
        too_long=0,
        tokens=practice.tokens,
        learned=practice.learned,
        seconds=round(time.monotonic() - began, 3),
    )


def _rows(tasks: Sequence[Task], at_once: int) -> list[dict[str, str]]:
    """One row per task, repeated until they fill a step, because TRL drops incomplete batches."""
    return [{"prompt": task.id} for task in tasks] * ceil(at_once / len(tasks))


def _save_every(job: GrpoJob) -> int:
    return job.guard.every if job.guard else job.preset.save_every


def _own(job: GrpoJob) -> dict[str, Any]:
    return {
        "num_generations": job.group,
        "temperature": job.temperature,
        "beta": job.preset.beta,
        "max_completion_length": job.preset.max_length,
    }


class GrpoConversations:
    """Plays the conversations that TRL's trainer requests. `played` and `tokens` count them."""

    def __init__(self, job: GrpoJob, tasks: Sequence[Task], form: Any) -> None:
        self.played = 0
        self.tokens = 0
        self.learned = 0
        self._job = job
        self._tasks = {task.id: task for task in tasks}
        self._form = form

    def play(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Implementation of `rollout_func`: one conversation per prompt, which names a task. A group is a block."""
        starts = range(0, len(prompts), self._job.group)
        sizes = [(prompts[start], len(prompts[start : start + self._job.group])) for start in starts]
        units = [
            WorkUnit(
                "practice", self._job.seed, self._tasks[name], int(trainer.state.global_step) * len(prompts) + place
            )
            for place, (name, _) in enumerate(sizes)
        ]
        with in_memory(trainer.accelerator.unwrap_model(trainer.model), self._form) as model:
            branches = anyio.run(self._play, model, units, [size for _, size in sizes], backend_options=_loop())
        return self._columns(branches, trainer)

    async def _play(self, model: Any, units: Sequence[WorkUnit], sizes: Sequence[int]) -> list[PlayedBranch]:
        collector, place = ReplyCollector(model), self._job.place
        async with opened(place, collector, self._job.temperature) as cast:
            calls = [_call(cast, unit, place, size, collector) for unit, size in zip(units, sizes, strict=True)]
            groups = await together(calls)
        return [branch for group in groups for branch in group]

    def _columns(self, branches: Sequence[PlayedBranch], trainer: Any) -> dict[str, Any]:
        end = int(self._form.tokenizer.eos_token_id)
        sequences = [
            joined(one.replies) if one.replies else TokenSequence([end], [end], [0], [0.0]) for one in branches
        ]
        limit = self._job.preset.max_length
        self.played += len(branches)
        self.tokens += sum(len(sequence.prompt_ids) + len(sequence.ids) for sequence in sequences)
        self.learned += sum(sum(sequence.mask) for sequence in sequences)
        drifted = mean([float(sequence.drifted > 0) for sequence in sequences])
        trainer._metrics["train"]["drifted"].append(drifted)
        return {
            "prompt_ids": [sequence.prompt_ids for sequence in sequences],
            "completion_ids": [sequence.ids[:limit] for sequence in sequences],
            "logprobs": [sequence.logprobs[:limit] for sequence in sequences],
            "env_mask": [sequence.mask[:limit] for sequence in sequences],
            "episode_reward": [one.reward for one in branches],
        }


def _call(
    cast: Any, unit: WorkUnit, place: ConversationSetup, size: int, collector: ReplyCollector
) -> Callable[[], Any]:
    return lambda: play_group(cast, unit, place.limits, size, collector)


def _loop() -> dict[str, Any]:
    return {"loop_factory": fast_loop()}
