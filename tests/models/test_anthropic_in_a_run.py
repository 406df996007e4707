"""Runs against a strict server of the Messages API: what agents and users send is accepted, kept and sent again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from messages_api import KEY, KNOWN, serve_messages, thinking
from pydantic import SecretStr

from simkit import Josh, Rollout, Run
from simkit.core.limits import Limits
from simkit.errors import RunStopped
from simkit.models.config import ModelConfig
from simkit.store import Store

pytestmark = pytest.mark.anyio

CALL = {"type": "tool_use", "id": "toolu_9", "name": "search_train", "input": {"day": "friday"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def plays_user(body: Mapping[str, Any]) -> bool:
    return "You play a customer" in body["system"][0]["text"]


def answer(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plays both. The user's part is recognized by its prompt."""
    said = sum(turn["role"] == "assistant" for turn in body["messages"])
    if plays_user(body):
        return [thinking(f"I want train {said}."), text(f"A train, number {said}.")]
    if body["messages"][-1]["content"][0]["type"] == "tool_result":
        return [thinking(f"Found at {said}."), text("Which train "), thinking("Politely."), text("would you like?")]
    return [thinking(f"Look at {said}."), text("Let me look."), CALL, {**CALL, "id": "toolu_10"}]


def config(base_url: str) -> ModelConfig:
    model = "anthropic/claude-opus-5"
    return ModelConfig(model=model, user_model=model, base_url=base_url, api_key=SecretStr(KEY), reasoning_effort="low")


async def test_agent_and_user_talk_and_keep_their_thoughts(tmp_path: Path) -> None:
    with serve_messages(answer) as server:
        async with Run(store=tmp_path, models=config(server.base_url), seed=3) as run:
            world = run.world("builtin")
            cast = run.cast(world, agent="function_calling", user="goal")
            (episode,) = await run.play(Rollout(Limits(turns=3)), cast, run.tasks(world, "test", 1))
            heard = await run.query("FROM messages SELECT heard WHERE heard IS NOT NULL AND turn > 0 ORDER BY ALL")
            calls = await run.query("FROM model_calls SELECT prompt_tokens, completion_tokens, cost, error")
    assert (episode.error, episode.turns, server.refused) == (None, 3, [])
    assert {text for (text,) in heard.rows} <= {
        "Which train would you like?",
        *(f"A train, number {number}." for number in range(5)),
    }
    assert {row[:2] + row[3:] for row in calls.rows} == {(100, 5, None)}
    assert all(row[2] > 0 for row in calls.rows)
    last = next(body for body in reversed(server.accepted) if not plays_user(body))
    spoken = [turn["content"] for turn in last["messages"] if turn["role"] == "assistant"]
    assert [block["type"] for block in spoken[0]] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block["type"] for block in spoken[1]] == ["thinking", "text", "thinking", "text"]


async def test_the_branches_of_a_tree_keep_their_thoughts(tmp_path: Path) -> None:
    with serve_messages(answer) as server:
        models = config(server.base_url).model_copy(update={"temperature": 1.0, "user_model": None})
        async with Run(store=tmp_path, models=models, seed=3) as run:
            world = run.world("builtin")
            cast = run.cast(world, agent="function_calling")
            (episode,) = await run.play(Josh(limits=Limits(turns=3)), cast, run.tasks(world, "test", 1))
            branches = await run.query("SELECT count(*) FROM branches")
    assert (episode.error, server.refused) == (None, [])
    assert branches.rows[0][0] > 3


def test_a_killed_run_goes_on_with_the_thoughts_of_the_journal(tmp_path: Path) -> None:
    environment = {**os.environ, "ANTHROPIC_API_KEY": KEY}
    command = [sys.executable, "-m", "simkit"]
    flags = ["--model", "anthropic/claude-opus-5", "--user-model", "anthropic/claude-opus-5", "--max-turns", "3"]
    with serve_messages(answer) as server:
        server.kill_at = 7
        flags += ["--base-url", server.base_url, "--tasks", "1", "--seed", "3"]
        started = subprocess.Popen(
            [*command, "run", "rollout", "--store", str(tmp_path), *flags],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server.victim = started.pid
        assert started.wait() == -9
        before = list(server.accepted)
        subprocess.run(
            [*command, "resume", "last", "--store", str(tmp_path)], env=environment, capture_output=True, check=True
        )
    assert server.refused == []
    assert len(before) == 8
    after = server.accepted[len(before) :]
    assert after[0] == before[-1]
    assert all(body not in before[:-1] for body in after)
    kept = [block for body in after for turn in body["messages"] for block in turn["content"]]
    assert thinking("Look at 0.") in kept
    with Store(tmp_path).reading() as reader:
        assert reader.query("SELECT count(*) FROM model_calls WHERE error IS NOT NULL").rows == [(0,)]


async def test_an_option_that_the_api_refuses_is_left_out_only_when_asked(tmp_path: Path) -> None:
    with serve_messages(answer) as server:
        server.known = KNOWN - {"temperature"}
        models = config(server.base_url).model_copy(update={"temperature": 0.5, "user_model": None})
        for sends, outcome in ((("temperature=",), None), ((), "OptionRefused")):
            failed = None
            try:
                async with Run(store=tmp_path, models=models.model_copy(update={"send_as": sends}), seed=3) as run:
                    world = run.world("builtin")
                    cast = run.cast(world, agent="function_calling")
                    await run.play(Rollout(Limits(turns=1)), cast, run.tasks(world, "test", 1))
            except RunStopped as error:
                failed = type(error).__name__
            assert failed == outcome
    assert all("temperature" not in body for body in server.accepted)
