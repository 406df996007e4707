"""What is asked of a training, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

from simkit.data.examples import ExampleSet, Kind, example_digest
from simkit.errors import UsageError
from simkit.training.guard import Guard
from simkit.training.presets import Preset

RECORDS = "training"
"""The folder within a trained model's that holds how it came to be: checkpoints, metrics, what the guard saw."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers of a training after `step` optimiser steps; `stage` is `train` or `guard`."""

    stage: str
    step: int
    values: Mapping[str, float]


OnMetrics: TypeAlias = Callable[[Metrics], None]
"""Told of metrics as they come, in the thread that trains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training.

    Attributes:
        method: sft, kto or dpo.
        model: a folder, or the name of a model on the Hugging Face hub.
        examples: what it learns from; their kind is the method's.
        preset: the settings.
        out: the folder the trained model is written to; `local/<out>` loads it.
        seed: of the order of the examples, the adapters' first weights and dropout.
        guard: watches the model on dev goals while it trains; None trains to the end unwatched.
        keep_adapter: leave the adapter beside the merged weights, in `<out>/adapter`.
        threads: CPU threads; 0 leaves them as they are (a training in a process of its own then takes one on a CPU).

    Raises:
        UsageError: there are no examples, or they are of another kind.
    """

    method: Kind
    model: str
    examples: ExampleSet
    preset: Preset
    out: Path
    seed: int = 0
    guard: Guard | None = None
    keep_adapter: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        if self.examples.kind != self.method:
            raise UsageError(
                f"the examples are for {self.examples.kind} and cannot train by {self.method}; "
                f"select {self.method} examples, or train by {self.examples.kind}"
            )
        if not self.examples.examples:
            raise UsageError(
                f"there are no {self.method} examples to train on; select from another run, ask for a lower reward, "
                "or play more tasks first"
            )

    def described(self) -> dict[str, Any]:
        """The job as JSON, its examples by their digest; where it writes to and how fast are no part of it."""
        return {
            "method": self.method,
            "model": self.model,
            "examples": digest_of(self.examples),
            "preset": asdict(self.preset),
            "seed": self.seed,
            "guard": self.guard.to_json() if self.guard else None,
            "keep_adapter": self.keep_adapter,
        }


def digest_of(examples: ExampleSet) -> str:
    """16 bytes in hex that are equal when the examples are."""
    state = blake2b(digest_size=16)
    for example in examples.examples:
        state.update(example_digest(example))
    return state.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        path: the folder of the trained model.
        steps: optimiser steps that were made; `kept` is the step whose weights were kept (0: those it began with).
        examples: examples it learned from; `too_long` were left out.
        tokens: tokens that went through the model; `learned` of them counted for the loss (of one epoch).
        loss_start, loss_end: mean loss of the first and of the last tenth of the logged steps.
        stopped: why the guard ended it early, None when it did not.
        guard: what the guard saw, by step.
        seconds: what it took, without what an interrupted part took before.
    """

    path: Path
    method: str
    steps: int
    kept: int
    examples: int
    too_long: int
    tokens: int
    learned: int
    loss_start: float
    loss_end: float
    stopped: str | None
    seconds: float
    guard: Mapping[int, Mapping[str, float]] = field(default_factory=dict[int, Mapping[str, float]])

    def to_json(self) -> dict[str, Any]:
        """The values a run's summary keeps."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("path", "guard")}
        seen = {str(step): dict(values) for step, values in self.guard.items()}
        return {"path": str(self.path), **plain, "guard": seen}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trained:
        """What `to_json` wrote."""
        seen = {int(step): dict(values) for step, values in data["guard"].items()}
        read: dict[str, Any] = {**data, "path": Path(data["path"]), "guard": seen}
        return cls(**read)
