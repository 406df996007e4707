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

SCENES = Path(__file__).with_name("ray_scenes.py")

ENTER = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Brings the loopback up and becomes the given command."""


def without_a_namespace() -> str | None:
    """The reason why this process can have no network namespace of its own; None if it can."""
    if shutil.which("unshare") is None:
        return "there is no `unshare` here, so Ray would listen on every interface"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "only root has a network namespace, and Ray listens on every interface"


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install '.[ray]'")
def test_every_scene_on_ray_passes(tmp_path: Path) -> None:
    if reason := without_a_namespace():
        pytest.skip(reason)
    folder = tempfile.mkdtemp(prefix="ray")  # paths of Ray's sockets must be short
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "RAY_", "SIMKIT_"))},
        "HOME": str(tmp_path),
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "180",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    scenes = [
        sys.executable,
        "-m",
        "pytest",
        str(SCENES),
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path}/scenes",
    ]
    try:
        ran = subprocess.run(
            ["unshare", "--net", sys.executable, "-c", ENTER, *scenes],
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
    assert passed is None or int(passed[1]) > 0
