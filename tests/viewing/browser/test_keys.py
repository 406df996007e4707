"""Each key does what the list of keys says; each state is in the address; Back returns to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.browser import Visit, visiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    with visiting(browser, address, permissions=["clipboard-read", "clipboard-write"]) as opened:
        yield opened


def at(visit: Visit, words: str) -> None:
    """Wait until the address has words."""
    visit.page.wait_for_url(lambda url: words in url)
    visit.settle()


def test_runs_are_marked_compared_and_opened(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open("/?q=builtin")
    rows = page.locator(".run-name .id").all_inner_texts()
    visit.press("x", "j", "x")
    assert f"marked={rows[0]},{rows[1]}" in visit.route_of()
    visit.open(f"/?marked={runs['before']},{runs['after']}")
    visit.press("c")
    at(visit, f"/compare?a={runs['before']}&b={runs['after']}")
    page.go_back()
    at(visit, "/?marked=")
    visit.press("/")
    page.keyboard.type("trees")
    visit.press("Escape", "Enter")
    at(visit, f"/runs/{runs['trees']}")
    visit.press("Escape")
    page.wait_for_function("() => location.pathname === '/'")


def test_a_run_is_filtered_and_read_with_keys(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open(f"/runs/{runs['before']}")
    every = page.inner_text(".table-bar [role=status]")
    visit.press("f")
    at(visit, "?only=fail")
    assert page.inner_text(".table-bar [role=status]") != every
    visit.press("f", "d")
    at(visit, "?data=1")
    visit.press("d", "y")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    theme = page.evaluate("document.documentElement.dataset.theme")
    visit.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != theme
    visit.press("j", "k", "j", "Enter")
    at(visit, "/test-")
    visit.press("Escape")
    page.wait_for_function(f"() => location.pathname === '/runs/{runs['before']}'")


def test_a_run_is_found_by_its_name_and_its_address_becomes_its_id(visit: Visit, runs: dict[str, str]) -> None:
    visit.open("/runs/trees?q=train")
    at(visit, f"/runs/{runs['trees']}?q=train")


def test_a_tree_is_walked_with_keys(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open(f"/runs/{runs['trees']}/train-00000/0")
    tree = page.get_by_role("tree")
    folded = tree.get_attribute("aria-label")
    visit.press("j")
    at(visit, "at=")
    first = visit.route_of()
    visit.press("j")
    assert visit.route_of() != first
    visit.press("k")
    assert visit.route_of() == first
    assert page.locator("[role=treeitem][aria-selected=true]").get_attribute("id") == tree.get_attribute(
        "aria-activedescendant"
    )
    visit.press("e")
    assert tree.get_attribute("aria-label") != folded
    visit.press("e")
    assert tree.get_attribute("aria-label") == folded
    visit.press("g", "h", "o")
    at(visit, "others=")
    assert "★ Golden path" in visit.text(".talk-head")
    assert page.locator(".way").count() > 0
    page.locator(".way").first.click()
    page.wait_for_function("() => !location.search.includes('others')")
    visit.press("/")
    page.keyboard.type("restaurant")
    visit.press("Escape", "n")
    hit = visit.route_of()
    visit.press("n", "N")
    assert visit.route_of() == hit
    visit.press("v")
    at(visit, "view=user")
    assert page.locator(".call").count() == 0
    visit.press("]")
    at(visit, "train-00001/0")
    visit.press("[")
    at(visit, "train-00000/0")


def test_turns_and_trials_of_a_rollout_are_walked_with_keys(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open(f"/runs/{runs['before']}/test-00001/1?at=.2")
    assert page.locator(".turn.here").inner_text().startswith("Turn 2")
    visit.press("l")
    at(visit, "at=.3")
    visit.press("h", "h")
    at(visit, "at=.1")
    visit.press("ArrowRight", "ArrowLeft")
    at(visit, "at=.1")
    visit.press("}")
    at(visit, "test-00001/2")
    visit.press("{")
    at(visit, "test-00001/1")


def test_a_comparison_is_walked_with_keys(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open(f"/compare?a={runs['before']}&b={runs['after']}")
    page.locator(".side .line").first.wait_for()
    assert page.get_by_text("They part here").count() == 2
    visit.press("k")
    at(visit, "task=test-")
    visit.press("w")
    at(visit, "only=worse")
    visit.press("w", "d")
    at(visit, "data=1")
    assert page.locator("table.numbers").count() > 0


def test_a_hit_leads_to_its_message_and_back(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open(f"/search?run={runs['before']}&q=restaurant")
    page.locator(".hit-row").first.wait_for()
    visit.press("j", "n", "k", "Enter")
    at(visit, "#m")
    assert page.locator(".line.target").count() == 1
    page.go_back()
    at(visit, "/search?")
    assert page.locator(".hit-row.on").get_attribute("id") == "hit1"


def test_the_list_of_keys_opens_and_closes(visit: Visit) -> None:
    page = visit.open("/")
    visit.press("?")
    assert page.get_by_role("dialog").inner_text().startswith("Keys")
    assert visit.violations() == []
    visit.press("j", "Escape")
    assert page.get_by_role("dialog").count() == 0


def test_keys_with_modifiers_and_in_fields_are_the_browsers(visit: Visit) -> None:
    page = visit.open("/")
    visit.press("Control+x", "Alt+x")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("searchbox").press("x")
    assert "marked" not in visit.route_of()


def test_back_restores_the_place_in_a_list(visit: Visit, runs: dict[str, str]) -> None:
    page = visit.open(f"/runs/{runs['before']}?sort=task")
    rows = page.locator(".table-rows")
    rows.evaluate("rows => { rows.scrollTop = 500 }")
    page.wait_for_function("() => history.state && history.state['scroll:episodes'] === 500")
    page.locator(".table-row").nth(18).click()
    at(visit, "/test-")
    page.go_back()
    at(visit, "sort=task")
    assert rows.evaluate("rows => rows.scrollTop") == 500


def test_the_focus_goes_with_the_row(visit: Visit, runs: dict[str, str]) -> None:
    """So that a screen reader says which row it is."""
    page = visit.open(f"/runs/{runs['before']}")
    visit.press("j", "j")
    page.wait_for_function("() => document.activeElement.dataset.index === '2'")
    assert page.locator(".table-row.on").get_attribute("data-index") == "2"
