"""A served model in a thread of the tests' process, at a free port of the loopback."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from simkit.local.engine import LocalEngine
from simkit.local.server import Served, listen, make_server
from simkit.local.worker import Worker


@dataclass(frozen=True, slots=True)
class Running:
    """Where it is, and the engine behind it."""

    origin: str
    engine: LocalEngine

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"


@contextmanager
def serving(engine: LocalEngine, api_key: str | None = None) -> Generator[Running]:
    """Serve an engine as `models/tiny`."""
    with listen("127.0.0.1", 0) as door:
        worker = Worker(engine)
        server = make_server(Served(worker=worker, name="models/tiny", api_key=api_key))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield Running(f"http://127.0.0.1:{door.getsockname()[1]}", engine)
        finally:
            server.should_exit = True
            thread.join()
            worker.close()
