"""Training jobs, their results, and the records of a training beside the model that it made."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from simkit.data.examples import ExampleSet, Kind, example_digest
from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.training.dev import DevScore
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
"""Called with metrics as they come, in the thread that trains."""


def ignore_metrics(metrics: Metrics) -> None:
    """Drop the metrics."""


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


_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Records:
    """The folder `training` within a trained model's."""

    folder: Path

    @classmethod
    def open(cls, out: Path, asked: Mapping[str, Any]) -> Records:
        """The records of the training that writes to `out`, begun now or before; `asked` is its job as JSON.

        Raises:
            UsageError: the folder holds something else.
        """
        records = cls(out / RECORDS)
        if not records.asked.exists():
            _refuse_full(out)
            records.checkpoints.mkdir(parents=True, exist_ok=True)
            _write(records.asked, asked)
            return records
        before = orjson.loads(records.asked.read_bytes())
        differing = sorted(name for name in asked.keys() | before.keys() if asked.get(name) != before.get(name))
        if differing:
            raise UsageError(
                f"{out} holds a model that was trained otherwise ({', '.join(differing)} differ); "
                "name another folder, or remove this one first"
            )
        return records

    @property
    def asked(self) -> Path:
        """What the training was asked."""
        return self.folder / "job.json"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are while it trains."""
        return self.folder / "checkpoints"

    @property
    def curve(self) -> Path:
        """The picture of its loss and of what the guard saw."""
        return self.folder / "loss.png"

    def result(self) -> Trained | None:
        """What came of it, None while it is not done."""
        file = self.folder / "trained.json"
        return Trained.from_json(orjson.loads(file.read_bytes())) if file.exists() else None

    def finish(self, trained: Trained) -> None:
        """It is done: keep the result, and let the checkpoints go."""
        _write(self.folder / "trained.json", trained.to_json())
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"checkpoint-{step}"

    def last_checkpoint(self) -> str | None:
        """The newest complete checkpoint, for trainers to go on from."""
        steps = [step for step in self._steps() if (self.checkpoint(step) / "trainer_state.json").exists()]
        return str(self.checkpoint(max(steps))) if steps else None

    def forget(self, keep: Iterable[int]) -> None:
        """Remove the checkpoints of all other steps."""
        kept = set(keep)
        for step in self._steps():
            if step not in kept:
                shutil.rmtree(self.checkpoint(step), ignore_errors=True)

    def seen(self) -> dict[int, DevScore]:
        """What the guard saw before the training was interrupted."""
        file = self.folder / "guard.json"
        found: Mapping[str, Any] = orjson.loads(file.read_bytes()) if file.exists() else {}
        return {int(step): DevScore(**values) for step, values in found.items()}

    def keep_seen(self, seen: Mapping[int, DevScore]) -> None:
        """Keep what the guard saw."""
        _write(self.folder / "guard.json", {str(step): score.to_json() for step, score in seen.items()})

    def _steps(self) -> list[int]:
        found = (_CHECKPOINT.fullmatch(path.name) for path in self.checkpoints.glob("checkpoint-*"))
        return sorted(int(match[1]) for match in found if match)


def _refuse_full(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no training of ours; name another folder for the trained model")


def _write(path: Path, value: Any) -> None:
    """All of it or nothing, whatever kills us."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    unfinished.replace(path)


BLUE, ORANGE, GREEN, GREY = "#3566a8", "#d1772b", "#3b8f5a", "#8a8a8a"


def draw(history: Sequence[Mapping[str, Any]], seen: Mapping[int, DevScore], path: Path, *, kept: int) -> None:
    """Write the picture to a PNG file.

    Args:
        history: what the trainer logged: `step` and `loss` (or, with GRPO, `reward`).
        seen: what the guard saw, by step.
        path: the file.
        kept: the step whose weights were kept.
    """
    figure = require("matplotlib.figure", "plots").Figure(figsize=(7.2, 5.4 if seen else 3.4), layout="constrained")
    require("matplotlib.backends.backend_agg", "plots").FigureCanvasAgg(figure)
    axes = figure.subplots(2 if seen else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw_history(axes[0], history)
    if seen:
        _draw_guard(axes[1], seen, kept)
    axes[-1].set_xlabel("optimiser step")
    figure.savefig(str(path), dpi=120)


def _draw_history(axes: Any, history: Sequence[Mapping[str, Any]]) -> None:
    name = "reward" if any("reward" in each for each in history) else "loss"
    points = [(int(each["step"]), float(each[name])) for each in history if name in each]
    steps, values = [point[0] for point in points], [point[1] for point in points]
    axes.plot(steps, values, color=BLUE, alpha=0.3, linewidth=1)
    axes.plot(steps, smoothed(values), color=BLUE, linewidth=2, label=f"{name}, smoothed over a tenth of the steps")
    axes.set_ylabel(f"training {name}")
    axes.set_title(f"Training {name}")
    _tidy(axes)


def _draw_guard(axes: Any, seen: Mapping[int, DevScore], kept: int) -> None:
    steps = list(seen)
    axes.plot(steps, [seen[step].success for step in steps], "o-", color=GREEN, label="success (reward 1)")
    axes.plot(steps, [seen[step].reward for step in steps], "o-", color=ORANGE, label="average reward")
    axes.plot(steps, [seen[step].valid_calls for step in steps], "s--", color=BLUE, label="valid tool calls")
    axes.axvline(kept, color=GREY, linestyle=":", label=f"weights kept: step {kept}")
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of dev goals / calls")
    axes.set_title("What the guard saw on dev goals")
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")


def smoothed(values: Sequence[float]) -> list[float]:
    """Means over a window of a tenth of the values that ends at each."""
    window = max(1, len(values) // 10)
    return [sum(values[max(0, end - window) : end]) / min(end, window) for end in range(1, len(values) + 1)]
