"""Pages of what is large, hostile, empty or broken: they stay usable, and show text as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from made_answers import (
    HOSTILE,
    VISIBLE,
    answer_with,
    chain,
    conversation,
    episode,
    line,
    run,
    run_row,
    transcript,
    wide_tree,
)

from support.browser import NARROW, WIDE, Visit, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ELEMENTS = "document.getElementsByTagName('*').length"
NO_CURVES: dict[str, Any] = {"stage": [], "name": [], "step": [], "value": []}
MOST = 1500
"""Elements of a page, whatever it shows."""


def elements(visit: Visit) -> int:
    return int(visit.page.evaluate(ELEMENTS))


def test_a_tree_of_20000_branches_is_a_page_of_few_elements(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        answer_with(visit.page, conversation(wide_tree(20_000), transcript([line(0, 0, "user", "hello")])))
        page = visit.open("/runs/made/task/0")
        assert "19,999 branches" in visit.text(".meta")
        assert elements(visit) < MOST
        visit.press("e")
        assert "Branches: 19999 in 1" in str(page.get_by_role("tree").get_attribute("aria-label"))
        page.locator(".rows").evaluate("rows => { rows.scrollTop = 200000 }")
        page.wait_for_function("() => document.querySelector('.tree-row').offsetTop > 190000")
        assert elements(visit) < MOST
        page.locator(".map svg").click(position={"x": 300, "y": 120})
        assert "at=" in visit.route_of()
        page.locator("[role=treeitem][aria-selected=true]").wait_for()


def test_30000_episodes_are_one_canvas_and_few_rows(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        answer_with(visit.page, {"/api/runs/made/metrics": NO_CURVES, "/api/runs/made": run(500, 60)})
        page = visit.open("/runs/made")
        canvas = page.locator(".cells canvas")
        assert "30000 episodes" in str(canvas.get_attribute("aria-label"))
        assert elements(visit) < MOST
        visit.press("f")
        assert page.inner_text(".table-bar [role=status]") == "22,500"
        canvas.click(position={"x": 60, "y": 10})
        assert visit.route_of().startswith("/runs/made/test-")


def test_500_runs_are_few_elements(browser: Browser, address: str) -> None:
    rows = [run_row(run_id=f"run-{i}", name=f"run {i}") for i in range(500)]
    with visiting(browser, address) as visit:
        answer_with(visit.page, {"/api/runs": rows})
        page = visit.open("/")
        assert "500 in" in visit.text("h1")
        assert elements(visit) < MOST
        page.get_by_role("searchbox").fill("run 499")
        assert page.locator(".run-name a").all_inner_texts() == ["run 499"]


def test_long_messages_are_shown_in_pieces(browser: Browser, address: str) -> None:
    """300 turns of 20 kB, and one message that the server cut: its 20 MB are asked for when they are wanted."""
    lines = [line(turn, turn, "agent", "many words " * 1800) for turn in range(1, 300)]
    lines.append(line(300, 300, "agent", "x" * 20_000, cut=20_000_000))
    whole: dict[str, Any] = {"content": "x" * 19_999_990 + "the end of", "heard": None, "tool_calls": []}
    with visiting(browser, address) as visit:
        answer_with(visit.page, conversation(chain(300), transcript(lines), **{"/api/message/made/task/0/": whole}))
        page = visit.open("/runs/made/task/0?at=.300")
        assert len(page.inner_text("#m2 .body")) < 5000
        page.locator("#m2 .more button").first.click()
        assert len(page.inner_text("#m2 .body")) > 19_000
        last = page.locator("#m300 .more button").first
        assert "of 20.0 MB" in str(last.text_content())
        last.click()
        last.click()
        page.wait_for_function("() => document.querySelector('#m300 .body').textContent.length > 100000")
        assert page.evaluate("document.querySelector('#m300 .body').textContent.length") < 400_000


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_hostile_text_is_text_everywhere(browser: Browser, address: str, width: int) -> None:
    """In names, words, calls, results, flags, goals, faults, notes: no element, no script, nothing unseen."""
    note = {"id": "n", "run_id": "made", "task_id": "task", "trial": 0, "path": "", "turn": 1, "seq": 4}
    note |= {"label": HOSTILE, "text": HOSTILE, "author": HOSTILE, "at": "2026-11-28T06:39:36Z", "stale": True}
    call = {"id": "c", "name": HOSTILE, "arguments": json.dumps({"x": HOSTILE}), "by": "agent"}
    result = {"name": HOSTILE, "error": HOSTILE, "seconds": 0.1, "writes": [{HOSTILE: HOSTILE}]}
    lines = [
        line(0, 0, "system", HOSTILE, heard=None),
        line(1, 0, "user", HOSTILE, flags=[HOSTILE]),
        line(2, 1, "agent", "", heard=None, tool_calls=[call]),
        line(3, 1, "tool", HOSTILE, heard=None, tool=result),
        line(4, 1, "agent", HOSTILE, heard="something else", reasoning=HOSTILE),
    ]
    why = {"goal": HOSTILE, "earned": False, "turn": 1, "path": "", "wanted": HOSTILE, "text": HOSTILE}
    why |= {"nearest": {"path": "", "turn": 1, "seq": 2, "name": HOSTILE, "arguments": HOSTILE}}
    why |= {"differences": [{"argument": HOSTILE, "wanted": HOSTILE, "got": HOSTILE}]}
    fault = {"path": "", "turn": 1, "source": "agent", "kind": HOSTILE, "message": HOSTILE, "traceback": HOSTILE}
    of = episode(
        chain(1, said=[None, HOSTILE], calls=[[], [f"{HOSTILE} {{}}"]], goals=[[], [HOSTILE]]),
        instructions=HOSTILE, error=HOSTILE, why=[why], faults=[fault],
        parts=[{"name": HOSTILE, "weight": 1, "value": 0}], task_goals=[{"name": HOSTILE, "wanted": HOSTILE}],
    )  # fmt: skip
    answers = conversation(of, transcript(lines), **{"/api/runs/made/notes": {"notes": [note]}})
    with visiting(browser, address, width=width) as visit:
        answer_with(visit.page, answers)
        for pane in ("tree", "why", "task", "notes", "talk"):
            page = visit.open(f"/runs/made/task/0?pane={pane}")
            page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            assert page.locator("main script, main img, main a[href^=javascript]").count() == 0
            assert visit.scrolls_sideways() <= 0
        said = page.inner_text("#m1 .body")
        assert [word for word in VISIBLE if word not in said] == []
        unseen = page.evaluate(r"/[\x00-\x08\x0b-\x1f\u200b\u202e]|\p{Surrogate}/u.test(document.body.innerText)")
        assert not unseen
        assert page.title() != "run"


def test_an_empty_store_says_how_to_begin(browser: Browser, address: str) -> None:
    with visiting(browser, address, permissions=["clipboard-read", "clipboard-write"]) as visit:
        answer_with(visit.page, {"/api/runs": []})
        page = visit.open("/")
        page.get_by_role("button", name="Copy").first.click()
        page.get_by_role("button", name="Copied").wait_for()
        assert str(page.evaluate("navigator.clipboard.readText()")).startswith(
            "simkit run josh --tasks 50 --beam 8 --store"
        )


STATES = {
    "gone": ({"status": "running", "alive": False}, "simkit resume made --store"),
    "silent": ({"status": "running", "alive": True}, "has written no line for"),
    "failed": ({"status": "failed", "error": "the disk is full", "finished": 0}, "the disk is full"),
    "doctor": ({"status": "failed", "doctor": ["raise the limit"]}, "raise the limit"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_run_that_did_not_go_well_says_so(browser: Browser, address: str, name: str) -> None:
    values, words = STATES[name]
    with visiting(browser, address) as visit:
        answer_with(visit.page, {"/api/runs/made/metrics": NO_CURVES, "/api/runs/made": run(2, 2, **values)})
        visit.open("/runs/made")
        assert words in visit.text("main")
        assert visit.violations() == []


def test_a_store_that_is_gone_and_one_that_is_read_only_say_so(browser: Browser, address: str) -> None:
    off = {"enabled": False, "reason": "the store is read-only", "author": ""}
    about: dict[str, Any] = {"store": "s", "version": 1, "notes": ["the store s is gone; this is what it held"]}
    with visiting(browser, address) as visit:
        answer_with(visit.page, {"/api/version": {**about, "readonly": True, "annotations": off}})
        visit.open("/")
        assert "the store s is gone" in visit.text(".banner")
        assert "read-only" in visit.text(".store-notes")


def test_a_server_that_ends_leaves_the_page_as_it_was(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        page = visit.page
        answer_with(page, {"/api/runs": [run_row()]})
        page.route("**/api/events", lambda route: route.abort())
        visit.open("/")
        page.locator(".lost").wait_for()
        assert "The server does not answer" in visit.text(".lost")
        assert page.locator(".run-line").count() == 1
        visit.problems.clear()  # the browser reports the connection that was refused
