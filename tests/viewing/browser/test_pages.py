"""Every page in light and dark, wide and narrow: no error, nobody else asked, no sideways scrolling, accessible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.browser import NARROW, THEMES, WIDE, Theme, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = {
    "runs": ("/", "trees"),
    "run with trees": ("/runs/{trees}", "Every tree"),
    "run with faults": ("/runs/{faults}", "the booking system does not answer"),
    "tree": ("/runs/{trees}/train-00000/0", "search_restaurant turn"),
    "turns": ("/runs/{before}/test-00001/1", "book_train"),
    "fault": ("/runs/{faults}/test-00000/0", "the booking system does not answer"),
    "compare": ("/compare?a={before}&b={after}", "It may be claimed"),
    "search": ("/search?run={trees}&q=hotel", "hit"),
    "notes": ("/notes", "Notes"),
    "hostile run": ("/runs/{hostile}", "<script>"),
    "hostile conversation": ("/runs/{hostile}/test-00000/0", "<script>"),
}
"""The pages, and words that each shows."""


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", PAGES)
def test_a_page(browser: Browser, address: str, runs: dict[str, str], name: str, width: int) -> None:
    path, words = PAGES[name]
    with visiting(browser, address, "light", width) as visit:
        page = visit.open(path.format(**runs))
        assert words in visit.text()
        assert visit.scrolls_sideways() <= 0
        for theme in THEMES:
            assert page.get_attribute("html", "data-theme") == theme
            assert visit.violations() == []
            visit.press("t")
            visit.settle()


@pytest.mark.parametrize("theme", THEMES)
def test_the_theme_is_the_system_s(browser: Browser, address: str, theme: Theme) -> None:
    with visiting(browser, address, theme) as visit:
        assert visit.open("/").get_attribute("html", "data-theme") == theme
