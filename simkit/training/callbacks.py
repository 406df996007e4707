"""Callbacks of TRL's trainers: metrics, and the guard's measurements.

With several processes the first one plays, the others wait for its result, and all reach the same decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simkit.local.chat import ChatFormat
from simkit.plugins.extras import require
from simkit.training import trl_setup
from simkit.training.dev import DevScore
from simkit.training.guard import Guard, GuardHistory
from simkit.training.jobs import OnMetrics, TrainingFolder, TrainingMetrics
from simkit.training.play import Conversations, in_memory


class TrainerCallbacks:
    """Callbacks of one attempt of a training.

    Attributes:
        stopped: the floor that was missed when the guard ended the training; None if it did not.
    """

    def __init__(
        self,
        guard: Guard | None,
        form: ChatFormat,
        folder: TrainingFolder,
        on_metrics: OnMetrics,
        conversations: Conversations,
    ) -> None:
        self.stopped: str | None = None
        self._form = form
        self._folder = folder
        self._on_metrics = on_metrics
        self._conversations = conversations
        self._watched = None if guard is None else GuardHistory(guard, folder.seen())

    @property
    def seen(self) -> Mapping[int, DevScore]:
        """The guard's measurements, by step."""
        return self._watched.seen if self._watched else {}

    def kept(self, last: int) -> int:
        """The step whose weights are kept: the last, unless the guard chooses another."""
        return self._watched.kept if self._watched else last

    def callback(self) -> Any:
        """The callback for transformers' trainer."""
        return trl_setup.callback(
            on_train_begin=self._begin, on_step_end=self._step, on_save=self._save, on_log=self._log
        )

    def _begin(self, args: Any, state: Any, control: Any, *, model: Any, **_more: Any) -> None:
        """Measure the initial model, or a checkpoint whose measurement an interruption prevented."""
        if self._watched:
            args.load_best_model_at_end = True  # `best_model_checkpoint` is the guard's choice
            if state.global_step not in self._watched.seen:
                self._look(model, args, state, control)
            self._choose(state)

    def _step(self, _args: Any, state: Any, control: Any, **_more: Any) -> None:
        if self._watched:
            every = self._watched.guard.interval(state.max_steps)
            if state.global_step % every == 0 or state.global_step >= state.max_steps:
                control.should_save = True

    def _save(self, args: Any, state: Any, control: Any, *, model: Any, **_more: Any) -> None:
        if self._watched and state.global_step not in self._watched.seen:
            self._look(model, args, state, control)
            self._choose(state)

    def _log(self, args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_more: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if args.process_index == 0 and ("loss" in values or "eval_loss" in values):
            self._on_metrics(TrainingMetrics("train", state.global_step, {**values, "steps": float(state.max_steps)}))

    def _look(self, model: Any, args: Any, state: Any, control: Any) -> None:
        """Play the dev goals on the first process, and stop all of them if a floor is missed."""
        assert self._watched is not None
        step, score = int(state.global_step), None
        if args.process_index == 0:
            with in_memory(model, self._form) as player:
                score = self._conversations.look(self._watched.guard.goals, player, step)
        self._watched = self._watched.after(step, _from_first(args, score))
        self.stopped = self._watched.broken(step)
        if self.stopped is not None:
            control.should_training_stop = True
        if args.process_index == 0:
            self._folder.keep_seen(self._watched.seen)
            self._on_metrics(TrainingMetrics("guard", step, self._watched.seen[step].to_json()))

    def _choose(self, state: Any) -> None:
        """Let the trainer keep the checkpoint of the guard's choice, and load it at the end."""
        kept = self.kept(state.global_step)
        state.best_model_checkpoint = str(self._folder.checkpoint(kept)) if kept else None


def _from_first(args: Any, value: Any) -> Any:
    """The value of the first process, in all processes."""
    if args.world_size == 1:
        return value
    (shared,) = require("accelerate", trl_setup.EXTRA).utils.broadcast_object_list([value])
    return shared
