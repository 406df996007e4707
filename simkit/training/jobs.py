"""Training jobs, their results, and the records of a training next to the trained model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import orjson
from pydantic import TypeAdapter

from simkit.data.examples import ExampleSet, example_digest
from simkit.errors import UsageError
from simkit.training.config_files import Method
from simkit.training.dev import ConversationSetup, DevScore
from simkit.training.guard import Guard

T = TypeVar("T")
RECORDS = "training"
"""Name of the folder inside a trained model's that holds the job, the result and the guard's measurements."""


@dataclass(frozen=True, slots=True)
class TrainingMetrics:
    """Metrics of a training after `step` optimizer steps. `stage` is `train` or `guard`."""

    stage: str
    step: int
    values: Mapping[str, float]

    def __str__(self) -> str:
        names = ("loss", "reward", "success", "valid_calls")
        shown = [f", {name.replace('_', ' ')} {self.values[name]:.3g}" for name in names if name in self.values]
        of = f" of {self.values['steps']:.0f}" if "steps" in self.values else ""
        what = "guard on dev goals" if self.stage == "guard" else "training"
        return f"{what}: step {self.step}{of}" + "".join(shown)


OnMetrics: TypeAlias = Callable[[TrainingMetrics], object]
"""Callback for metrics, called in the training thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training.

    Attributes:
        method: sft, kto, dpo or grpo.
        model: a folder, or the name of a model on the Hugging Face hub.
        config: fields of TRL's configuration class of the method, and of its ModelConfig; see `load_config`.
        template_kwargs: values for names that the model's chat template reads, such as `enable_thinking`.
        flags: the same as arguments of a command line; they override `config`.
        examples: the training examples, of the method's kind; None for grpo.
        evaluation: examples for the evaluation loss; None for no evaluation.
        practice: the practice goals and the players of grpo; None for the other methods.
        out: the folder for the trained model; `local/<out>` loads it.
        seed: seed of the order of examples, the initial adapter weights, dropout and conversations.
        guard: checks the model on dev goals during training; None for no checks.
        threads: CPU threads; 0 leaves the setting unchanged (one thread on a CPU in a child process).
        launcher: command that starts the processes of the training, such as `accelerate launch --num_processes 8`.
        ranks: number of processes that must take part; None for as many as the launcher starts.

    Raises:
        UsageError: there is nothing to train on, or it does not match the method.
    """

    method: Method
    model: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    template_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    flags: tuple[str, ...] = ()
    examples: ExampleSet | None = None
    evaluation: ExampleSet | None = None
    practice: ConversationSetup | None = None
    out: Path
    seed: int = 0
    guard: Guard | None = None
    threads: int = 0
    launcher: tuple[str, ...] = ()
    ranks: int | None = 1

    def __post_init__(self) -> None:
        if (self.method == "grpo") != (self.practice is not None):
            raise UsageError("grpo practises goals, and the other methods learn from examples; give the method its own")
        for each in (self.examples, self.evaluation):
            if each is not None and each.kind != self.method:
                raise UsageError(
                    f"these are {each.kind} examples, which cannot train by {self.method}; select {self.method} "
                    f"examples, or train by {each.kind} (`simkit train {each.kind}`)"
                )
        if self.method != "grpo" and not self.examples:
            raise UsageError(
                f"there are no {self.method} examples to train on; select from another run, ask for a lower reward, "
                "or play more tasks first"
            )

    def described(self) -> dict[str, Any]:
        """The job as JSON, with its examples as digests. Output folder, processes and threads are not included."""
        others = ("out", "threads", "launcher", "ranks")
        values = {name: getattr(self, name) for name in self.__slots__ if name not in others}
        values |= {"examples": digest_of(self.examples), "evaluation": digest_of(self.evaluation)}
        return orjson.loads(orjson.dumps(values))


def digest_of(examples: ExampleSet | None) -> str | None:
    """Digest of the examples: 16 bytes in hex; None for None. Equal examples have equal digests."""
    if examples is None:
        return None
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
        examples: number of examples used, or of conversations played by grpo; `too_long` ones were excluded.
        form: how examples became rows of TRL's trainer.
        tokens: tokens processed by the model in one epoch; `learned` of them counted for the loss.
        loss_start, loss_end: mean loss (grpo: reward) of the first and of the last tenth of the logged steps.
        stopped: the reason why the guard ended the training early; None if it did not.
        guard: the guard's measurements, by step.
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
    form: str = ""
    guard: Mapping[int, DevScore] = field(default_factory=dict[int, DevScore])


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """The folder of a trained model: TRL's checkpoints, and the folder `training` with the records."""

    out: Path

    @classmethod
    def open(cls, out: Path, asked: Mapping[str, Any]) -> TrainingFolder:
        """Open or create the records of the training that writes to `out`. `asked` is its job as JSON.

        Raises:
            UsageError: the folder has other contents.
        """
        file = out / RECORDS / "job.json"
        if not file.exists():
            if out.exists() and any(out.iterdir()):
                raise UsageError(f"{out} is not empty and holds no training of ours; name another folder (--out)")
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(file, asked)
        before = orjson.loads(file.read_bytes())
        differing = sorted(name for name in asked.keys() | before.keys() if asked.get(name) != before.get(name))
        if differing:
            raise UsageError(
                f"{out} holds a model that was trained otherwise (not the same: {', '.join(differing)}); "
                "name another folder, or remove this one first"
            )
        return cls(out)

    def result(self) -> TrainingResult | None:
        """The result; None while the training is not done."""
        return _read(self.out / RECORDS / "trained.json", TrainingResult)

    def finish(self, trained: TrainingResult) -> None:
        """Store the result and delete the checkpoints."""
        _write(self.out / RECORDS / "trained.json", trained)
        for path in self.out.glob("checkpoint-*"):
            shutil.rmtree(path, ignore_errors=True)

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.out / f"checkpoint-{step}"

    def last_checkpoint(self) -> str | None:
        """The newest complete checkpoint, from which trainers resume."""
        complete = self.out.glob("checkpoint-*/trainer_state.json")
        steps = [int(file.parent.name.partition("-")[2]) for file in complete]
        return str(self.checkpoint(max(steps))) if steps else None

    def seen(self) -> dict[int, DevScore]:
        """The guard's measurements before the training was interrupted."""
        return _read(self.out / RECORDS / "guard.json", dict[int, DevScore]) or {}

    def keep_seen(self, seen: Mapping[int, DevScore]) -> None:
        """Store the guard's measurements."""
        _write(self.out / RECORDS / "guard.json", seen)


def _read(path: Path, kind: type[T]) -> T | None:
    return TypeAdapter(kind).validate_json(path.read_bytes()) if path.exists() else None


def _write(path: Path, value: Any) -> None:
    """Write a file atomically, so that a killed process leaves no partial file."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    unfinished.write_bytes(orjson.dumps(value, default=str, option=options))
    unfinished.replace(path)
