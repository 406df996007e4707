"""Interface to transformers, TRL and peft for training. No other module uses their trainers directly."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simkit.errors import UsageError
from simkit.local.gguf import model_folder
from simkit.plugins.extras import require
from simkit.training.presets import Preset
from simkit.training.rows import Row

EXTRA = "train"
NOISY = ("transformers", "trl", "peft", "datasets", "accelerate", "huggingface_hub")


@contextmanager
def quiet() -> Generator[None]:
    """Silence the libraries' progress bars and warnings, and restore them at the end."""
    hub, data = require("transformers", EXTRA).utils.logging, require("datasets", EXTRA)
    loggers = {name: logging.getLogger(name) for name in NOISY}
    levels = {name: logger.level for name, logger in loggers.items()}
    drawing, mapping = hub.is_progress_bar_enabled(), data.are_progress_bars_disabled()
    hub.disable_progress_bar()
    data.disable_progress_bars()
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
        if drawing:
            hub.enable_progress_bar()
        if not mapping:
            data.enable_progress_bars()


def has_gpu() -> bool:
    """Whether torch can use a CUDA GPU."""
    return bool(require("torch", EXTRA).cuda.is_available())


def in_bfloat16(preset: Preset) -> bool:
    """Whether forward passes use bfloat16: if the preset asks for it, or with `auto` on a GPU that supports it."""
    torch = require("torch", EXTRA)
    match preset.precision:
        case "bfloat16":
            return True
        case "float32":
            return False
        case "auto":
            return has_gpu() and bool(torch.cuda.is_bf16_supported())


def load_model(path: str, preset: Preset) -> Any:
    """Load the model to train; its trainer moves it to a device.

    Trained weights are float32 unless the preset asks for bfloat16. Frozen weights are as small as the preset allows.

    Raises:
        UsageError: the model does not exist.
    """
    torch, transformers = require("torch", EXTRA), require("transformers", EXTRA)
    small = preset.precision == "bfloat16" or (preset.lora_rank > 0 and in_bfloat16(preset))
    options: dict[str, Any] = {"dtype": torch.bfloat16 if small else torch.float32}
    if _quantised(preset):
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        options["device_map"] = {"": 0}
    folder = model_folder(path)
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no model at `{path}`: {str(error).splitlines()[0]}; "
            "give the folder of a model, or its name at Hugging Face"
        ) from error


def _quantised(preset: Preset) -> bool:
    return preset.quantize and preset.lora_rank > 0 and has_gpu() and find_spec("bitsandbytes") is not None


def adapters(preset: Preset) -> Any:
    """LoRA configuration for all linear layers; None if all weights are trained."""
    if not preset.lora_rank:
        return None
    return require("peft", EXTRA).LoraConfig(
        r=preset.lora_rank,
        lora_alpha=preset.lora_alpha or preset.lora_rank,
        lora_dropout=preset.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def arguments(preset: Preset, folder: Path, seed: int, save_every: int) -> dict[str, Any]:
    """Arguments common to all of TRL's trainers. `save_every` 0 saves at the end of every epoch."""
    return {
        "output_dir": str(folder),
        "learning_rate": preset.learning_rate,
        "num_train_epochs": preset.epochs,
        "max_steps": preset.max_steps or -1,
        "per_device_train_batch_size": preset.at_once,
        "gradient_accumulation_steps": preset.accumulated,
        "lr_scheduler_type": preset.schedule,
        "warmup_steps": preset.warmup,
        "weight_decay": preset.weight_decay,
        "max_grad_norm": preset.max_grad_norm,
        "bf16": in_bfloat16(preset) and has_gpu(),
        "fp16": False,
        "use_cpu": not has_gpu(),
        "gradient_checkpointing": preset.checkpointing and has_gpu(),
        "logging_steps": preset.log_every,
        "logging_first_step": True,
        "save_strategy": "steps" if save_every else "epoch",
        "save_steps": save_every or 500,
        "seed": seed,
        "data_seed": seed,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": has_gpu(),
        "push_to_hub": False,
    }


def trainer(
    method: str, model: Any, rows: Sequence[Row], arguments: Mapping[str, Any], preset: Preset, **more: Any
) -> Any:
    """TRL's trainer for a method."""
    trl, datasets = require("trl", EXTRA), require("datasets", EXTRA)
    base, config = getattr(trl, f"{method.upper()}Trainer"), getattr(trl, f"{method.upper()}Config")
    kind = type(f"Simkit{base.__name__}", (base,), {"create_model_card": _no_card})
    transformers = require("transformers", EXTRA)
    transformers.set_seed(arguments["seed"])  # adapters are initialized before the trainer sets the seed
    built = kind(
        model=model,
        args=config(**arguments, **_own(method, preset)),
        train_dataset=datasets.Dataset.from_list(list(rows)),
        peft_config=adapters(preset),
        **more,
    )
    built.remove_callback(transformers.PrinterCallback)
    return built


def grpo_trainer(model: Any, rows: Sequence[Row], arguments: Mapping[str, Any], preset: Preset, **more: Any) -> Any:
    """TRL's trainer for GRPO. Its rewards come from `rollout_func`, in the field `episode_reward`."""
    trl, datasets, transformers = require("trl", EXTRA), require("datasets", EXTRA), require("transformers", EXTRA)
    kind = type("SimkitGRPOTrainer", (trl.GRPOTrainer,), {"create_model_card": _no_card})
    transformers.set_seed(arguments["seed"])
    built = kind(
        model=model,
        reward_funcs=[_episode_reward],
        args=trl.GRPOConfig(**arguments),
        train_dataset=datasets.Dataset.from_list(list(rows)),
        peft_config=adapters(preset),
        **more,
    )
    built.remove_callback(transformers.PrinterCallback)
    return built


def _episode_reward(episode_reward: Sequence[float | None], **_more: Any) -> list[float | None]:
    """The rewards of the episodes. None excludes a conversation from its group."""
    return list(episode_reward)


def _own(method: str, preset: Preset) -> dict[str, Any]:
    match method:
        case "sft":
            return {"max_length": preset.max_length, "packing": False}
        case "kto":
            weights = {name: getattr(preset, name) for name in ("desirable_weight", "undesirable_weight")}
            return {"max_length": preset.max_length, "beta": preset.beta, **weights}
        case "dpo":
            return {"max_length": preset.max_length, "beta": preset.beta}
        case _:
            return {}


def _no_card(_trainer: Any, *_args: Any, **_options: Any) -> None:
    """Replacement that writes no model card: the folder's own records describe the training."""


def callback(**handlers: Any) -> Any:
    """A callback for transformers' trainer. Each handler receives (arguments, state, control, **more)."""
    base = require("transformers", EXTRA).TrainerCallback
    methods = {name: _method(handler) for name, handler in handlers.items()}
    return type("SimkitCallback", (base,), methods)()


def _method(handler: Any) -> Any:
    def method(_self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        handler(args, state, control, **more)

    return method
