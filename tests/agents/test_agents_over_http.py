"""Agent and user, each asking a model over HTTP: what they send is what an OpenAI-compatible endpoint takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simkit import Rollout, Run
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.agents.react import ReactAgent
from simkit.models.config import ModelConfig
from simkit.models.factory import Endpoints, open_model
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from simkit.users.goal import GoalUser
from simkit.users.reply_formats import Ending

pytestmark = pytest.mark.anyio

CALL = {"id": "", "type": "function", "function": {"name": "search_train", "arguments": '{"day": "friday"}'}}
BYE = {"id": "1", "type": "function", "function": {"name": "end_conversation", "arguments": '{"message": "Bye."}'}}


def answer(body: Mapping[str, Any]) -> str | Mapping[str, Any]:
    """Plays both: the user is told apart by its prompt, and stays for two turns."""
    messages = body["messages"]
    if "You play a customer" in messages[0]["content"]:
        return _user(body, turns=sum(message["role"] == "assistant" for message in messages))
    last = messages[-1]
    if last["role"] == "tool" or "APIRETURN" in last["content"]:
        text = "Which train would you like?"
        return text if "tools" in body else f"SPEAK {text} <COMMAND_END>"
    if "tools" in body:
        return {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL, CALL]}
    return 'PLAN Look. <COMMAND_END>\nAPICALL {"name": "search_train", "parameters": {"day": "friday"}} <COMMAND_END>'


def _user(body: Mapping[str, Any], turns: int) -> str | Mapping[str, Any]:
    if "response_format" in body:
        return '{"say": "A train.", "end": %s, "reason": "done"}' % ("true" if turns == 2 else "false")
    if turns < 2:
        return f"A train, number {turns}."
    return {"role": "assistant", "content": None, "tool_calls": [BYE]} if "tools" in body else "Bye.\nEND_CONVERSATION"


@pytest.mark.parametrize(("kind", "ending"), [("function_calling", "tool"), ("react", "line"), ("react", "json")])
async def test_a_conversation_over_http(kind: str, ending: Ending, tmp_path: Path) -> None:
    agents = {"react": ReactAgent, "function_calling": FunctionCallingAgent}
    async with serve(Behaviour(reply=answer)) as server, Endpoints() as endpoints, Run(store=tmp_path, seed=3) as run:
        options = ModelConfig(base_url=server.base_url, temperature=1.0)
        async with open_model("openai/m", options, endpoints=endpoints) as model:
            world = run.world("builtin")
            user = GoalUser(model, world, ending=ending)
            cast = run.cast(world, agent=agents[kind](model), user=user)
            (episode,) = await run.play(Rollout(), cast, run.tasks(world, "test", 1))
        seen = await server.stats()
        tools = await run.query("FROM tool_calls SELECT DISTINCT call_id, error ORDER BY ALL")
        heard = await run.query("FROM messages SELECT heard WHERE heard IS NOT NULL ORDER BY turn, author = 'user'")
    assert (episode.outcome, episode.turns, episode.error) == ("user_ended", 2, None)
    assert (seen.requests, seen.repeated, seen.faults) == (7, 0, {})
    ids = [f"t0{turn}s00c0{index}" for turn in (1, 2) for index in range(2 if kind == "function_calling" else 1)]
    assert tools.rows == [(id, False) for id in ids]
    assert [text for (text,) in heard.rows].count("Which train would you like?") == 2
