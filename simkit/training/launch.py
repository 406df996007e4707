"""Trainings in processes of their own, which a launcher such as `torchrun --nproc_per_node 8` may start."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.training.jobs import TrainingJob, TrainingResult
from simkit.training.process import Answer, Ask, child_environment, run_in_processes

LIBRARIES = ("torch", "transformers", "trl", "datasets", "peft")
"""Libraries that a training imports; their presence is checked before its run begins."""

_PROCESSES = re.compile(r"--(?:num|nproc)[_-](?:processes|per[_-]node)(?:[= ])(\d+)")


def launched(command: str | None) -> tuple[tuple[str, ...], int | None]:
    """A launcher's command as arguments, and the number of processes that it names; None if it names none.

    Raises:
        UsageError: the command is not found.
    """
    words = tuple(shlex.split(command or ""))
    if not words:
        return (), 1
    if shutil.which(words[0]) is None:
        raise UsageError(f"--launcher {command}: there is no command `{words[0]}` here; install it, or give its path")
    named = _PROCESSES.search(command or "")
    return words, None if named is None else int(named[1])


async def train_in_process(job: TrainingJob, answer: Answer) -> TrainingResult:
    """Run `train` in processes of its own. `answer` is called in this one with what they tell and ask, see `train`.

    A training that was cancelled continues from its last checkpoint when the same job is started again.

    Raises:
        UsageError: the training's own error, or its processes failed; the message ends with their last output.
    """
    return await run_in_processes(_train, job, answer, environment=environment_of(job), launcher=job.launcher)


def _train(job: TrainingJob, ask: Ask) -> TrainingResult:
    from simkit.training.trainer import train

    torch = require("torch", "train")
    if job.threads or not torch.cuda.is_available():
        torch.set_num_threads(job.threads or 1)
    return train(job, ask)


def environment_of(job: TrainingJob) -> Mapping[str, str]:
    """The environment of a training's processes. One process has one device.

    A model in a folder needs no access to the hub, unless what becomes of it is to be uploaded.
    """
    own: dict[str, str] = {}
    uploads = job.config.get("push_to_hub") or any(flag.replace("-", "_") == "__push_to_hub" for flag in job.flags)
    if Path(job.model).is_dir() and not uploads:
        own |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if not job.launcher:
        own["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return child_environment(**own)
