"""Trainings in processes of their own: they keep the event loop free, can be cancelled, and may be several.

A launcher, such as `torchrun --nproc_per_node 8`, starts the processes; without one there is a single process on one
device. The job is a file in a private folder, in which the processes also find the link to this one.
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import anyio

from simkit.core.child_process import LastLines
from simkit.errors import UsageError
from simkit.plugins.extras import check_installed
from simkit.run.contract import unpacked_error
from simkit.training.jobs import OnMetrics, TrainingJob, TrainingMetrics, TrainingResult, ignore_metrics
from simkit.training.link import Failure, listening
from simkit.training.play import WithPolicy
from simkit.training.process import LIBRARIES, child_environment

MODULE = "simkit.training.rank"
JOB, SOCKET = "job", "link"
"""Names of the job's file and of the link in the private folder."""

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


Play: TypeAlias = Callable[[WithPolicy], Awaitable[Any]]
"""Plays conversations with a model that a training process serves."""


async def train_in_process(
    job: TrainingJob, on_metrics: OnMetrics = ignore_metrics, play: Play | None = None
) -> TrainingResult:
    """Run `train` in processes of its own; `on_metrics` is called in this one.

    A training that was cancelled continues from its last checkpoint when the same job is started again. `play` plays
    the conversations of the guard and of grpo here; without it the processes play them, and nothing is recorded.

    Raises:
        UsageError: the training's own error, or its processes failed; the message ends with their last output.
    """
    check_installed("train", *LIBRARIES)
    folder = Path(tempfile.mkdtemp(prefix="simkit-"))  # private to this user
    try:
        outcome = _Outcome(on_metrics, play)
        (folder / JOB).write_bytes(pickle.dumps((job, play is not None)))
        async with listening(folder / SOCKET, outcome.answer):
            code = await _run(job, folder, outcome)
        return outcome.result(code)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(job: TrainingJob, folder: Path, outcome: _Outcome) -> int:
    launcher = job.launcher or (sys.executable,)
    async with await anyio.open_process(
        [*launcher, "-m", MODULE, str(folder)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env=environment_of(job),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        await outcome.lines.read_from(process.stdout)
        return await process.wait()


class _Outcome:
    """What the processes of a training have told."""

    def __init__(self, on_metrics: OnMetrics, play: Play | None) -> None:
        self.lines = LastLines()
        self._on_metrics = on_metrics
        self._play = play
        self._result: TrainingResult | None = None
        self._error: BaseException | None = None

    async def answer(self, message: Any) -> Any:
        """Take a message."""
        match message:
            case WithPolicy() if self._play is not None:
                return await self._play(message)
            case TrainingMetrics():
                self._on_metrics(message)
            case TrainingResult():
                self._result = message
            case Failure():
                self._error = self._error or unpacked_error(message.error)
            case _:
                raise UsageError(f"a training process sent {type(message).__name__}, which is no message")
        return None

    def result(self, code: int) -> TrainingResult:
        """The training's result; raises its error."""
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise UsageError(
                f"the training ended with code {code} before it had a result; its last output:\n{self.lines}"
            )
        return self._result


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
