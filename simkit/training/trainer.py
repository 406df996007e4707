"""Training of a model on examples, with checkpoints, a guard and a plot of the loss.

    trained = train(TrainingJob(method="sft", model="model", examples=chosen, preset=preset("tiny", "sft"), out=out))

`train` blocks; `train_in_process` (simkit.training.process) does the same in a child process.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from simkit.errors import UsageError
from simkit.local.gguf import model_folder
from simkit.plugins.extras import require
from simkit.run.tuning import fast_loop
from simkit.statistics.scores import mean
from simkit.training import backend
from simkit.training.dev import DevGoals, DevScore, play_dev
from simkit.training.guard import Guard, GuardHistory
from simkit.training.jobs import (
    OnMetrics,
    TrainingFolder,
    TrainingJob,
    TrainingMetrics,
    TrainingResult,
    draw,
    ignore_metrics,
)
from simkit.training.rows import TrainingRows, training_rows

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.models.base import ChatModel
    from simkit.training.jobs import TrainingFolder
    from simkit.training.presets import Preset


class WritableJob(Protocol):
    """The attributes of a job that `write_model` reads."""

    @property
    def model(self) -> str:
        """The model before training."""
        ...

    @property
    def preset(self) -> Preset:
        """Its settings."""
        ...

    @property
    def out(self) -> Path:
        """The folder for the trained model."""
        ...

    @property
    def keep_adapter(self) -> bool:
        """Whether the adapter is kept next to the merged weights."""
        ...


def train(job: TrainingJob, on_metrics: OnMetrics = ignore_metrics) -> TrainingResult:
    """Train, and write the model to `job.out`.

    A killed training continues from its last checkpoint when it is started again; a finished one is not repeated. The
    same job gives the same weights on the CPU of one machine.

    Raises:
        UsageError: a library, the model or usable examples are missing, or the folder has other contents.
    """
    records = TrainingFolder.open(job.out, job.described())
    done = records.result()
    if done is not None:
        return done
    began = time.monotonic()
    with backend.quiet():
        form = open_form(job.model)
        rows = training_rows(job.examples, form, max_length=job.preset.max_length, seed=job.seed)
        form = form if rows.template is None else form.with_template(rows.template)
        watcher = TrainerCallbacks(job.guard, form, records, on_metrics)
        model = backend.load_model(job.model, job.preset)
        tuner = _tuner(job, model, rows, watcher, form.tokenizer)
        tuner.train(resume_from_checkpoint=records.last_checkpoint())
        history: list[Mapping[str, Any]] = list(tuner.state.log_history)
        steps = int(tuner.state.global_step)
        kept = watcher.kept(steps)
        del tuner, model
        write_model(job, records.checkpoint(kept) if kept else None, form.tokenizer)
    return finish_training(
        records,
        watcher,
        history,
        "loss",
        path=job.out,
        method=job.method,
        steps=steps,
        kept=kept,
        examples=len(rows.rows),
        too_long=rows.too_long,
        tokens=rows.tokens,
        learned=rows.learned,
        seconds=round(time.monotonic() - began, 3),
    )


def open_form(model: str) -> ChatFormat:
    """The model's conversation format. A tokenizer without a padding token pads with its end token."""
    from simkit.local.chat import ChatFormat

    form = ChatFormat.of(model)
    if form.tokenizer.pad_token is None:
        form.tokenizer.pad_token = form.tokenizer.eos_token
    return form


def _tuner(job: TrainingJob, model: Any, rows: TrainingRows, watcher: TrainerCallbacks, tokenizer: Any) -> Any:
    save_every = job.guard.every if job.guard else job.preset.save_every
    settings = backend.arguments(job.preset, watcher.records.checkpoints, job.seed, save_every)
    return backend.trainer(
        job.method,
        model,
        rows.rows,
        {**settings, **rows.settings},
        job.preset,
        processing_class=tokenizer,
        callbacks=[watcher.callback()],
    )


def write_model(job: WritableJob, checkpoint: Path | None, tokenizer: Any) -> None:
    """Write a checkpoint (None: the initial model) as a loadable model, with adapters merged."""
    transformers = require("transformers", backend.EXTRA)
    load = transformers.AutoModelForCausalLM.from_pretrained
    if checkpoint is None:
        model = load(model_folder(job.model), dtype="auto")
    elif job.preset.lora_rank:
        base = load(model_folder(job.model), dtype="auto")
        model = require("peft", backend.EXTRA).PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload()
        if job.keep_adapter:
            _copy_adapter(checkpoint, job.out / "adapter")
    else:
        model = load(str(checkpoint), dtype="auto")
    model.save_pretrained(str(job.out))
    tokenizer.save_pretrained(str(job.out))


