"""simkit: a conversation simulator for people who evaluate and train tool-using dialogue agents.

Public names are imported on first use, so that `import simkit` and the command line start quickly.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str

    from simkit.components import (
        Act,
        Agent,
        AgentStart,
        CallTool,
        Cast,
        Decision,
        Hit,
        Reward,
        ScoreEpisode,
        ScoreTurn,
        Speak,
        StartAgent,
        StartTools,
        ToolReturn,
        ToolServer,
        ToolsStart,
        User,
        UserTurn,
    )
    from simkit.conversation import Conversation, Entry, Utterance
    from simkit.engine import FaultPolicy
    from simkit.errors import Fault, RunStopped, SimkitError, UsageError
    from simkit.limits import Limits
    from simkit.messages import AssistantMessage, ToolCall, ToolResult, ToolSpec
    from simkit.models.build import ModelOptions
    from simkit.models.choices import ModelChoices
    from simkit.run import Run
    from simkit.store import Store
    from simkit.summary import Summary
    from simkit.supervisors.base import Episode, Supervisor
    from simkit.supervisors.josh import BeamSearch, Josh
    from simkit.supervisors.rollout import Rollout
    from simkit.tasks import Goal, Ontology, Task, Wish, World

# In a checkout the rooms (agents, users, ...) stand beside this folder; installed, they are inside it.
_checkout = Path(__file__).parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "agents" / "__init__.py").is_file():
    __path__.append(str(_checkout))

_HOMES = {
    "components": (
        "Act Agent AgentStart CallTool Cast Decision Hit Reward ScoreEpisode ScoreTurn Speak StartAgent StartTools "
        "ToolReturn ToolServer ToolsStart User UserTurn"
    ),
    "conversation": "Conversation Entry Utterance",
    "engine": "FaultPolicy",
    "errors": "Fault RunStopped SimkitError UsageError",
    "limits": "Limits",
    "messages": "AssistantMessage ToolCall ToolResult ToolSpec",
    "models.build": "ModelOptions",
    "models.choices": "ModelChoices",
    "run": "Run",
    "store": "Store",
    "summary": "Summary",
    "supervisors.base": "Episode Supervisor",
    "supervisors.josh": "BeamSearch Josh",
    "supervisors.rollout": "Rollout",
    "tasks": "Goal Ontology Task Wish World",
}

__all__ = [
    "Act",
    "Agent",
    "AgentStart",
    "AssistantMessage",
    "BeamSearch",
    "CallTool",
    "Cast",
    "Conversation",
    "Decision",
    "Entry",
    "Episode",
    "Fault",
    "FaultPolicy",
    "Goal",
    "Hit",
    "Josh",
    "Limits",
    "ModelChoices",
    "ModelOptions",
    "Ontology",
    "Reward",
    "Rollout",
    "Run",
    "RunStopped",
    "ScoreEpisode",
    "ScoreTurn",
    "SimkitError",
    "Speak",
    "StartAgent",
    "StartTools",
    "Store",
    "Summary",
    "Supervisor",
    "Task",
    "ToolCall",
    "ToolResult",
    "ToolReturn",
    "ToolServer",
    "ToolSpec",
    "ToolsStart",
    "UsageError",
    "User",
    "UserTurn",
    "Utterance",
    "Wish",
    "World",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"simkit.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _version() -> str:
    """The version of the installed distribution, `unknown` in a checkout that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("josh-simkit")
    except PackageNotFoundError:
        return "unknown"
