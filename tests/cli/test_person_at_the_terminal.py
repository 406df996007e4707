"""A person plays the user at a real terminal."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from pseudo_terminal import Terminal

DRAWN = re.compile(r"\x1b\[\?25l|\x1b\[2K|turns/s")


def started(store: Path, tasks: int) -> Terminal:
    return Terminal(80, "run", "rollout", "--user", "human", "--tasks", str(tasks), "--store", store)


def test_nothing_is_drawn_over_the_prompt_and_history_shows_both_sides(tmp_path: Path) -> None:
    terminal = started(tmp_path, 1)
    assert "You are the customer of task test-00000" in terminal.until("you: ")
    terminal.type("hello there\n")
    assert "agent: " in terminal.until("you: ")
    terminal.type("/history\n")
    terminal.until("\r\nyou: hello there\r\nagent: ")
    terminal.until("you: ")
    terminal.type("/quit\n")
    code, output = terminal.end()
    assert code == 0
    assert not DRAWN.search(output)
    assert "episodes" in output


def test_several_conversations_come_in_turn_and_ctrl_d_ends_each(tmp_path: Path) -> None:
    terminal = started(tmp_path, 2)
    for number in range(2):
        assert f"task test-0000{number} ---" in terminal.until("you: ")
        terminal.type("hello\n")
        terminal.until("you: ")
        terminal.type("\x04")
    code, output = terminal.end()
    assert code == 0
    assert re.search(r"outcomes +user_ended 2", output)


def test_ctrl_c_ends_the_run_while_the_person_is_asked(tmp_path: Path) -> None:
    terminal = started(tmp_path, 2)
    terminal.until("you: ")
    assert terminal.process.pid is not None
    os.kill(terminal.process.pid, signal.SIGINT)
    code, output = terminal.end()
    assert code == 130
    assert "interrupted" in output
    assert "Traceback" not in output
