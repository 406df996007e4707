"""CPU of the start of commands, above the imports that they cannot avoid.

    python benchmarks/startup.py

Runs `simkit --help` beside `import typer`, and `simkit ls` (of a store with one run) beside importing duckdb, typer
and rich, in alternating pairs, with cached bytecode. Prints medians of user and system seconds, and of the differences.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

PAIRS = 10


def cpu(arguments: Sequence[str], environment: dict[str, str]) -> float:
    """User and system seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as scratch:
        store = str(Path(scratch) / "store")
        cpu(["-m", "simkit", "run", "rollout", "--tasks", "2", "--quiet", "--store", store], environment)
        for name, least, command in (
            ("simkit --help", "import typer", ["-m", "simkit", "--help"]),
            ("simkit ls", "import duckdb, typer, rich", ["-m", "simkit", "ls", "--store", store]),
        ):
            cpu(command, environment)  # writes bytecode
            pairs = [(cpu(["-c", least], environment), cpu(command, environment)) for _ in range(PAIRS)]
            imports, whole = median(each for each, _ in pairs), median(each for _, each in pairs)
            above = median(all_of_it - part for part, all_of_it in pairs)
            print(f"{name}: {whole:.3f} s, {least}: {imports:.3f} s, difference {above:.3f} s")


if __name__ == "__main__":
    main()
