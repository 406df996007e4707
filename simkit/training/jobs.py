"""Training jobs, their results, and the records of a training next to the trained model."""

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
"""Name of the folder inside a trained model's that holds checkpoints, metrics and the guard's measurements."""


@dataclass(frozen=True, slots=True)
class TrainingMetrics:
    """Metrics of a training after `step` optimizer steps. `stage` is `train` or `guard`."""

    stage: str
    step: int
    values: Mapping[str, float]


OnMetrics: TypeAlias = Callable[[TrainingMetrics], None]
"""Callback for metrics, called in the training thread."""


def ignore_metrics(metrics: TrainingMetrics) -> None:
    """Ignore the metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training.

    Attributes:
        method: sft, kto or dpo.
        model: a folder, or the name of a model on the Hugging Face hub.
        examples: the training examples; their kind must match the method.
        preset: the settings.
        out: the folder for the trained model; `local/<out>` loads it.
        seed: seed of the order of examples, the initial adapter weights and dropout.
        guard: checks the model on dev goals during training; None for no checks.
        keep_adapter: whether to keep the adapter next to the merged weights, in `<out>/adapter`.
        threads: CPU threads; 0 leaves the setting unchanged (one thread on a CPU in a child process).

    Raises:
        UsageError: there are no examples, or their kind does not match the method.
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
        """The job as JSON, with its examples as a digest. Output folder and speed settings are not included."""
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
    """Digest of the examples: 16 bytes in hex. Equal examples have equal digests."""
    state = blake2b(digest_size=16)
    for example in examples.examples:
        state.update(example_digest(example))
    return state.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """Result of a training.

    Attributes:
        path: the folder of the trained model.
        steps: number of optimizer steps.
        kept: the step whose weights were kept (0: the initial ones).
        examples: number of examples used; `too_long` ones were excluded.
        tokens: tokens processed by the model in one epoch; `learned` of them counted for the loss.
        loss_start, loss_end: mean loss of the first and of the last tenth of the logged steps.
        stopped: the reason why the guard ended the training early; None if it did not.
        guard: the guard's measurements, by step.
        seconds: duration, without earlier interrupted attempts.
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
        """The values stored in a run's summary."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("path", "guard")}
        seen = {str(step): dict(values) for step, values in self.guard.items()}
        return {"path": str(self.path), **plain, "guard": seen}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingResult:
        """The result written by `to_json`."""
        seen = {int(step): dict(values) for step, values in data["guard"].items()}
        read: dict[str, Any] = {**data, "path": Path(data["path"]), "guard": seen}
        return cls(**read)


_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """The folder `training` inside a trained model's."""

    folder: Path

    @classmethod
    def open(cls, out: Path, asked: Mapping[str, Any]) -> TrainingFolder:
        """Open or create the records of the training that writes to `out`. `asked` is its job as JSON.

        Raises:
            UsageError: the folder has other contents.
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
        """File with the job as JSON."""
        return self.folder / "job.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints during training."""
        return self.folder / "checkpoints"

    @property
    def curve(self) -> Path:
        """Plot of the loss and of the guard's measurements."""
        return self.folder / "loss.png"

    def result(self) -> TrainingResult | None:
        """The result; None while the training is not done."""
        file = self.folder / "trained.json"
        return TrainingResult.from_json(orjson.loads(file.read_bytes())) if file.exists() else None

    def finish(self, trained: TrainingResult) -> None:
        """Store the result and delete the checkpoints."""
        _write(self.folder / "trained.json", trained.to_json())
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"checkpoint-{step}"

    def last_checkpoint(self) -> str | None:
        """The newest complete checkpoint, from which trainers resume."""
        steps = [step for step in self._steps() if (self.checkpoint(step) / "trainer_state.json").exists()]
        return str(self.checkpoint(max(steps))) if steps else None

    def forget(self, keep: Iterable[int]) -> None:
        """Delete the checkpoints of all other steps."""
        kept = set(keep)
        for step in self._steps():
            if step not in kept:
                shutil.rmtree(self.checkpoint(step), ignore_errors=True)

    def seen(self) -> dict[int, DevScore]:
        """The guard's measurements before the training was interrupted."""
        file = self.folder / "guard.json"
        found: Mapping[str, Any] = orjson.loads(file.read_bytes()) if file.exists() else {}
        return {int(step): DevScore(**values) for step, values in found.items()}

    def keep_seen(self, seen: Mapping[int, DevScore]) -> None:
        """Store the guard's measurements."""
        _write(self.folder / "guard.json", {str(step): score.to_json() for step, score in seen.items()})

    def _steps(self) -> list[int]:
        found = (_CHECKPOINT.fullmatch(path.name) for path in self.checkpoints.glob("checkpoint-*"))
        return sorted(int(match[1]) for match in found if match)


def _refuse_full(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no training of ours; name another folder for the trained model")


def _write(path: Path, value: Any) -> None:
    """Write a file atomically, so that a killed process leaves no partial file."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    unfinished.replace(path)


BLUE, ORANGE, GREEN, GREY = "#3566a8", "#d1772b", "#3b8f5a", "#8a8a8a"


def draw(history: Sequence[Mapping[str, Any]], seen: Mapping[int, DevScore], path: Path, *, kept: int) -> None:
    """Write the plot to a PNG file.

    Args:
        history: the trainer's log: `step` and `loss` (with GRPO `reward`).
        seen: the guard's measurements, by step.
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
    """Moving averages over a tenth of the values, each window ending at its value."""
    window = max(1, len(values) // 10)
    return [sum(values[max(0, end - window) : end]) / min(end, window) for end in range(1, len(values) + 1)]
