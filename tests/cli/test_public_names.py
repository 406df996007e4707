from __future__ import annotations

import inspect
import subprocess
import sys

import simkit

NAMES = """
Act Agent AgentStart Allowance Allowances AssistantMessage BeamSearch CallKey CallRecord CallTool Cast CastChoice
Changed ChatModel ChatRequest ChatResponse Conversation Decision Domain Ending Entry Episode EpisodeReward Estimate
Fault FaultPolicy FunctionTools Goal GoalCalls Hit Josh Limits Message ModelConfig NotForkable Ontology Outcome
Playout Recorder Reward RewardPart Rollout Run RunStopped Sampling ScoreEpisode ScoreTurn Search SearchTree
SimkitError Slot Speak StartAgent StartTools Store StoreError Summary SystemMessage Task TaskChoice ToolCall
ToolMessage ToolResult ToolReturn ToolServer ToolSpec ToolsStart TreeSearch TurnKey Usage UsageError User UserMessage
UserTurn Utterance Watch WeightedRewards Wish WorkUnit World choose_tasks harvest_summary load_world without_flags
"""


def test_the_public_names_are_these_and_all_can_be_imported() -> None:
    assert simkit.__all__ == NAMES.split()
    assert dir(simkit) == sorted([*simkit.__all__, "__version__"])
    for name in simkit.__all__:
        value = getattr(simkit, name)
        assert (not inspect.isroutine(value) and not inspect.isclass(value)) or value.__name__ == name


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
