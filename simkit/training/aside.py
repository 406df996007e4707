"""Training in a process of its own: the event loop stays free, the memory is given back, and a cancellation kills it.

The job goes to the process through its input, metrics and the result come back through its output, a line each.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio
import anyio.abc
import orjson

import simkit.errors as errors
from simkit.errors import SimkitError, UsageError
from simkit.plugins.extras import check_installed
from simkit.training.grpo import GrpoJob
from simkit.training.jobs import Metrics, OnMetrics, Trained, TrainingJob
from simkit.training.trainer import unheard

Job: TypeAlias = TrainingJob | GrpoJob

COMMAND = ("-m", "simkit.training.worker")
LIBRARIES = ("torch", "transformers", "trl", "datasets", "peft", "matplotlib")
"""What a training's process imports: looked for before it is started."""

TAIL = 20
"""Lines of a failed process's own words that are shown."""


async def train_aside(job: Job, on_metrics: OnMetrics = unheard) -> Trained:
    """Do what `train` or `train_grpo` does, in a process of its own; `on_metrics` is called in this one.

    Cancelled, it kills the process; what was checkpointed is gone on from when the job is asked for again.

    Raises:
        UsageError: what the training raises, or that its process failed, with its last words.
    """
    check_installed("train", *LIBRARIES)
    command = (sys.executable, *COMMAND)
    async with await anyio.open_process(command, env=environment(job)) as process:
        assert process.stdin is not None
        answer = _Answer(on_metrics)
        async with anyio.create_task_group() as group:
            group.start_soon(_hand_over, process.stdin, pickle.dumps(job))
            group.start_soon(answer.follow_errors, process)
            await answer.follow(process)
        code = await process.wait()
    return answer.result(code)


def environment(job: Job) -> Mapping[str, str]:
    """What the process is told: nothing is reported to anybody, and a model in a folder asks nothing of the hub."""
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "WANDB_DISABLED": "true",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    if Path(job.model).is_dir():
        quiet |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {**os.environ, **quiet}


async def _hand_over(stream: anyio.abc.ByteSendStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except anyio.BrokenResourceError:
        return  # it has failed already, and says why
    finally:
        await stream.aclose()


class _Answer:
    """What the process says, as it comes."""

    def __init__(self, on_metrics: OnMetrics) -> None:
        self._on_metrics = on_metrics
        self._last: Mapping[str, Any] = {}
        self._words: list[str] = []

    async def follow(self, process: anyio.abc.Process) -> None:
        """Read its lines until it ends."""
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            told = cast("dict[str, Any]", orjson.loads(line))
            if "stage" in told:
                self._on_metrics(Metrics(told["stage"], told["step"], told["values"]))
            else:
                self._last = told

    async def follow_errors(self, process: anyio.abc.Process) -> None:
        """Keep its last words."""
        assert process.stderr is not None
        async for line in _lines(process.stderr):
            self._words = [*self._words, line.decode(errors="replace").rstrip()][-TAIL:]

    def result(self, code: int) -> Trained:
        """What came of it."""
        if "trained" in self._last:
            return Trained.from_json(self._last["trained"])
        if "error" in self._last:
            raise _error(self._last["error"], self._last["message"])
        words = "\n".join(self._words) or "it said nothing"
        raise UsageError(f"the training's process ended with code {code} and no result; its last words:\n{words}")


def _error(name: str, message: str) -> SimkitError:
    kind = getattr(errors, name, UsageError)
    return kind(message) if issubclass(kind, UsageError) else UsageError(message)


async def _lines(stream: anyio.abc.ByteReceiveStream) -> AsyncGenerator[bytes]:
    rest = b""
    async for chunk in stream:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


def encoded(value: Mapping[str, Any]) -> bytes:
    """One line of the process's output."""
    return orjson.dumps(value) + b"\n"


def describe(metrics: Metrics, names: Sequence[str] = ("loss", "reward", "success", "valid_calls")) -> str:
    """Metrics in a few words, for progress displays."""
    shown = [f"{name.replace('_', ' ')} {metrics.values[name]:.3g}" for name in names if name in metrics.values]
    steps = metrics.values.get("steps")
    of = f" of {steps:.0f}" if steps else ""
    what = "guard on dev goals" if metrics.stage == "guard" else "training"
    return f"{what}: step {metrics.step}{of}" + "".join(f", {each}" for each in shown)
