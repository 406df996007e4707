"""Commands with closed, full and broken standard streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

SIMKIT = f"{sys.executable} -m simkit"
CLOSED = [each for count in (1, 2, 3) for each in combinations(("<&-", ">&-", "2>&-"), count)]


def shell(command: str, folder: Path) -> tuple[int, str, str]:
    """A command line of a shell in a folder: its code, and what it printed where something can be printed."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", CLOSED, ids=" ".join)
def test_a_run_with_closed_descriptors_ends_well(closed: tuple[str, ...], tmp_path: Path) -> None:
    code, out, err = shell(f"{SIMKIT} run rollout --tasks 1 --json --store s {' '.join(closed)}", tmp_path)
    assert code == 0, err
    if ">&-" not in closed:
        assert json.loads(out)["status"] == "done"
    if "2>&-" not in closed:
        assert "average reward" in err
    journal = next((tmp_path / "s").rglob("*.jsonl")).read_text()
    assert all(json.loads(line) for line in journal.splitlines())  # nothing was printed into another file


@pytest.mark.parametrize("closed", CLOSED, ids=" ".join)
def test_a_list_and_a_mistake_with_closed_descriptors_have_their_codes(closed: tuple[str, ...], tmp_path: Path) -> None:
    assert shell(f"{SIMKIT} --help {' '.join(closed)}", tmp_path)[0] == 0
    code, _, err = shell(f"{SIMKIT} ls --store gone {' '.join(closed)}", tmp_path)
    assert code == 2
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    assert shell(f"{SIMKIT} run rollout --tasks 1 --store s", folder)[0] == 0
    return folder


@pytest.mark.parametrize(
    "command",
    ["ls", "ls --json", "show last", "doctor last", "sql 'from range(100000)'"]
    + [f"sql 'from range(100000)' --format {format}" for format in ("csv", "json")],
)
def test_a_reader_that_goes_away_is_no_error_to_read_about(command: str, store: Path) -> None:
    code, _, err = shell(f"set -o pipefail; {SIMKIT} {command} --store s | true", store)
    assert code == 141
    assert err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["--help", "ls --store s", "show last --store s", "sql 'from runs' --store s"])
def test_a_full_disk_behind_stdout_is_reported(command: str, store: Path) -> None:
    code, _, err = shell(f"{SIMKIT} {command} >/dev/full", store)
    assert code == 1
    assert "No space left on device" in err
    assert "Traceback" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_run_whose_summary_cannot_be_printed_says_where_it_is(tmp_path: Path) -> None:
    command = f"set -o pipefail; {SIMKIT} run rollout --tasks 1 --quiet --json --store s"
    code, _, err = shell(f"{command} >/dev/full", tmp_path)
    assert code == 1, err
    assert "is stored in s, but not everything could be printed" in err
    assert "show rollout-" in err
    code, _, err = shell(f"{command} | true", tmp_path)
    assert code == 141
    assert "could be printed" not in err
    assert shell(f"{SIMKIT} run rollout --tasks 1 --store s 2>/dev/full", tmp_path)[0] == 0
