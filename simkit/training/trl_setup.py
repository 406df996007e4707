"""Interface to TRL and transformers: settings are parsed by TRL's own parser, and go to its trainers unchanged.

No other module uses their trainers directly.
"""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from simkit.errors import UsageError
from simkit.local.gguf import model_folder
from simkit.plugins.extras import require
from simkit.training.config_files import Method
from simkit.training.jobs import TrainingJob
from simkit.training.rows import Row
from simkit.training.settings_names import check_names

EXTRA = "train"

ON_CPU: Mapping[str, Any] = {"use_cpu": True, "gradient_checkpointing": False, "dataloader_pin_memory": False}
"""Defaults of a training without a GPU; the precision follows from them."""

LONGEST_PRACTICE = 4096
"""Default of `max_completion_length`: tokens of a whole conversation behind its first prompt."""

PATIENCE = 24 * 3600
"""Default of `ddp_timeout`, in seconds: how long processes wait for the one that plays (TRL: half an hour)."""


@dataclass(frozen=True, slots=True)
class TrlSettings:
    """Settings of one training, as TRL has parsed them: `args` of the method's class, and its ModelConfig."""

    args: Any
    model: Any


def read_settings(job: TrainingJob) -> TrlSettings:
    """The settings of a job.

    Raises:
        UsageError: a setting does not exist, has an invalid value, or is one that simkit sets itself.
    """
    check_names(job.method, job.config, job.flags)
    parser = settings_parser(job.method)
    values = _parsed(parser, job, _defaults(job))
    if job.guard is not None and values["load_best_model_at_end"]:
        raise UsageError("the guard chooses the kept weights; leave out load_best_model_at_end, or give --guard none")
    if values["use_cpu"]:
        values = _parsed(parser, job, {**_defaults(job), **ON_CPU})
        values["bf16"] = bool(values["bf16"])  # TRL's default is True
    if job.method == "sft":
        values["assistant_only_loss"] = False  # labels say what is learned
    values |= {"output_dir": str(job.out), "seed": job.seed, "model_name_or_path": job.model}
    try:
        return TrlSettings(*parser.parse_dict(values))
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"TRL does not accept the settings: {error}") from error


def settings_parser(method: Method) -> Any:
    """TRL's parser of a method's settings and of its ModelConfig."""
    trl = require("trl", EXTRA)
    kinds = (getattr(trl, f"{method.upper()}Config"), trl.ModelConfig)
    return trl.TrlParser(kinds, prog=f"simkit train {method}", allow_abbrev=False, exit_on_error=False)


def _defaults(job: TrainingJob) -> dict[str, Any]:
    """Defaults where simkit's differ from TRL's."""
    values: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,
        "logging_first_step": True,
        "save_strategy": "no" if job.guard else "epoch",  # the guard saves what it measures
        "save_total_limit": 1,
        "eval_strategy": "epoch" if job.evaluation else "no",
        "data_seed": job.seed,
        "use_cpu": not _accelerated(),
    }
    if job.guard or job.practice:
        values["ddp_timeout"] = PATIENCE
    if job.practice:
        values["max_completion_length"] = LONGEST_PRACTICE
    return values


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
    rest += [name for name in job.config if name not in vars(found)]
    if rest:
        raise UsageError(f"`{rest[0]}` is neither a flag of simkit nor a setting of TRL")
    return dict(cast("dict[str, Any]", vars(found)))


def build_trainer(
    job: TrainingJob, settings: TrlSettings, rows: Sequence[Row], evaluation: Sequence[Row] = (), **more: Any
) -> Any:
    """TRL's trainer for a job, on its rows.

    Raises:
        UsageError: the model does not exist, or TRL refuses the settings.
    """
    trl, data, transformers = require("trl", EXTRA), require("datasets", EXTRA).Dataset, require("transformers", EXTRA)
    args, model = settings.args, settings.model
    args.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(args.model_init_kwargs or {}),
    }
    transformers.set_seed(job.seed)  # adapters are initialized before the trainer sets the seed
    try:
        built = getattr(trl, f"{job.method.upper()}Trainer")(
            model=model_folder(job.model),
            args=args,
            train_dataset=data.from_list(list(rows)),
            eval_dataset=data.from_list(list(evaluation)) if evaluation else None,
            quantization_config=trl.get_quantization_config(model),
            peft_config=trl.get_peft_config(model),
            **more,
        )
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"`{job.model}` cannot be trained with these settings: {error}") from error
    built.remove_callback(transformers.PrinterCallback)
    return built
