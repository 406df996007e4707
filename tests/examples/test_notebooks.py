"""The notebooks of examples/ are executed: every cell runs, and shows what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"


def test_the_jupyter_notebook_runs_and_its_progress_is_one_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "not installed (extras `notebooks` and `frames`)"
    nbformat, nbclient, *_ = [
        pytest.importorskip(name, reason=f"{name} is {reason}")
        for name in ("nbformat", "nbclient", "ipykernel", "pandas")
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    argv = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    spec = f'{{"argv": {argv}, "display_name": "Python 3", "language": "python"}}'
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(spec)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    notebook: Any = nbformat.reads((FOLDER / "explore.ipynb").read_text("utf-8"), as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = ["".join(str(output.get("data", {}).get("text/html", "")) for output in cell.outputs) for cell in cells]
    played = cells[1].outputs
    assert shown[1].count("<progress") == 1, "the display of the progress is one output that changes"
    assert "10/10 episodes" in shown[1]
    assert played[-1]["data"]["text/plain"].startswith("<Run ")
    assert "turns" in shown[2]
    assert "search_" in shown[3]
    assert "<svg" in shown[4] or "golden" in shown[4]
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_the_marimo_notebook_runs(tmp_path: Path) -> None:
    for name in ("marimo", "polars"):
        pytest.importorskip(name, reason=f"{name} is not installed (extras `notebooks` and `frames`)")
    target = tmp_path / "explore.html"
    command = [
        sys.executable,
        "-m",
        "marimo",
        "-y",
        "export",
        "html",
        str(FOLDER / "explore_marimo.py"),
        "-o",
        str(target),
    ]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    page = target.read_text("utf-8")
    assert "harvest" in page
    assert "Summary of a run" in page
