"""Tools and models of a dialogue for agent frameworks: LangChain and LangGraph, OpenAI's Agents SDK, pydantic-ai.

Each function imports its framework when it is called. The models ask the run's model (`--model`) through the dialogue.
Tools are those of the world, with their own JSON schemas; a failed call gives the model its error as text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from simkit.core.messages import ToolSpec
from simkit.plugins.extras import require

if TYPE_CHECKING:
    from simkit.agents.loop import Dialogue

MODEL = "simkit"
"""Name that the frameworks use for the run's model."""


def langchain_tools(dialogue: Dialogue) -> list[Any]:
    """The tools as LangChain's `StructuredTool`."""
    tools = require("langchain_core.tools", "langgraph")
    return [
        tools.StructuredTool(
            name=spec.name,
            description=_description(spec),
            args_schema=_schema(spec),
            coroutine=_by_name(dialogue, spec),
        )
        for spec in dialogue.tools
    ]


def langchain_model(dialogue: Dialogue, **options: Any) -> Any:
    """The run's model as LangChain's `ChatOpenAI`, with its options (`temperature=0.7`)."""
    openai, client = require("langchain_openai", "langgraph"), dialogue.openai_client
    given: dict[str, Any] = {"model": MODEL, "max_retries": 0, "async_client": client.chat.completions, **options}
    return openai.ChatOpenAI(root_async_client=client, base_url=dialogue.base_url, api_key=dialogue.api_key, **given)


def openai_agents_tools(dialogue: Dialogue) -> list[Any]:
    """The tools as `FunctionTool` of OpenAI's Agents SDK."""
    agents = require("agents", "openai-agents")

    def invoked(spec: ToolSpec) -> Callable[[Any, str], Awaitable[str]]:
        async def invoke(_context: Any, arguments: str) -> str:
            return await dialogue.call(spec.name, arguments or "{}")

        return invoke

    return [
        agents.FunctionTool(
            name=spec.name,
            description=_description(spec),
            params_json_schema=_schema(spec),
            on_invoke_tool=invoked(spec),
            strict_json_schema=False,
        )
        for spec in dialogue.tools
    ]


def openai_agents_model(dialogue: Dialogue) -> Any:
    """The run's model for OpenAI's Agents SDK.

    The SDK sends traces to OpenAI unless it is told not to: `RunConfig(tracing_disabled=True)`.
    """
    agents = require("agents", "openai-agents")
    return agents.OpenAIChatCompletionsModel(model=MODEL, openai_client=dialogue.openai_client)


def pydantic_ai_tools(dialogue: Dialogue) -> list[Any]:
    """The tools as `Tool` of pydantic-ai."""
    tool = require("pydantic_ai", "pydantic-ai").Tool
    return [
        tool.from_schema(
            _by_name(dialogue, spec),
            name=spec.name,
            description=_description(spec),
            json_schema=_schema(spec),
            sequential=True,
        )
        for spec in dialogue.tools
    ]


def pydantic_ai_model(dialogue: Dialogue) -> Any:
    """The run's model for pydantic-ai."""
    models = require("pydantic_ai.models.openai", "pydantic-ai")
    providers = require("pydantic_ai.providers.openai", "pydantic-ai")
    return models.OpenAIChatModel(MODEL, provider=providers.OpenAIProvider(openai_client=dialogue.openai_client))


def _by_name(dialogue: Dialogue, spec: ToolSpec) -> Callable[..., Awaitable[str]]:
    async def call(**arguments: Any) -> str:
        return await dialogue.call(spec.name, arguments)

    return call


def _description(spec: ToolSpec) -> str:
    return spec.function.description or spec.name


def _schema(spec: ToolSpec) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(orjson.dumps(spec.function.parameters or {}))
    return {"type": "object", "properties": {}, **found}
