"""Runs one recipe in the terminal: progress, the summary, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, chdir, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, assert_never, cast
from urllib.parse import quote

from simkit.cli.failure import print_traceback, readable_bugs
from simkit.cli.output import BROKEN_PIPE, say
from simkit.cli.process import INTERRUPTED, leave, run_process
from simkit.cli.program import print_notes, program, store_flag
from simkit.cli.progress import progress_for
from simkit.cli.report import Report, print_report
from simkit.cli.watching import OwnViewer, watched
from simkit.core.limits import ASK_TIMEOUT
from simkit.core.values import shown
from simkit.errors import OutputLost, RunStopped, SimkitError
from simkit.models.config import ModelConfig
from simkit.monitoring.reply_flags import REPLY_FLAGS, are_local
from simkit.plugins.component_paths import BaseFolders
from simkit.plugins.recipe import Recipe
from simkit.run.engine import FaultPolicy, is_faulted
from simkit.run.engine_names import exposure
from simkit.run.observers import Tap
from simkit.run.processes import workers_of
from simkit.run.run import Run
from simkit.run.settings import read_settings
from simkit.run.summary import Summary
from simkit.store import Store
from simkit.store.watchers import watched_at


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonFlags:
    """The flags of every run, as given."""

    concurrency: int | None
    seed: int | None
    store: Path | None
    name: str
    fail_fast: bool
    max_faults: float
    json: bool
    quiet: bool
    view: bool = False
    workers: str | None = None
    engine: str | None = None
    shard: str | None = None
    log: Path | None = None
    otel: bool = False
    durable: bool = False
    replay: str | None = None
    ask_timeout: float = ASK_TIMEOUT
    trust_env_file: bool = False
    shared: bool = False
    retry_faulted: bool = False
    models: ModelConfig = field(default_factory=ModelConfig)

    def kept(self) -> dict[str, Any]:
        """The flags that a resumed run inherits if they are not given again."""
        return {
            "fail_fast": self.fail_fast,
            "max_faults": self.max_faults,
            "ask_timeout": self.ask_timeout,
            "durable": self.durable,
        }


def standing_in(folder: Path | None) -> AbstractContextManager[object]:
    """Enter a folder for a run that was started there; None changes nothing."""
    return nullcontext() if folder is None else chdir(folder)


def execute(
    run: Run,
    recipe: Recipe,
    common: CommonFlags,
    values: Mapping[str, Any],
    *,
    folder: Path | None = None,
    run_id: str | None = None,
) -> None:
    """Run a recipe to its end, in `folder` if given, and exit with its code; `run_id` is that of a resumed run."""
    path, name = _store_path(common), run_id or getattr(run, "id", None)
    with watched(path, f"/runs/{quote(name, safe='')}" if name else "/", wanted=common.view) as viewer:
        code = _executed(run, recipe, common, values, folder, viewer)
        if viewer is not None:
            viewer.stay(path)
    leave(run, code)


def _executed(
    run: Run,
    recipe: Recipe,
    common: CommonFlags,
    values: Mapping[str, Any],
    folder: Path | None,
    viewer: OwnViewer | None,
) -> int:
    """Run a recipe to its end and report; returns the exit code."""
    with readable_bugs():
        try:
            with standing_in(folder):
                result = run_process(run, partial(_play, recipe, run, values))
        except RunStopped:
            _print_report(run, None, common)
            if viewer is not None:
                viewer.stay(_store_path(common))
            raise
        except SystemExit as left:
            raise SimkitError(
                f"the recipe `{recipe.name}` ended itself ({_exit_call(left)}), so the run has failed; let it return, "
                "or raise an error that says what is wrong"
            ) from left
        lost = _print_report(run, result, common)
    code = exit_code(run)
    fault = run.progress.first_fault()
    if fault is not None:
        print_traceback(fault)
    if code == 1:
        say(f"the run is not done: {run.problem}", err=True)
    return code or lost or 0


def _store_path(common: CommonFlags) -> Path:
    return Path(common.store or read_settings().store).absolute()


def _print_report(run: Run, result: object, common: CommonFlags) -> int | None:
    """Print the report; if stdout cannot be written, return the matching code, and report where the run is stored.

    Nothing is reported if the reader of a pipe has gone away.
    """
    try:
        print_report(_report(run, result), as_json=common.json, quiet=common.quiet)
    except OutputLost as error:
        if error.broken_pipe:
            return BROKEN_PIPE
        again = f"{program()} show {run.id}{store_flag(run.store.path)}"
        say(f"the run {run.id} is stored in {run.store.path}, but {error}; to see it: {again}", err=True)
        return 1
    finally:
        print_notes(run.notes)
    return None


def exit_code(run: Run) -> int:
    """Exit code: 0 if everything planned was played and few episodes faulted, 130 if interrupted, else 1."""
    match run.status:
        case "done":
            return 0
        case "interrupted":
            return INTERRUPTED
        case "running" | "failed" | "stopped":
            return 1
        case _:
            assert_never(run.status)


def _exit_call(left: SystemExit) -> str:
    return "sys.exit()" if left.code is None else f"sys.exit({shown(left.code)})"


def open_run(
    recipe: Recipe,
    target: str,
    common: CommonFlags,
    values: Mapping[str, Any],
    folders: BaseFolders,
    *,
    resume: str | None = None,
) -> Run:
    """The run for these flags, not yet entered.

    `target` is the recipe's name as given; file names among the values are relative to the folders in `folders`.

    Raises:
        UsageError: a flag cannot be used, or the run to resume has another configuration.
    """
    with readable_bugs():
        policy = FaultPolicy(
            fail_fast=common.fail_fast, max_share=common.max_faults, retry=common.retry_faulted, raises=False
        )
        if common.shared:
            Store(common.store or read_settings().store, shared=True)
        config = {name: _plain(value) for name, value in values.items()}
        run = Run(
            store=common.store,
            name=common.name,
            recipe=recipe.name,
            seed=common.seed,
            concurrency=common.concurrency,
            policy=policy,
            config={"target": target, **config, **common.kept()},
            durable=common.durable,
            progress=None if common.quiet else progress_for(sys.stderr, partial(watched_at, _store_path(common))),
            models=common.models,
            replay=common.replay,
            resume=resume,
            taps=_taps(common),
            ask_timeout=common.ask_timeout,
            folders=folders,
            workers=None if common.workers is None else workers_of(common.workers),
            engine=common.engine,
            shard=common.shard,
        )
        if (exposed := exposure(common.engine)) is not None:
            say(exposed, err=True)
        return run


def _taps(common: CommonFlags) -> tuple[Tap, ...]:
    taps: list[Tap] = []
    if common.log is not None:
        from simkit.monitoring.event_log import open_log

        taps.append(open_log(common.log))
    if common.otel:
        from simkit.monitoring.telemetry import Telemetry

        taps.append(Telemetry.from_environment())
    return tuple(taps)


async def _play(recipe: Recipe, run: Run, values: Mapping[str, Any]) -> object:
    async with run:
        return await recipe.play(run, values)


def _report(run: Run, result: object) -> Report:
    match result:
        case Summary():
            summary = result
        case Mapping():
            extra: dict[str, Any] = {str(key): value for key, value in result.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            summary = run.summary(**extra)
        case _:
            summary = run.summary()
    summary = replace(summary, account=run.account)  # the recipe's account may be older
    return Report(
        run_id=run.id,
        name=run.name,
        recipe=run.recipe,
        status=run.status,
        store=run.store.path,
        seconds=run.progress.seconds,
        summary=summary,
        fault=next((one.error for one in run.progress.episodes if is_faulted(one)), None),
        models=run.progress.to_json().get("models", {}),
        flags={flag: count for flag, count in run.progress.flags.items() if flag.partition(":")[0] in REPLY_FLAGS},
        adjusted=tuple(run.progress.metrics.adjustments) if run.progress.metrics else (),
        problem=run.problem,
        local=are_local((run.models.model, run.models.user_model)),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[Any]", value)]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
