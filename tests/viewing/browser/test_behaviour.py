"""What readers do with the pages: links, Back, hostile text, files that were exported, and frames in notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

import simkit
from simkit.store import Reader, Store
from simkit.viewing import export as exporting
from simkit.viewing.export import Choice, export
from support.browser import NARROW, Visit, visiting
from support.viewed_agents import MARKUP

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    with visiting(browser, address) as found:
        yield found


def tree_of(runs: dict[str, str], task: str = "train-00000") -> str:
    return f"/runs/{runs['trees']}/{task}/0"


# --- addresses --------------------------------------------------------------------------------------------------------


def test_a_link_opens_what_it_was_copied_from(
    visit: Visit, runs: dict[str, str], browser: Browser, address: str
) -> None:
    visit.open(tree_of(runs))
    visit.press("j", "j", "v")
    visit.settle()
    link, shown = visit.route_of(), visit.text("main")
    with visiting(browser, address) as other:
        other.open(link)
        assert other.route_of() == link
        assert other.text("main") == shown


def test_back_and_forward_go_through_the_pages(visit: Visit, runs: dict[str, str]) -> None:
    visit.open("/")
    visit.page.click(f"a[href='/runs/{runs['trees']}']")
    visit.settle()
    visit.page.click(f"a[href^='{tree_of(runs, 'train-00001')}']")
    visit.settle()
    places = [visit.route_of()]
    for move in (visit.page.go_back, visit.page.go_back, visit.page.go_forward):
        move()
        visit.settle()
        places.append(visit.route_of())
    run = f"/runs/{runs['trees']}"
    assert [place.split("?")[0] for place in places] == [tree_of(runs, "train-00001"), run, "/", run]


def test_names_and_last_become_ids(visit: Visit, runs: dict[str, str]) -> None:
    visit.open("/runs/trees")
    visit.page.wait_for_url(f"**/runs/{runs['trees']}")
    visit.open("/runs/trees/train-00001/0")
    visit.page.wait_for_url(f"**{tree_of(runs, 'train-00001')}*")


def test_an_unknown_run_names_the_near_ones(browser: Browser, address: str, runs: dict[str, str]) -> None:
    with visiting(browser, address) as visit:
        visit.open("/runs/treees")
        assert "there is no run 'treees'" in visit.text()
        assert visit.page.locator(f"a[href='/runs/{runs['trees']}']").count() == 1
        assert all("404" in problem for problem in visit.problems)
        visit.problems.clear()


# --- hostile text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/runs/{hostile}", "/runs/{hostile}/test-00000/0", "/search?run={hostile}&q=script"]
)
def test_nothing_of_a_text_runs_or_is_asked_for(
    browser: Browser, address: str, runs: dict[str, str], path: str
) -> None:
    with visiting(browser, address) as visit:
        page = visit.open(path.format(**runs))
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        visit.settle()
        assert page.evaluate("globalThis.ran ?? null") is None
        assert page.locator("iframe, base, main script, main style, [onerror], [onload]").count() == 0
        assert page.locator("a[href^='javascript:' i], a[href*='evil.example']").count() == 0
        assert page.title().endswith("simkit")
        assert page.is_visible("body")


def test_marks_that_are_invisible_or_reorder_text_are_shown(visit: Visit, runs: dict[str, str]) -> None:
    visit.open(f"/runs/{runs['hostile']}/test-00000/0")
    text = visit.text(".talk")
    assert "U+202E" in text
    assert not [sign for sign in text if sign in "\u202e\u2066\u2067\u2069\u200b\ufeff\x1b\x9b\x00"]
    assert MARKUP[:60] in text


def test_a_message_of_20_mb_is_cut_and_its_rest_comes_when_asked_for(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open(f"/runs/{runs['hostile']}/test-00001/0")
    assert len(visit.text(".talk")) < 60_000
    assert page.locator(".talk button", has_text="MB").count() >= 1


# --- exports ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(store: Path) -> Iterator[Reader]:
    with Store(store).reading() as found:
        yield found


def test_an_exported_file_opens_without_a_server(
    browser: Browser, reader: Reader, runs: dict[str, str], tmp_path: Path
) -> None:
    written = export(reader, Choice(run=runs["trees"]), tmp_path / "out.html")
    with visiting(browser, written.page.as_uri()) as visit:
        visit.open("")
        assert "Every tree" in visit.text()
        visit.page.click("summary:text('export')")
        assert "ends of trees (--all-branches exports them)" in visit.text("header")
        assert visit.violations() == []
        visit.page.click("a[href*='/train-00001/0']")
        visit.settle()
        assert "search_" in visit.text(".talk")
        visit.page.go_back()
        visit.settle()
        assert "Every tree" in visit.text()
    with visiting(browser, written.page.as_uri(), "dark", NARROW) as visit:
        visit.open(f"#{tree_of(runs, 'train-00002')}")
        assert "train-00002" in visit.text()
        assert visit.scrolls_sideways() <= 0


def test_hostile_text_does_not_run_in_an_export(
    browser: Browser, reader: Reader, runs: dict[str, str], tmp_path: Path
) -> None:
    written = export(reader, Choice(run=runs["hostile"], episodes=("test-00000",)), tmp_path / "out.html")
    with visiting(browser, written.page.as_uri()) as visit:
        page = visit.open("")
        assert MARKUP[:60] in visit.text()
        assert page.evaluate("globalThis.ran ?? null") is None


def test_an_exported_folder_opens_from_a_server(
    browser: Browser, reader: Reader, runs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "LARGEST", 10_000)
    written = export(reader, Choice(run=runs["trees"]), tmp_path / "out")
    handler = partial(Quiet, directory=str(written.page.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with visiting(browser, f"http://127.0.0.1:{server.server_port}") as visit:
            visit.open(f"/#{tree_of(runs, 'train-00001')}")
            assert "search_" in visit.text(".talk")
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        return


def test_a_frame_of_a_notebook_can_be_walked_through(
    browser: Browser, store: Path, runs: dict[str, str], tmp_path: Path
) -> None:
    frame = simkit.view(runs["trees"], "train-00000", "train-00001", store=store)
    html = frame._repr_html_()  # pyright: ignore[reportPrivateUsage]
    book = tmp_path / "notebook.html"
    book.write_text(f"<!doctype html><title>book</title>{html}", encoding="utf-8")
    with visiting(browser, book.as_uri()) as visit:
        visit.page.goto(book.as_uri())
        inside = visit.page.frame_locator("iframe")
        inside.locator("a[href*='/train-00001/0']").first.click()
        inside.locator(".talk").wait_for()
        assert "train-00001" in inside.locator("main").inner_text()
