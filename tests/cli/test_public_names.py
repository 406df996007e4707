from __future__ import annotations

import subprocess
import sys

import simkit

NAMES = """
Act Agent AgentStart AssistantMessage BeamSearch CallTool Cast Conversation Decision Entry Episode Fault
FaultPolicy Goal Hit Josh Limits ModelConfig Ontology Reward Rollout Run RunStopped ScoreEpisode
ScoreTurn SimkitError Speak StartAgent StartTools Store Summary Supervisor Task ToolCall ToolResult ToolReturn
ToolServer ToolSpec ToolsStart UsageError User UserTurn Utterance Wish World
"""


def test_the_public_names_are_these_and_all_can_be_imported() -> None:
    assert simkit.__all__ == NAMES.split()
    assert dir(simkit) == sorted([*simkit.__all__, "__version__"])
    for name in simkit.__all__:
        assert getattr(simkit, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(simkit, "nothing_of_the_kind")


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from typer.testing import CliRunner
from simkit.cli.app import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print([name for name in ("duckdb", "pydantic", "openai", "anyio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
