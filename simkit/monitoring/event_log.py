"""Logs a run as structlog events for operators: starts and ends, failed attempts, faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import structlog

from simkit.core.events import BranchAdded, BranchEnded, Episode, Event, ModelCall, RunFinished, RunStarted
from simkit.core.safe_text import visible
from simkit.errors import UsageError


class Logger(Protocol):
    """A structlog logger, or an object with the same methods."""

    def info(self, event: str, **values: Any) -> Any:
        """Log an event."""
        ...

    def warning(self, event: str, **values: Any) -> Any:
        """Log a warning."""
        ...


class EventLog:
    """A tap that logs events to `logger`, by default structlog's."""

    def __init__(self, logger: Logger | None = None) -> None:
        self._log: Logger = logger or structlog.get_logger("simkit")

    def __call__(self, event: Event) -> None:
        """Log an event of the run."""
        match event:
            case RunStarted():
                self._log.info("run_started", run=event.run_id, recipe=event.recipe, seed=event.seed)
            case RunFinished(status="done"):
                self._log.info("run_finished", run=event.run_id, status=event.status, **event.stats)
            case RunFinished():
                values = {"run": event.run_id, "status": event.status, "error": _shown(event.error), **event.stats}
                self._log.warning("run_finished", **values)
            case Episode():
                values = {"episode": event.episode_id, "outcome": event.outcome, "reward": event.reward}
                self._log.info("episode_finished", **values, turns=event.turns, branches=event.branches)
            case ModelCall() if event.error is not None and event.error != "cancelled":
                self._failed(event, event.error)
            case BranchAdded() | BranchEnded() if event.error is not None:
                self._log.warning(
                    "branch_fault", branch=event.branch_id, outcome=event.outcome, error=_shown(event.error)
                )
            case _:
                return

    def _failed(self, event: ModelCall, error: str) -> None:
        values = {"branch": event.branch_id, "role": event.role, "model": event.model, "attempt": event.attempt}
        self._log.warning("model_attempt_failed", **values, seconds=round(event.seconds, 3), error=_shown(error))


def _shown(error: str | None) -> str | None:
    """The text of a failure, safe to print on a terminal."""
    return None if error is None else visible(error)


def open_log(path: Path) -> EventLog:
    """A log that appends JSON lines with times to a file.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise UsageError(f"the log {path} cannot be written: {error.strerror or error}; name another file") from error
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ]
    return EventLog(structlog.wrap_logger(_Appender(path), processors=processors))


class _Appender:
    """Opens the file for each line, because lines are rare and the file may be rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def msg(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    info = warning = msg
