from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import simkit

NAMES = """
Act Agent AgentStart Allowance Allowances AssistantMessage BeamSearch CallKey CallRecord CallTool Cast CastChoice
Changed ChatModel ChatRequest ChatResponse Check Conversation Decision Domain Ending Entry Episode EpisodeReward
Estimate Expected ExpectedCall ExplainGoals Fault FaultPolicy FunctionTools Goal GoalCalls Hit Josh Limits Message
ModelConfig NotForkable Ontology Outcome Playout Recorder Reward RewardPart Rollout Run RunStopped Sampling
ScoreEpisode ScoreTurn Search SearchTree SimkitError Slot Speak StartAgent StartTools Store StoreError Summary
SystemMessage Task TaskChoice ToolCall ToolMessage ToolResult ToolReturn ToolServer ToolSpec ToolsStart TreeSearch
TurnKey Usage UsageError User UserMessage UserResult UserTurn Utterance Watch WeightedRewards Wish WorkUnit World
choose_tasks harvest_summary load_world shardable show_progress view without_flags
"""


def test_the_public_names_are_these_and_all_can_be_imported() -> None:
    assert simkit.__all__ == NAMES.split()
    assert dir(simkit) == sorted([*simkit.__all__, "__version__"])
    for name in simkit.__all__:
        value = getattr(simkit, name)
        assert (not inspect.isroutine(value) and not inspect.isclass(value)) or value.__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(simkit, "nothing_of_the_kind")


@pytest.mark.parametrize("command", ["--help", "ls --help", "ls", "ls --store STORE --json"])
def test_light_commands_import_nothing_heavy(command: str, tmp_path: Path) -> None:

    async def empty_run() -> None:
        async with simkit.Run(store=tmp_path / "simkit-store"):
            pass

    anyio.run(empty_run)
    code = """
import sys
from simkit.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"pydantic", "pydantic_settings", "httpx2", "anyio", "asyncio", "openai", "rich.markdown"}
print(sorted(heavy & {*sys.modules}))
print("duckdb" in sys.modules)
"""
    arguments = command.replace("STORE", str(tmp_path / "simkit-store")).split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMKIT_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    heavy, database = done.stdout.splitlines()[-2:]
    assert heavy == ("['rich.markdown']" if command == "ls --help" else "[]"), done.stderr
    assert database == str("--help" not in command)
