"""Child processes for functions that need torch: they keep the event loop free and release memory at the end.

A function and its job go to the child as a pickle, through its standard input. The child answers on its standard output
in lines of JSON: the messages that the function sends, then its result or its error. `simkit.core.child_process` has
what all child processes share.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import anyio
import anyio.abc
import orjson

import simkit.errors as errors
from simkit.core import child_process
from simkit.core.child_process import LastLines, each_line, exit_with_input, own_output
from simkit.errors import SimkitError, UsageError
from simkit.training.jobs import TrainingMetrics

J = TypeVar("J")
Message: TypeAlias = Mapping[str, Any]
Send: TypeAlias = Callable[[Message], object]

MODULE = "simkit.training.process"
LIBRARIES = ("torch", "transformers", "trl", "datasets", "peft")
"""Libraries that a training imports; their presence is checked before its process is started."""


# --- the parent's side ------------------------------------------------------------------------------------------------


async def run_in_child(
    function: Callable[[J, Send], object],
    job: J,
    on_message: Callable[[Message], object],
    environment: Mapping[str, str],
) -> Any:
    """Call `function(job, send)` in a child process and return its result. Cancelling kills the process.

    Args:
        function: a function of a module; what it sends and returns are values of JSON.
        job: its argument; it must be picklable.
        on_message: called with every message that the function sends.
        environment: the child's environment variables, see `child_environment`.

    Raises:
        UsageError: the function's own error, or the process failed; the message ends with the process's last output.
    """
    async with await child_process.open_child(MODULE, environment) as process:
        assert process.stdin is not None
        output = _Output(on_message)
        async with anyio.create_task_group() as group:
            group.start_soon(_send_all, process.stdin, pickle.dumps((function, job)))
            group.start_soon(output.errors.read, process)
            await output.read(process)
        code = await process.wait()
    return output.result(code)


def child_environment(**variables: str) -> Mapping[str, str]:
    """This process's environment for a child, with telemetry and progress bars of the libraries switched off."""
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return child_process.child_environment(**quiet, **variables)


async def _send_all(stream: anyio.abc.ByteSendStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except anyio.BrokenResourceError:
        return  # the child has failed already; its output says why


class _Output:
    """Output of a child process, read as it arrives."""

    def __init__(self, on_message: Callable[[Message], object]) -> None:
        self._on_message = on_message
        self._last: Message = {}
        self.errors = LastLines()

    async def read(self, process: anyio.abc.Process) -> None:
        """Read messages until the process closes its output."""
        assert process.stdout is not None
        async for line in each_line(process.stdout):
            message = cast("dict[str, Any]", orjson.loads(line))
            if "result" in message or "error" in message:
                self._last = message
            else:
                self._on_message(message)

    def result(self, code: int) -> Any:
        """The function's result; raises its error."""
        if "result" in self._last:
            return self._last["result"]
        if "error" in self._last:
            raise _error(self._last["error"], self._last["message"])
        raise UsageError(f"the process ended with code {code} before it had a result; its last output:\n{self.errors}")


def _error(name: str, message: str) -> SimkitError:
    kind = getattr(errors, name, UsageError)
    return kind(message) if issubclass(kind, UsageError) else UsageError(message)


def describe(metrics: TrainingMetrics, names: Sequence[str] = ("loss", "reward", "success", "valid_calls")) -> str:
    """One line about metrics, for progress displays."""
    shown = [f"{name.replace('_', ' ')} {metrics.values[name]:.3g}" for name in names if name in metrics.values]
    steps = metrics.values.get("steps")
    of = f" of {steps:.0f}" if steps else ""
    what = "guard on dev goals" if metrics.stage == "guard" else "training"
    return f"{what}: step {metrics.step}{of}" + "".join(f", {each}" for each in shown)


# --- the child's side -------------------------------------------------------------------------------------------------


def main() -> int:
    """Call the function and send its result; the exit code is 0 unless something failed that is not a `SimkitError`."""
    out = own_output()

    def send(message: Message) -> None:
        out.write(orjson.dumps(message) + b"\n")

    function, job = pickle.load(sys.stdin.buffer)
    threading.Thread(target=exit_with_input, daemon=True).start()
    try:
        result = function(job, send)
    except SimkitError as error:
        send({"error": type(error).__name__, "message": str(error)})
    else:
        send({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
