"""Notes are written beside what they are about, and lead back to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from made_answers import HOSTILE, VISIBLE

from support.browser import visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_note_about_a_message_is_written_shown_and_found(
    browser: Browser, address: str, runs: dict[str, str]
) -> None:
    with visiting(browser, address) as visit:
        page = visit.open(f"/runs/{runs['trees']}/train-00002/0?pane=notes")
        message = page.locator(".line", has=page.locator(".msg.agent")).first
        name = message.get_attribute("id")
        message.hover()
        message.get_by_role("link", name="Write a note").click()
        form = page.get_by_role("form", name="Note")
        assert form.get_by_role("button", name="Save note").is_disabled()
        form.get_by_role("button", name="wrong").click()
        form.get_by_label("Text of the note").fill(HOSTILE.replace("\ud800", "").replace("\x00", ""))
        assert visit.violations() == []
        form.get_by_role("button", name="Save note").click()
        page.locator(f"#{name} .note").wait_for()
        shown = page.inner_text(f"#{name} .note")
        assert "✎ wrong" in shown
        assert VISIBLE[0] in shown
        assert page.get_by_role("form").count() == 0
        assert "✎ wrong" in visit.text(".pane")
        visit.open(f"/notes?run={runs['trees']}")
        page.locator(".note-row").first.click()
        page.wait_for_url(lambda url: url.endswith(f"#{name}"))
        page.locator(f"#{name}.target").wait_for()


def test_a_note_about_a_conversation_is_written_with_a_key(
    browser: Browser, address: str, runs: dict[str, str]
) -> None:
    with visiting(browser, address) as visit:
        page = visit.open(f"/runs/{runs['before']}/test-00003/0")
        visit.press("m")
        form = page.get_by_role("form", name="Note")
        form.get_by_label("Another label").fill("to discuss")
        form.get_by_role("button", name="Cancel").click()
        assert page.get_by_role("form").count() == 0
        visit.press("m")
        form.get_by_label("Another label").fill("to discuss")
        form.get_by_role("button", name="Save note").click()
        page.locator(".talk > .note").wait_for()
        assert "to discuss" in visit.text(".talk > .note")
        visit.open("/notes?q=discuss")
        assert page.locator(".note-row").count() == 1
