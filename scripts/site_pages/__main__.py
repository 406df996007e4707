"""Writes the site's Markdown, or finishes the site that was built from it.

python -m site_pages FOLDER           the pages
python -m site_pages --finish FOLDER  finishes the built site; exits with 1 and names each broken link
python -m site_pages --pypi           docs/pypi.md, the README for the package index
"""

from __future__ import annotations

import sys
from pathlib import Path

from site_pages.finish import finish
from site_pages.links import broken_links, outside_addresses
from site_pages.pages import write_pages
from site_pages.pypi import write_package_page


def main(words: list[str]) -> int:
    """Do what the command line asks for."""
    folder = Path(words[-1])
    if words[0] == "--pypi":
        print(write_package_page())
        return 0
    if words[0] != "--finish":
        print(f"{len(write_pages(folder))} pages in {folder}")
        return 0
    finish(folder)
    found = [*broken_links(folder), *(f"{each} is loaded from elsewhere" for each in outside_addresses(folder))]
    for each in found:
        print(each, file=sys.stderr)
    print(f"{len(found)} problems with links in {folder}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
