"""Runs on Ray: the scenes of `ray_scenes.py`, in a process and a network namespace of their own.

Ray listens on every interface, so it is started only where none but the loopback exists, and only once, because that
takes seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.network_namespace import RAY_ALONE, alone, why_not_alone

SCENES = Path(__file__).with_name("ray_scenes.py")


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install '.[ray]'")
def test_every_scene_on_ray_passes(tmp_path: Path) -> None:
    if reason := why_not_alone():
        pytest.skip(reason)
    folder = tempfile.mkdtemp(prefix="ray")  # paths of Ray's sockets must be short
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "RAY_", "SIMKIT_"))},
        "HOME": str(tmp_path),
        "RAY_TMPDIR": folder,
        **RAY_ALONE,
    }
    scenes = [
        sys.executable,
        "-m",
        "pytest",
        str(SCENES),
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=--strict-markers",
        f"--basetemp={tmp_path}/scenes",
    ]
    try:
        ran = subprocess.run(
            alone(scenes),
            cwd=SCENES.parent.parent.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert ran.returncode == 0, ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None, ran.stdout
    assert int(passed[1]) > 10, ran.stdout
