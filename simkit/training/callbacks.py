"""Callbacks of TRL's trainers: metrics, and the guard's measurements.

With several processes the first one plays, the others wait for its result, and all reach the same decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simkit.local.chat import ChatFormat
from simkit.plugins.extras import require
from simkit.training.dev import DevScore
from simkit.training.guard import Guard, GuardHistory
from simkit.training.jobs import TrainingFolder, TrainingMetrics
from simkit.training.play import LookRequest, played
from simkit.training.process import Ask


class TrainerCallbacks:
    """Callbacks of one attempt of a training, called by transformers' trainer; `of` makes them.

    Attributes:
        stopped: the floor that was missed when the guard ended the training; None if it did not.
    """

    def __init__(self, guard: Guard | None, form: ChatFormat, folder: TrainingFolder, ask: Ask) -> None:
        self.stopped: str | None = None
        self._form = form
        self._folder = folder
        self._ask = ask
        self._watched = None if guard is None else GuardHistory(guard, folder.seen())

    @classmethod
    def of(cls, guard: Guard | None, form: ChatFormat, folder: TrainingFolder, ask: Ask) -> TrainerCallbacks:
        """The callbacks, as a callback of transformers."""
        kind: Any = type("SimkitCallback", (cls, require("transformers", "train").TrainerCallback), {})
        return kind(guard, form, folder, ask)

    @property
    def seen(self) -> Mapping[int, DevScore]:
        """The guard's measurements, by step."""
        return self._watched.seen if self._watched else {}

    def kept(self, last: int) -> int:
        """The step whose weights are kept: the last, unless the guard chooses another."""
        return self._watched.kept if self._watched else last

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure the initial model, or a checkpoint whose measurement an interruption prevented."""
        if self._watched:
            args.load_best_model_at_end = True  # `best_model_checkpoint` is the guard's choice
            self.on_save(args, state, control, **more)

    def on_step_end(self, _args: Any, state: Any, control: Any, **_more: Any) -> None:
        """Save what is to be measured."""
        if self._watched:
            every = self._watched.guard.interval(state.max_steps)
            if state.global_step % every == 0 or state.global_step >= state.max_steps:
                control.should_save = True

    def on_log(self, args: Any, state: Any, _control: Any, logs: Mapping[str, Any], **_more: Any) -> None:
        """Tell the metrics."""
        values = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
        if args.process_index == 0 and ("loss" in values or "eval_loss" in values):
            self._ask(TrainingMetrics("train", state.global_step, {**values, "steps": float(state.max_steps)}))

    def on_save(self, args: Any, state: Any, control: Any, *, model: Any, **_more: Any) -> None:
        """Play the dev goals on the first process, unless that is done. Stop all processes if a floor is missed.

        The trainer keeps the checkpoint of the guard's choice, and loads it at the end.
        """
        if self._watched is None:
            return
        step, first, score = int(state.global_step), args.process_index == 0, None
        if step not in self._watched.seen:
            if first:
                score = played(LookRequest(step), model, self._form, self._ask)
            self._watched = self._watched.after(step, _from_first(args, score))
            self.stopped = self._watched.broken(step)
            control.should_training_stop = control.should_training_stop or self.stopped is not None
            if first:
                self._folder.keep_seen(self._watched.seen)
                self._ask(TrainingMetrics("guard", step, self._watched.seen[step].to_json()))
        kept = self.kept(step)
        state.best_model_checkpoint = str(self._folder.checkpoint(kept)) if kept else None


def _from_first(args: Any, value: Any) -> Any:
    """The value of the first process, in all processes."""
    if args.world_size == 1:
        return value
    (shared,) = require("accelerate", "train").utils.broadcast_object_list([value])
    return shared
