"""Types of the recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Recording: TypeAlias = dict[str, Any]
"""One line of a file of recordings; its fields are described in ../shared/golden/README.md."""

ReadLines: TypeAlias = Callable[[str], list[Recording]]
"""Reads one file of recordings by name."""
