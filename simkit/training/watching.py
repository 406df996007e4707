"""What happens beside the steps of a training: metrics are told, the guard looks, checkpoints come and go."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from simkit.run.event_loop import fast_loop
from simkit.training import backend
from simkit.training.dev import DevGoals, DevScore, play_dev
from simkit.training.guard import Guard, Watched
from simkit.training.jobs import Metrics, OnMetrics

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.models.base import ChatModel
    from simkit.training.records import Records


class Watcher:
    """Told by the trainer of every step, log and checkpoint; one for each part of a training.

    Attributes:
        stopped: what was lost when the guard ended the training, None while it has not.
    """

    def __init__(self, guard: Guard | None, form: ChatFormat, records: Records, on_metrics: OnMetrics) -> None:
        self.records = records
        self.stopped: str | None = None
        self._form = form
        self._on_metrics = on_metrics
        self._watched = None if guard is None else Watched(guard, records.seen())

    @property
    def seen(self) -> Mapping[int, DevScore]:
        """What the guard has seen, by step."""
        return self._watched.seen if self._watched else {}

    def kept(self, last: int) -> int:
        """The step whose weights are kept: the last, unless the guard knows better."""
        return self._watched.kept if self._watched else last

    def callback(self) -> Any:
        """For transformers' trainer."""
        return backend.callback(on_train_begin=self._begin, on_log=self._log, on_save=self._save)

    def _begin(self, _args: Any, state: Any, control: Any, *, model: Any, **_more: Any) -> None:
        """Look at the model it begins with; and, after a kill between a checkpoint and its look, do that look."""
        if self._watched and state.global_step not in self._watched.seen:
            self._look(model, state, control)

    def _log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_more: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" in values:
            self._on_metrics(Metrics("train", state.global_step, {**values, "steps": float(state.max_steps)}))

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
        self._on_metrics(Metrics("guard", step, score.to_json()))
        self.stopped = self._watched.broken(step)
        if self.stopped is not None:
            control.should_training_stop = True


@contextmanager
def in_memory(model: Any, form: ChatFormat) -> Generator[ChatModel]:
    """A model that is being trained, as one that answers with the weights it has now."""
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
    """Let a model that is being trained play dev goals."""
    with in_memory(model, form) as player:
        return anyio.run(play_dev, goals, player, backend_options={"loop_factory": fast_loop()})
