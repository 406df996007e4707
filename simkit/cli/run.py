"""Runs one recipe in the terminal: signals, progress, the summary, and the exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import anyio
import typer

from simkit.cli.failure import readable_bugs
from simkit.cli.notes import print_notes
from simkit.cli.output import BROKEN_PIPE, say
from simkit.cli.program import program, store_flag
from simkit.cli.progress import progress_for
from simkit.cli.report import Report, print_report
from simkit.engine import FaultPolicy, is_faulted, sole_error
from simkit.errors import OutputLost, RunStopped
from simkit.loops import fast_loop
from simkit.models.choices import ModelChoices
from simkit.observe import Tap
from simkit.recipe import Recipe
from simkit.run import Run
from simkit.summary import Summary

INTERRUPTED = 130
SHOW_CURSOR = b"\x1b[?25h\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonFlags:
    """The flags of every run, as they were given."""

    concurrency: int | None
    seed: int | None
    store: Path | None
    name: str
    fail_fast: bool
    max_faults: float
    json: bool
    quiet: bool
    log: Path | None = None
    otel: bool = False
    replay: str | None = None
    trust_env_file: bool = False
    models: ModelChoices = field(default_factory=ModelChoices)


def execute(run: Run, recipe: Recipe, common: CommonFlags, values: Mapping[str, Any]) -> None:
    """Run a recipe to its end and exit with its code."""
    with readable_bugs():
        try:
            result = anyio.run(_play, recipe, run, values, backend_options={"loop_factory": fast_loop()})
        except RunStopped:
            _tell(run, None, common)
            raise
        lost = _tell(run, result, common)
    if run.status == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if run.problem:
        say(f"some episodes failed per policy: {run.problem}", err=True)
        raise typer.Exit(1)
    if lost is not None:
        raise typer.Exit(lost)


def _tell(run: Run, result: object, common: CommonFlags) -> int | None:
    """Print the report; when stdout takes none, say where the run is and return the code that says so."""
    try:
        print_report(_report(run, result), as_json=common.json, quiet=common.quiet)
    except OutputLost as error:
        again = f"{program()} show {run.id}{store_flag(run.store.path)}"
        say(f"the run {run.id} is stored in {run.store.path}, but {error}; to see it: {again}", err=True)
        return BROKEN_PIPE if error.broken_pipe else 1
    finally:
        print_notes(run.notes)
    return None


def open_run(
    recipe: Recipe, target: str, common: CommonFlags, values: Mapping[str, Any], *, resume: str | None = None
) -> Run:
    """The run that these flags ask for, not yet entered; `target` is how the user named the recipe.

    Raises:
        UsageError: a flag cannot be used, or a run to be resumed was configured otherwise.
    """
    with readable_bugs():
        policy = FaultPolicy(fail_fast=common.fail_fast, max_share=common.max_faults)
        config = {name: _plain(value) for name, value in values.items()}
        return Run(
            store=common.store,
            name=common.name,
            recipe=recipe.name,
            seed=common.seed,
            concurrency=common.concurrency,
            policy=policy,
            config={"target": target, **config, "fail_fast": common.fail_fast, "max_faults": common.max_faults},
            progress=None if common.quiet else progress_for(sys.stderr),
            models=common.models,
            replay=common.replay,
            resume=resume,
            taps=_taps(common),
        )


def _taps(common: CommonFlags) -> tuple[Tap, ...]:
    taps: list[Tap] = []
    if common.log is not None:
        from simkit.logs import open_log

        taps.append(open_log(common.log))
    if common.otel:
        from simkit.telemetry import Telemetry

        taps.append(Telemetry.from_environment())
    return tuple(taps)


async def _play(recipe: Recipe, run: Run, values: Mapping[str, Any]) -> object:
    result: object = None
    try:
        with _signals() as signals:
            async with anyio.create_task_group() as group:
                group.start_soon(_stop_on_signal, run, signals)
                async with run:
                    result = await recipe.function(run, **values)
                group.cancel_scope.cancel()
    except ExceptionGroup as errors:
        raise sole_error(errors) from errors
    return result


async def _stop_on_signal(run: Run, signals: AsyncIterator[signal.Signals]) -> None:
    stopping = False
    async for _ in signals:
        if stopping:
            _leave_at_once()
        stopping = True
        run.stop()
        if not sys.stderr.isatty():  # on a terminal the display says it, and would wipe it away
            say("stopping; what is recorded is kept (again: stop at once)", err=True)


def _leave_at_once() -> NoReturn:
    """End the process now. The journal is written outside its memory: nothing acknowledged is lost."""
    if sys.stderr.isatty():
        with suppress(OSError):
            os.write(sys.stderr.fileno(), SHOW_CURSOR)  # the live display has hidden it
    os._exit(INTERRUPTED)


@contextmanager
def _signals() -> Generator[AsyncIterator[signal.Signals]]:
    if threading.current_thread() is not threading.main_thread():
        yield _never()  # signals are delivered to the main thread only
        return
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        yield signals


async def _never() -> AsyncIterator[signal.Signals]:
    await anyio.sleep_forever()
    yield signal.SIGINT


def _report(run: Run, result: object) -> Report:
    match result:
        case Summary():
            summary = result
        case Mapping():
            extra: dict[str, Any] = {str(key): value for key, value in result.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            summary = run.summary(**extra)
        case _:
            summary = run.summary()
    return Report(
        run_id=run.id,
        name=run.name,
        recipe=run.recipe,
        status=run.status,
        store=run.store.path,
        seconds=run.tally.seconds,
        summary=summary,
        fault=next((one.error for one in run.tally.episodes if is_faulted(one)), None),
        models=run.tally.to_json().get("models", {}),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[Any]", value)]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
