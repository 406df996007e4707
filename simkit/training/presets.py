"""Presets of training settings. Flags of the training recipes override their fields.

`paper` holds the settings of "Sparse Rewards Can Self-Train Dialogue Agents" (arXiv 2409.04617, appendix). The paper
has no DPO; the settings of its KTO are used. `cpu` is for models of a few hundred million parameters on a machine
without a GPU, `tiny` for models of at most a million parameters that were trained from scratch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_args

from simkit.errors import UsageError

Method: TypeAlias = Literal["sft", "kto", "dpo", "grpo"]
PresetName: TypeAlias = Literal["paper", "cpu", "tiny"]
Schedule: TypeAlias = Literal["linear", "cosine", "constant"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The settings of one training.

    Attributes:
        learning_rate: maximum learning rate of the schedule.
        epochs: passes over the examples; `max_steps` above 0 overrides it.
        batch: examples per optimizer step; `micro_batch` of them are processed at once (0: all).
        schedule: decay of the learning rate; `warmup` is the share of steps in which it first rises.
        max_length: maximum tokens of an example; longer ones are excluded and counted.
        beta: KTO, DPO, GRPO: strength of the penalty for deviating from the initial model.
        desirable_weight, undesirable_weight: KTO: weights of the two kinds of examples.
        lora_rank: rank of the adapters; 0 trains all weights. `lora_alpha` scales them (0: equal to the rank).
        quantize: keep the frozen weights in 4 bits (QLoRA). Ignored without adapters, a CUDA GPU or bitsandbytes.
        precision: of the forward passes; `auto` is bfloat16 on a GPU that supports it, else float32.
        checkpointing: save memory by computing activations twice. Ignored without a GPU.
        save_every: optimizer steps between checkpoints; 0: at the end of every epoch.
        log_every: optimizer steps between two points of the loss curve.

    Raises:
        UsageError: a value is invalid.
    """

    learning_rate: float
    epochs: float = 1.0
    max_steps: int = 0
    batch: int = 16
    micro_batch: int = 0
    schedule: Schedule = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 2048
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    lora_rank: int = 0
    lora_alpha: int = 0
    lora_dropout: float = 0.0
    quantize: bool = False
    precision: Precision = "auto"
    checkpointing: bool = False
    save_every: int = 0
    log_every: int = 1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs", "batch", "max_length", "log_every"):
            _check(name, getattr(self, name), above=0)
        for name in ("max_steps", "micro_batch", "warmup", "weight_decay", "lora_rank", "lora_alpha", "save_every"):
            _check(name, getattr(self, name), least=0)
        if self.micro_batch and self.batch % self.micro_batch:
            raise UsageError(
                f"a batch of {self.batch} cannot be split into micro-batches of {self.micro_batch}; "
                f"choose a micro-batch that divides {self.batch}"
            )

    @property
    def at_once(self) -> int:
        """Examples processed at once."""
        return self.micro_batch or self.batch

    @property
    def accumulated(self) -> int:
        """Micro-batches per optimizer step."""
        return self.batch // self.at_once

    def overridden(self, **values: Any) -> Preset:
        """A copy with other values. None leaves a value unchanged.

        Raises:
            UsageError: a value is invalid, or its name is unknown.
        """
        known = {each.name for each in fields(self)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"a preset has no `{unknown[0]}`; it has {', '.join(sorted(known))}")
        return replace(self, **{name: value for name, value in values.items() if value is not None})


def _check(name: str, value: float, *, above: float | None = None, least: float | None = None) -> None:
    if (above is not None and value <= above) or (least is not None and value < least):
        bound = f"above {above:g}" if above is not None else f"at least {least:g}"
        raise UsageError(f"the training setting `{name}` is {value}; it must be {bound}")


def preset(name: str, method: Method) -> Preset:
    """The preset of that name for a method.

    Raises:
        UsageError: the preset does not exist.
    """
    match name:
        case "paper":
            return _paper(method)
        case "cpu":
            return _cpu(method)
        case "tiny":
            return _tiny(method)
        case _:
            raise UsageError(f"there is no preset `{name}`; choose one of: {', '.join(get_args(PresetName))}")


def _paper(method: Method) -> Preset:
    if method == "sft":
        return Preset(
            learning_rate=2e-5, epochs=3, batch=16, micro_batch=2, warmup=0.03, schedule="cosine", max_length=8192,
            checkpointing=True, log_every=5,
        )  # fmt: skip
    adapters = Preset(
        learning_rate=5e-7, batch=16, micro_batch=4, undesirable_weight=2.71, lora_rank=64, lora_alpha=64,
        quantize=True, max_length=8192, checkpointing=True, log_every=5,
    )  # fmt: skip
    return adapters.overridden(undesirable_weight=1.0) if method != "kto" else adapters


def _cpu(method: Method) -> Preset:
    small = Preset(
        learning_rate=1e-4, batch=8, micro_batch=4, lora_rank=16, lora_alpha=32, warmup=0.05, schedule="cosine",
        max_length=1536, precision="float32",
    )  # fmt: skip
    match method:
        case "sft":
            return small.overridden(epochs=2.0)
        case "kto" | "dpo":
            return small.overridden(learning_rate=5e-6)
        case "grpo":
            return small.overridden(learning_rate=1e-5, beta=0.0)


def _tiny(method: Method) -> Preset:
    scratch = Preset(learning_rate=6e-4, epochs=3, batch=8, schedule="cosine", max_length=1024, precision="float32")
    match method:
        case "sft":
            return scratch
        case "kto":
            return scratch.overridden(learning_rate=2e-4, epochs=1.0, batch=16)
        case "dpo":
            return scratch.overridden(learning_rate=2e-4, epochs=1.0)
        case "grpo":
            return scratch.overridden(
                learning_rate=3e-4, epochs=1.0, batch=32, micro_batch=16, beta=0.0, schedule="constant"
            )
