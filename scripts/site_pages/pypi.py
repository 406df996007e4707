"""The README as the package index shows it: without pictures, and with links to other sites alone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pypi.md"

_PICTURE = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n\n?", re.M)
_LINK = re.compile(r"\[([^\[\]]+)\]\((?!https?://)[^)]*\)")


def package_page(readme: str) -> str:
    """The text of the README with only what works without the files beside it."""
    return _LINK.sub(r"\1", _PICTURE.sub("", readme))


def write_package_page() -> Path:
    """Write docs/pypi.md, which the metadata of the package name."""
    PAGE.write_text(package_page((ROOT / "README.md").read_text("utf-8")), "utf-8")
    return PAGE
