"""`transformers serve` in a process of its own, as a person starts it, without any network but the loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

PATIENCE = 300.0
"""Seconds that the server is given to import torch and load its model, and to be asked what a test waits for."""

COMMAND = Path(sys.executable).with_name("transformers")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def missing() -> str:
    """What must be installed for the server to run here; empty when nothing is missing."""
    absent = [name for name in ("torch", "transformers", "fastapi", "uvicorn") if find_spec(name) is None]
    return ", ".join(absent) or ("" if COMMAND.exists() else str(COMMAND))


@dataclass(slots=True)
class TransformersServer:
    """A running server: the model it serves, where, and what it prints."""

    model: Path
    base_url: str = ""
    lines: list[str] = field(default_factory=list[str])
    printed: threading.Condition = field(default_factory=threading.Condition)
    gone: bool = False

    @property
    def flags(self) -> list[str]:
        """What a command of simkit needs to ask it.

        One request at a time: the seed of a request is that of the whole server, so that concurrent ones mix theirs.
        """
        return ["--model", f"openai/{self.model}", "--base-url", self.base_url, "--api-concurrency", "1"]

    def answered(self) -> int:
        """How many chat completions it has answered, by its own access log."""
        with self.printed:
            return self._answered()

    def wait_answered(self, count: int) -> None:
        """Wait until it has answered so many."""
        self._wait(lambda: self._answered() >= count)

    def wait_ready(self) -> None:
        """Wait until it says where it listens."""
        self._wait(lambda: bool(self.base_url))

    def listen(self, process: subprocess.Popen[str]) -> None:
        """Take note of everything it prints, until it ends."""
        assert process.stdout is not None
        for line in process.stdout:
            with self.printed:
                self.lines.append(line)
                if found := re.search(r"running on (http://\S+)", line):
                    self.base_url = f"{found[1]}/v1"
                self.printed.notify_all()
        with self.printed:
            self.gone = True
            self.printed.notify_all()

    def _answered(self) -> int:
        return sum('"POST /v1/chat/completions HTTP/1.1" 200' in line for line in self.lines)

    def _wait(self, until: Callable[[], bool]) -> None:
        with self.printed:
            self.printed.wait_for(lambda: self.gone or until(), PATIENCE)
            if not until():
                raise RuntimeError(
                    f"transformers serve {'ended' if self.gone else 'hangs'}: {''.join(self.lines)[-4000:]}"
                )


@contextmanager
def transformers_serve(model: Path, home: Path) -> Generator[TransformersServer]:
    """The server of one model; it picks a free port itself, and keeps its files in `home`."""
    server = TransformersServer(model)
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [COMMAND, "serve", model, "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
    ) as process:
        listener = threading.Thread(target=server.listen, args=(process,))
        listener.start()
        try:
            server.wait_ready()
            yield server
        finally:
            process.kill()
            listener.join()
