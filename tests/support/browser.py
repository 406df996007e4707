"""Pages of the viewer in a real browser: Debian's Chromium, driven by playwright.

A visit collects what must never happen: errors on the console, and requests to anything but the viewer.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

Theme: TypeAlias = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDE, NARROW = 1440, 390
HEIGHT = 900

WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
"""The rules of axe-core for WCAG 2.2, levels A and AA."""

PATIENCE = 30_000
"""Milliseconds that a page may take on a busy machine."""


def chromium() -> str | None:
    """Path of the browser: SIMKIT_CHROMIUM, or what Debian installs; None if there is none."""
    return os.environ.get("SIMKIT_CHROMIUM") or shutil.which("chromium")


def missing() -> str | None:
    """Why no page can be opened here; None if one can."""
    if not all(map(find_spec, ("playwright", "axe_playwright_python"))):
        return "playwright and axe are not installed: pip install '.[test]'"
    if chromium() is None:
        return "there is no browser: apt-get install chromium, or name one in SIMKIT_CHROMIUM"
    return None


@contextmanager
def opened_browser(*arguments: str) -> Generator[Browser]:
    """A browser, with further arguments, that resolves no names, so that nothing leaves this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium(),
            chromium_sandbox=os.geteuid() != 0,
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-lcd-text", *arguments],
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(store: Path, *flags: str) -> Generator[str]:
    """Address of a `simkit view` over a store, in a process of its own that ends with the context."""
    command = [sys.executable, "-m", "simkit", "view", "--no-browser", "--port", "0", "--json", "--store", str(store)]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"].rstrip("/")
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            finally:
                process.kill()


@cache
def axe() -> str:
    """The source of axe-core."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@dataclass
class Visit:
    """One tab of a browser at a viewer's address.

    Attributes:
        page: the tab.
        address: the viewer's, without a path; `file://` for an exported file.
        problems: errors on the console and in scripts, and failed requests.
        outside: requests to anything but the viewer.
    """

    page: Page
    address: str
    problems: list[str] = field(default_factory=list[str])
    outside: list[str] = field(default_factory=list[str])

    def open(self, path: str) -> Page:
        """Open a page and wait until it shows what it is about."""
        self.page.goto(f"{self.address}{path}", wait_until="domcontentloaded")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the page waits for no answer, and has been drawn."""
        self.page.wait_for_selector("main")
        self.page.wait_for_selector(".waiting", state="detached")
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def press(self, *keys: str) -> None:
        """Press keys one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.2 A and AA, in words."""
        self.page.evaluate(axe())
        found = self.page.evaluate(f"axe.run(document, {{runOnly: {json.dumps(WCAG)}, resultTypes: ['violations']}})")
        return [
            f"{rule['id']}: {rule['help']}: {node['html'][:200]}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def scrolls_sideways(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def text(self, selector: str = "body") -> str:
        """The visible text of an element."""
        return self.page.inner_text(selector)

    def route_of(self) -> str:
        """Path and query that the address bar shows."""
        parts = urlsplit(self.page.url)
        return f"{parts.path}{'?' if parts.query else ''}{parts.query}{'#' if parts.fragment else ''}{parts.fragment}"

    def check(self) -> None:
        """Nothing went wrong, and nothing was asked of anybody else."""
        assert self.problems == []
        assert self.outside == []

    def heard(self, message: ConsoleMessage) -> None:
        """Keep errors and warnings of the console."""
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text[:500]}")

    def failed(self, request: Request) -> None:
        """Keep requests that failed; those that leaving a page ends are none."""
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.url} {request.failure}")

    def asked(self, request: Request) -> None:
        """Keep requests to others."""
        if not request.url.startswith((self.address, "data:", "blob:", "about:")):
            self.outside.append(request.url)


@contextmanager
def visiting(
    browser: Browser, address: str, theme: Theme = "light", width: int = WIDE, **options: Any
) -> Generator[Visit]:
    """A visit in a fresh profile; that nothing went wrong is checked at its end."""
    settings: Mapping[str, Any] = {"color_scheme": theme, "viewport": {"width": width, "height": HEIGHT}, **options}
    context = browser.new_context(reduced_motion="reduce", **settings)
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        visit = Visit(page, address)
        page.on("console", visit.heard)
        page.on("pageerror", lambda error: visit.problems.append(f"uncaught: {error}"))
        page.on("requestfailed", visit.failed)
        context.on("request", visit.asked)
        yield visit
        visit.check()
    finally:
        context.close()
