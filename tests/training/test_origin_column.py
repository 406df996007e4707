"""TRL's trainers accept the files that `simkit export` writes by default, with the origin of each row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_model import write_small_model

from simkit.core.messages import AssistantMessage, UserMessage
from simkit.data.examples import DpoExample, Example, ExampleSet, Kind, KtoExample, SftExample
from simkit.data.export import write
from simkit.data.origins import ExampleOrigin
from simkit.plugins.extras import require

TRAINERS = {"sft": "SFT", "kto": "KTO", "dpo": "DPO"}
ORIGIN = ExampleOrigin(run_id="r1", episode_id="r1/T0/0", task_id="T0", model="openai/x", reward=0.5)


def examples_of(kind: Kind) -> ExampleSet:
    asked, good, bad = (UserMessage.of("hotel"),), (AssistantMessage.of("name"),), (AssistantMessage.of("tool"),)

    def one(number: int) -> Example:
        match kind:
            case "sft":
                return SftExample(messages=(*asked, *good), origin=ORIGIN)
            case "kto":
                return KtoExample(prompt=asked, completion=(good, bad)[number % 2], label=number % 2 == 0)
            case "dpo":
                return DpoExample(prompt=asked, chosen=good, rejected=bad, origin=ORIGIN)

    return ExampleSet(kind, tuple(replace(one(number), origin=ORIGIN) for number in range(4)))


@pytest.mark.filterwarnings("default")  # of TRL and transformers about their own options
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("kind", ["sft", "kto", "dpo"])
def test_a_trainer_takes_a_step_on_an_exported_file(tmp_path: Path, kind: Kind, ending: str) -> None:
    trl: Any = pytest.importorskip("trl", reason="trl is not installed: pip install '.[train]'")
    datasets = require("datasets", "train")
    examples = examples_of(kind)
    file = write(examples, tmp_path / f"examples.{ending}")
    reader = "json" if ending == "jsonl" else "parquet"
    loaded = datasets.load_dataset(reader, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    origin = loaded[0]["origin"]
    assert (json.loads(origin) if isinstance(origin, str) else origin)["model"] == "openai/x"
    model = write_small_model(tmp_path / "model", examples)
    name = TRAINERS[kind]
    chosen = getattr(trl, f"{name}Config")(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        gradient_checkpointing=None,
        activation_checkpointing=False,
    )
    trainer = getattr(trl, f"{name}Trainer")(model=str(model), args=chosen, train_dataset=loaded)
    assert trainer.train().global_step == 1
