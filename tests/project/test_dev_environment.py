"""`scripts/dev` makes the component rooms visible to editors, and no other script undoes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("agents", "users", "tools", "rewards", "recipes")
PYTHON = """#!/bin/sh
# Stands for the Python that makes environments: what it installs there does nothing.
[ "$1 $2" = "-m venv" ] || exit 0
mkdir -p "$3/bin"
for tool in pip ruff lint-imports pyright pytest python simkit; do
    printf '#!/bin/sh\\nfor last; do :; done\\n[ "$1" != install ] || mkdir -p build/installed\\n' >"$3/bin/$tool"
    chmod +x "$3/bin/$tool"
done
"""


def checkout(folder: Path) -> Path:
    """A copy of the files that git would check out, as far as simkit needs them."""
    links = shutil.ignore_patterns("__pycache__", "*.egg-info", *(f"simkit/{room}" for room in ROOMS))
    for name in ("simkit", "scripts", "locks", *ROOMS):
        shutil.copytree(ROOT / name, folder / name, ignore=links, symlinks=True)
    for room in ROOMS:
        (folder / "simkit" / room).unlink(missing_ok=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_rooms_are_found_in_the_checkout_after_every_other_script(tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "CI": "", "SIMKIT_TEST_SERVING": "0"}
    for script in ("dev", "test", "demo"):
        subprocess.run([root / "scripts" / script], env=environment, check=True, capture_output=True, cwd=root)

    (root / "agents" / "newcomer.py").write_text("FOUND = True\n")
    code = "import simkit.agents.newcomer as it, simkit.recipes.josh; print(it.__file__)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert found.stdout.strip() == str(root / "simkit" / "agents" / "newcomer.py"), found.stderr
    for room in ROOMS:
        assert os.readlink(root / "simkit" / room) == f"../{room}"
