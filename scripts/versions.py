"""Prints where the packages installed beside this Python differ from a lock: versions.py locks/test.txt."""

import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

lines = [line.removesuffix("\\") for line in Path(sys.argv[1]).read_text().splitlines() if line[:1].isalnum()]
asked = [each for each in map(Requirement, lines) if each.marker is None or each.marker.evaluate()]
locked = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in asked}
installed = {canonicalize_name(each.metadata["Name"]): each.version for each in distributions()}
others = [name for name in sorted(installed.keys() & locked.keys()) if installed[name] != locked[name]]
print(f"tested with {len(others)} other versions than {sys.argv[1]} has:")
for name in others:
    print(f"  {name:40} {locked[name]:>16} -> {installed[name]}")
