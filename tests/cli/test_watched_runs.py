"""Runs that are watched: the viewer beside them, and where they say it is."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from simkit.cli import progress, watching
from simkit.cli.watching import OwnViewer, watched
from simkit.run.engine import RunProgress
from simkit.run.run import Run
from simkit.store import Store
from simkit.store.watchers import announced, watched_at
from support.forked_commands import run_forked

ADDRESS = "http://127.0.0.1:7788"


def test_the_viewer_beside_a_run_opens_its_page_and_ends_with_the_run(tmp_path: Path) -> None:
    store, opened = tmp_path / "store", tmp_path / "opened"
    Store(store)
    os.mkfifo(opened)
    told = os.open(opened, os.O_RDWR | os.O_NONBLOCK)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{opened}"\n')
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": str(browser), "DISPLAY": ":9"}
    command = [sys.executable, "-m", "simkit.cli.watching", str(store), "/runs/r1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert select.select([told], [], [], 60)[0], "no page was opened"
            url = os.read(told, 500).decode()
            assert url.endswith("/runs/r1")
            assert watched_at(store) == url.removesuffix("/runs/r1")
            with urllib.request.urlopen(url.replace("/runs/r1", "/api/runs")) as answer:
                assert json.load(answer) == []
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()
            os.close(told)
    assert watched_at(store) is None


def test_a_run_with_view_ends_where_nobody_can_press_a_key(tmp_path: Path) -> None:
    store = tmp_path / "store"
    finished = run_forked(["run", "rollout", "--tasks", "1", "--view", "--quiet", "--store", str(store)])
    assert finished.code == 0, finished.err
    assert "episodes" in finished.out
    assert watched_at(store) is None


def test_a_store_that_is_watched_already_gets_no_second_viewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def note(url: str, new: int) -> None:
        opened.append(url)

    monkeypatch.setattr(watching.webbrowser, "open", note)
    with announced(tmp_path, ADDRESS), watched(tmp_path, "/runs/r1", wanted=True) as viewer:
        assert viewer is None
    assert opened == [f"{ADDRESS}/runs/r1"]
    assert f"watches {tmp_path} already, at {ADDRESS}/runs/r1" in capsys.readouterr().err.replace("\n", "")
    with watched(tmp_path, "/", wanted=False) as viewer:
        assert viewer is None


class Waiting:
    """A viewer's process that Ctrl-C interrupts."""

    def __init__(self) -> None:
        self.waited = 0

    def poll(self) -> None:
        return None

    def wait(self) -> None:
        self.waited += 1
        raise KeyboardInterrupt


@pytest.mark.parametrize("terminal", [True, False])
def test_on_a_terminal_the_viewer_stays_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    process = Waiting()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with announced(tmp_path, ADDRESS):
        OwnViewer(cast("Any", process)).stay(tmp_path)
    assert process.waited == terminal
    assert (f"the viewer stays at {ADDRESS} until Ctrl-C" in capsys.readouterr().err) == terminal


class Enough(Exception):
    """The display has been drawn often enough."""


def shown_by(stream: io.StringIO, addresses: list[str | None], run: RunProgress | None = None) -> str:
    """What the display of a run writes while these are the addresses of its viewer."""
    left = iter(addresses)

    def viewer() -> str | None:
        try:
            return next(left)
        except StopIteration:
            raise Enough from None

    with pytest.raises(Enough):
        anyio.run(progress.progress_for(stream, viewer), run or RunProgress(planned=3))
    return stream.getvalue()


def test_the_lines_of_a_run_say_once_where_it_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    text = shown_by(io.StringIO(), [None, ADDRESS, ADDRESS, None, ADDRESS])
    assert text.count(f"watched at {ADDRESS}\n") == 1
    assert text.count("0/3 episodes") == 5


def test_a_run_that_has_played_everything_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    played = RunProgress(planned=1, episodes=[cast("Any", None)])
    assert shown_by(io.StringIO(), [None] * 4, played).count("\n") == 1
    played.note = "training: step 5"  # what goes on is told
    assert shown_by(io.StringIO(), [None] * 4, played).count("training: step 5") == 4


def test_the_display_of_a_run_says_where_it_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DRAW_EVERY", 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    text = shown_by(stream, [None, ADDRESS])
    assert f"watched at {ADDRESS}" in text


async def stages_of(run: RunProgress, *stages: RunProgress) -> list[RunProgress]:
    """What a display of the run shows while each of these is its stage, and afterwards."""
    seen: list[RunProgress] = []
    for stage in stages:
        async with anyio.create_task_group() as group:
            group.start_soon(run.stage, stage)
            await anyio.wait_all_tasks_blocked()
            seen.append(run.shown)
            group.cancel_scope.cancel()
    return [*seen, run.shown]


def test_a_display_shows_the_stage_that_plays() -> None:
    run = RunProgress(note="lessons training: step 5")
    playing, played = RunProgress(planned=2), RunProgress(planned=1, episodes=[cast("Any", None)])
    assert [each is playing for each in anyio.run(stages_of, run, playing)] == [True, False]
    shown = anyio.run(stages_of, run, played)  # it plays nothing more, and the run has something to tell
    assert all(each is run for each in shown)


def test_the_stages_of_a_run_have_one_display(tmp_path: Path) -> None:
    displayed: list[RunProgress] = []

    async def display(progress: RunProgress) -> None:
        displayed.append(progress)
        await anyio.sleep_forever()

    async def main() -> RunProgress:
        async with Run(store=tmp_path, progress=display) as run:
            async with run.part("one"), run.part("other"):
                await anyio.wait_all_tasks_blocked()
                assert len(run.progress.stages) == 2
            assert run.progress.stages == []
        return run.progress

    run = anyio.run(main)
    assert len(displayed) == 1
    assert displayed[0] is run
