"""Keeps other people's libraries from talking over a run's own display."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO


@contextmanager
def quiet() -> Generator[None]:
    """Without progress bars, and without lm-eval's warnings, which report every default that it takes.

    Everything else that is written to stderr meanwhile is passed on; a run's display has its own hold of the terminal.
    """
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(_WithoutBars(sys.stderr)):
            yield
    finally:
        logger.setLevel(level)


class _WithoutBars(io.TextIOBase):
    """Drops what tqdm draws: every picture begins with a carriage return, and the last one ends with an empty line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        if text.strip() and not text.startswith("\r"):
            self._stream.write(text if text.endswith("\n") else f"{text}\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False
