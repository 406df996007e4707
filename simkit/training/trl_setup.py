"""Interface to TRL and transformers: settings are parsed by TRL's own parser, and go to its trainers unchanged.

No other module uses their trainers directly.
"""

from __future__ import annotations

import logging
import warnings
from argparse import ArgumentError
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

from simkit.errors import UsageError
from simkit.local.gguf import model_folder
from simkit.plugins.extras import require
from simkit.training.config_files import Method
from simkit.training.jobs import TrainingJob
from simkit.training.rows import Row

EXTRA = "train"
NOISY = ("transformers", "trl", "peft", "datasets", "accelerate", "huggingface_hub")

ON_CPU: Mapping[str, Any] = {"use_cpu": True, "gradient_checkpointing": False, "dataloader_pin_memory": False}
"""Defaults of a training without a GPU; the precision follows from them."""

LONGEST_PRACTICE = 4096
"""Default of `max_completion_length`: tokens of a whole conversation behind its first prompt."""

OWN: Mapping[str, str] = {
    "output_dir": "give --out",
    "seed": "give --seed",
    "resume_from_checkpoint": "`simkit resume RUN` continues a training",
    "model_name_or_path": "give --model",
}
"""Fields that simkit sets itself, and what to do instead."""


@dataclass(frozen=True, slots=True)
class TrlSettings:
    """Settings of one training, as TRL has parsed them: `args` of the method's class, and its ModelConfig."""

    args: Any
    model: Any


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


def read_settings(job: TrainingJob) -> TrlSettings:
    """The settings of a job.

    Raises:
        UsageError: a setting does not exist, has an invalid value, or is one that simkit sets itself.
    """
    parser = settings_parser(job.method)
    own = [name for name in OWN if name in job.config and name != "model_name_or_path"]
    own += [name for name in OWN if {f"--{name}", f"--{name.replace('_', '-')}"} & set(job.flags)]
    if own:
        raise UsageError(f"`{own[0]}` is not taken from TRL's settings: {OWN[own[0]]}")
    unknown = sorted(set(job.config) - {action.dest for action in parser._actions})
    if unknown:
        raise UsageError(f"the configuration sets `{unknown[0]}`, {_no_field(parser, job.method, unknown[0])}")
    values = _parsed(parser, job, _defaults(job))
    if job.guard is not None and values["load_best_model_at_end"]:
        raise UsageError("the guard chooses the kept weights; leave out load_best_model_at_end, or give --guard none")
    if values["use_cpu"]:
        values = _parsed(parser, job, {**_defaults(job), **ON_CPU})
        values["bf16"] = bool(values["bf16"])  # TRL's default is True
    values |= {"output_dir": str(job.out), "seed": job.seed, "model_name_or_path": job.model}
    try:
        args, model = parser.parse_dict(values, allow_extra_keys=True)
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"TRL does not accept the settings: {error}") from error
    return TrlSettings(args, model)


def settings_parser(method: Method) -> Any:
    """TRL's parser of a method's settings and of its ModelConfig."""
    trl = require("trl", EXTRA)
    kinds = (getattr(trl, f"{method.upper()}Config"), trl.ModelConfig)
    return trl.TrlParser(kinds, prog=f"simkit train {method}", allow_abbrev=False, exit_on_error=False)


def _defaults(job: TrainingJob) -> dict[str, Any]:
    """Defaults where simkit's differ from TRL's."""
    common: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,
        "logging_first_step": True,
        "save_strategy": "no" if job.guard else "epoch",  # the guard saves what it measures
        "save_total_limit": 1,
        "eval_strategy": "epoch" if job.evaluation else "no",
        "data_seed": job.seed,
        "use_cpu": not _accelerated(),
    }
    return common | ({"max_completion_length": LONGEST_PRACTICE} if job.method == "grpo" else {})


def _accelerated() -> bool:
    torch = require("torch", EXTRA)
    return bool(torch.accelerator.is_available()) and not require("accelerate", EXTRA).utils.parse_flag_from_env(
        "ACCELERATE_USE_CPU"
    )


def _parsed(parser: Any, job: TrainingJob, defaults: Mapping[str, Any]) -> dict[str, Any]:
    parser.set_defaults_with_config(**{**defaults, **job.config})
    try:
        found, rest = parser.parse_known_args(list(job.flags))
    except ArgumentError as error:
        raise UsageError(f"TRL does not accept {error}") from error
    if rest:
        raise UsageError(f"`{rest[0]}` is no flag of simkit, and {_no_field(parser, job.method, rest[0])}")
    return dict(cast("dict[str, Any]", vars(found)))


def _no_field(parser: Any, method: Method, name: str) -> str:
    options = [f"--{action.dest}" for action in parser._actions]
    near = get_close_matches("--" + name.lstrip("-").partition("=")[0], options, 3, 0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`simkit train {method} --help-trl` lists them"
    return f"no field of TRL's {method.upper()}Config or ModelConfig; {hint}"


def build_trainer(
    job: TrainingJob, settings: TrlSettings, rows: Sequence[Row], evaluation: Sequence[Row] = (), **more: Any
) -> Any:
    """TRL's trainer for a job, on its rows.

    Raises:
        UsageError: the model does not exist, or TRL refuses the settings.
    """
    trl, datasets, transformers = require("trl", EXTRA), require("datasets", EXTRA), require("transformers", EXTRA)
    kind = getattr(trl, f"{job.method.upper()}Trainer")
    args, model = settings.args, settings.model
    args.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(args.model_init_kwargs or {}),
    }
    transformers.set_seed(job.seed)  # adapters are initialized before the trainer sets the seed
    try:
        built = kind(
            model=model_folder(job.model),
            args=args,
            train_dataset=datasets.Dataset.from_list(list(rows)),
            eval_dataset=datasets.Dataset.from_list(list(evaluation)) if evaluation else None,
            quantization_config=trl.get_quantization_config(model),
            peft_config=trl.get_peft_config(model),
            **more,
        )
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"`{job.model}` cannot be trained with these settings: {error}") from error
    built.remove_callback(transformers.PrinterCallback)
    return built


def callback(**handlers: Any) -> Any:
    """A callback for transformers' trainer. Each handler receives (arguments, state, control, **more)."""
    base = require("transformers", EXTRA).TrainerCallback
    methods = {name: _method(handler) for name, handler in handlers.items()}
    return type("SimkitCallback", (base,), methods)()


def _method(handler: Any) -> Any:
    def method(_self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        handler(args, state, control, **more)

    return method
