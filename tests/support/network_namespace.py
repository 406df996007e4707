"""A network namespace of its own for a command: it has the loopback, and no other interface."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence

ENTER = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Brings the loopback up and becomes the given command."""

RAY_ALONE = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Variables for Ray in a namespace: a token that no file holds, and patience on a busy machine."""


def alone(command: Sequence[str]) -> list[str]:
    """A command that runs the given one in a namespace of its own; the first word is the path of a program."""
    return ["unshare", "--net", sys.executable, "-c", ENTER, *command]


def why_not_alone() -> str | None:
    """The reason why this process can have no namespace of its own; None if it can."""
    if shutil.which("unshare") is None:
        return "there is no `unshare` here, so Ray would listen on every interface"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "only root has a network namespace, and Ray listens on every interface"