def _copy_adapter(checkpoint: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    for file in checkpoint.glob("adapter_*"):
        shutil.copy2(file, out)


def finish_training(
    records: TrainingFolder, watcher: TrainerCallbacks, history: Sequence[Mapping[str, Any]], metric: str, **result: Any
) -> TrainingResult:
    """Draw the curve of a finished training, and write its result: the given values, `metric` and the guard's scores.

    Raises:
        UsageError: the training made no step.
    """
    values = [float(each[metric]) for each in history if metric in each]
    if not values:
        raise UsageError("the training made no step; give more steps, or more examples or epochs")
    tenth = max(1, len(values) // 10)
    trained = TrainingResult(
        **result,
        loss_start=mean(values[:tenth]),
        loss_end=mean(values[-tenth:]),
        stopped=watcher.stopped,
        guard={step: score.to_json() for step, score in watcher.seen.items()},
    )
    draw(history, watcher.seen, records.curve, kept=trained.kept)
    records.finish(trained)
    return trained


class TrainerCallbacks:
    """Callbacks of the trainer for steps, logs and checkpoints. Each attempt of a training has its own.

    Attributes:
        stopped: the floor that was missed when the guard ended the training; None if it did not.
    """

    def __init__(self, guard: Guard | None, form: ChatFormat, records: TrainingFolder, on_metrics: OnMetrics) -> None:
        self.records = records
        self.stopped: str | None = None
        self._form = form
        self._on_metrics = on_metrics
        self._watched = None if guard is None else GuardHistory(guard, records.seen())

    @property
    def seen(self) -> Mapping[int, DevScore]:
        """The guard's measurements, by step."""
        return self._watched.seen if self._watched else {}

    def kept(self, last: int) -> int:
        """The step whose weights are kept: the last, unless the guard chooses another."""
        return self._watched.kept if self._watched else last

    def callback(self) -> Any:
        """The callback for transformers' trainer."""
        return backend.callback(on_train_begin=self._begin, on_log=self._log, on_save=self._save)

    def _begin(self, _args: Any, state: Any, control: Any, *, model: Any, **_more: Any) -> None:
        """Measure the initial model, or a checkpoint whose measurement an interruption prevented."""
        if self._watched and state.global_step not in self._watched.seen:
            self._look(model, state, control)

    def _log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_more: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" in values:
            self._on_metrics(TrainingMetrics("train", state.global_step, {**values, "steps": float(state.max_steps)}))

    def _save(self, _args: Any, state: Any, control: Any, *, model: Any, **_more: Any) -> None:
        step = int(state.global_step)
        if self._watched and step not in self._watched.seen:
            self._look(model, state, control)
        self.records.forget(keep={step, self.kept(step)})

    def _look(self, model: Any, state: Any, control: Any) -> None:
        assert self._watched is not None
        step, guard = int(state.global_step), self._watched.guard
        score = look(model, self._form, guard.goals)
        self._watched = self._watched.after(step, score)
        self.records.keep_seen(self._watched.seen)
        self._on_metrics(TrainingMetrics("guard", step, score.to_json()))
        self.stopped = self._watched.broken(step)
        if self.stopped is not None:
            control.should_training_stop = True


@contextmanager
def in_memory(model: Any, form: ChatFormat) -> Generator[ChatModel]:
    """A chat model that answers with the current weights of a model in training."""
    from simkit.local.engine import LocalEngine
    from simkit.local.model import LocalModel
    from simkit.local.worker import Worker

    learning = bool(model.training)
    model.eval()
    worker = Worker(LocalEngine(model, form.tokenizer))
    try:
        yield LocalModel(worker, "in training")
    finally:
        worker.close()
        model.train(learning)


def look(model: Any, form: ChatFormat, goals: DevGoals) -> DevScore:
    """Measure a model in training on dev goals."""
    with in_memory(model, form) as player:
        return anyio.run(play_dev, goals, player, backend_options={"loop_factory": fast_loop()})
