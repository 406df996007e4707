"""`inspect view` on a log of as many samples, for the benchmark of the viewer; inspect-ai has its own environment."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SAMPLES = """
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import includes
samples = [Sample(input=f"Say {n}", target="Default", id=n) for n in range(int(sys.argv[1]))]
eval(Task(dataset=MemoryDataset(samples), scorer=includes()), model="mockllm/model", log_dir=sys.argv[2],
     display="none", max_samples=100, log_level="error")
"""

HEAP = "() => { globalThis.gc?.(); return performance.memory.usedJSHeapSize }"


def inspect_view(browser: Browser, python: Path, samples: int, repeats: int) -> Iterator[tuple[str, str]]:
    """Seconds until the first row of the log's samples is on the screen, and the heap then, as medians."""
    with tempfile.TemporaryDirectory() as logs:
        begin = time.perf_counter()
        subprocess.run([str(python), "-c", SAMPLES, str(samples), logs], check=True, stdout=subprocess.DEVNULL)
        yield "making the log", f"{time.perf_counter() - begin:.1f} s"
        (log,) = Path(logs).glob("*.eval")
        with _served(python, logs) as address:
            times: list[float] = []
            heaps: list[float] = []
            for _ in range(repeats):
                context = browser.new_context(viewport={"width": 1440, "height": 900})
                page = context.new_page()
                begin = time.perf_counter()
                page.goto(f"{address}/#/logs/{log.name}/samples", wait_until="domcontentloaded")
                page.get_by_text("Say 1", exact=False).first.wait_for(timeout=120_000)
                times.append(time.perf_counter() - begin)
                heaps.append(page.evaluate(HEAP) / 1e6)
                context.close()
    yield "first row of the samples", f"{median(times):.2f} s"
    yield "heap", f"{median(heaps):.1f} MB"


@contextmanager
def _served(python: Path, logs: str) -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(python.parent / "inspect"), "view", "--log-dir", logs, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address)
            yield address
        finally:
            process.kill()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address).close()
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
