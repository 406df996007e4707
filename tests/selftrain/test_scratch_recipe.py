"""`simkit run scratch` makes a model that plays, and says whose scores it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra [local]")
pytest.importorskip("transformers", reason="needs the extra [local]")

from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.recipes.scratch import scratch
from simkit.run.run import Run
from simkit.run.summary import Summary

pytestmark = pytest.mark.anyio
TOWN = "builtin,most_goals=2,restaurants=12,hotels=12,attractions=12,departures=2,domains=restaurant"


async def make(folder: Path) -> tuple[Summary, dict[str, str]]:
    """The summary, and the recipes of the stages."""
    models = ModelConfig(model="local/that-is-not-used")
    async with Run(store=folder / "store", recipe="scratch", models=models) as run:
        summary = await scratch(
            run, out=folder / "base", world=TOWN, demonstrator="scripted,error_rate=0", tasks=24, steps=2, check=2
        )
        found = await run.query("select stage, recipe from run_summary where part_of = ?", run.id)
    return summary, dict(found.rows)


async def test_the_report_has_the_scores_of_the_demonstrator_and_of_the_model(tmp_path: Path) -> None:
    summary, stages = await make(tmp_path)
    assert stages == {"lessons": "bootstrap", "check-t1": "rollout", "check-t0": "rollout"}
    assert summary.episodes == 0, "the dialogues are those of a stage, not of the run"
    assert summary.extra["model"] == f"local/{tmp_path / 'base'}"
    scores = {name: value["value"] for name, value in summary.extra.items() if "success" in name}
    assert scores == {"demonstrator_success": 1.0, "model_success_at_t1": 0.0, "model_success_at_t0": 0.0}


async def test_a_folder_with_other_contents_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "precious").touch()
    with pytest.raises(UsageError, match="exists already"):
        await make(tmp_path)
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["tasks", "steps", "check"])
async def test_nothing_of_a_kind_is_refused(tmp_path: Path, name: str) -> None:
    async with Run(store=tmp_path / "store") as run:
        with pytest.raises(UsageError, match=f"--{name} is 0"):
            await scratch(run, out=tmp_path / "base", **{name: 0})  # pyright: ignore[reportArgumentType]
