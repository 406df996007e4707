"""`transformers serve` in a process of its own, as a person starts it, without any network but the loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STARTING = 180.0
"""Seconds that the server is given to import torch and to load its model."""

COMMAND = Path(sys.executable).with_name("transformers")


@dataclass(frozen=True, slots=True)
class TransformersServer:
    """A running server: the model it serves, where, and what it has printed."""

    model: Path
    base_url: str
    log: Path

    @property
    def flags(self) -> list[str]:
        """What a command of simkit needs to ask it."""
        return ["--model", f"openai/{self.model}", "--base-url", self.base_url]

    def asked(self) -> int:
        """How many chat completions it has been asked for and has answered, by its own access log."""
        return self.log.read_text().count("POST /v1/chat/completions")


@contextmanager
def transformers_serve(model: Path, folder: Path) -> Generator[TransformersServer]:
    """The server of one model; it picks a free port itself, and logs into `folder`."""
    log = folder / "server.log"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(folder / "hf"),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    command = [str(COMMAND), "serve", str(model), "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            yield TransformersServer(model, f"{_address(process, log)}/v1", log)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address the server says it listens on; it says so once it can answer."""
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on (http://\S+)", log.read_text()):
            return found[1]
        _short_wait(process)
    raise RuntimeError(f"transformers serve did not start:\n{log.read_text()[-4000:]}")
