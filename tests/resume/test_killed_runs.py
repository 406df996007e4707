from __future__ import annotations

from pathlib import Path

import pytest

from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.killing import CountingReplies, Killer, contents

pytestmark = pytest.mark.anyio

AGENT = f"{Path(__file__).parent / 'asking.py'}:AskingAgent"


async def test_a_run_killed_ten_times_ends_as_if_nobody_had_killed_it(tmp_path: Path) -> None:
    replies = CountingReplies()
    async with serve(Behaviour(latency=0.02, reply=replies)) as server:
        flags = ["--agent", AGENT, "--model", "openai/load", "--base-url", server.base_url, "--seed", "3"]
        arguments = ["run", "josh", "--tasks", "3", "--beam", "4", *flags]
        whole = await Killer(kills=0).run(arguments, tmp_path / "whole", CountingReplies())
        replies.counts.clear()
        killed = await Killer(kills=10, answers=20, seed=1).run(arguments, tmp_path / "killed", replies)
    assert killed.kills >= 5
    assert killed.acknowledged > 0
    assert killed.repeated == []
    assert contents(tmp_path / "killed", killed.run_id) == contents(tmp_path / "whole", whole.run_id)
