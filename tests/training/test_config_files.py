from __future__ import annotations

from pathlib import Path

import pytest

from simkit.errors import UsageError
from simkit.training.config_files import METHODS, load_config, shipped_configs


def test_every_preset_has_settings_for_every_method() -> None:
    assert shipped_configs() == ("paper-llama3-8b-kto", "qwen3-8b-lora", "smollm2-135m", "tiny-cpu")
    for name in shipped_configs():
        for method in METHODS:
            settings = load_config(name, method)
            assert settings["learning_rate"] > 0
            assert not set(METHODS) & set(settings)


def test_the_papers_settings() -> None:
    kto, sft = (load_config("paper-llama3-8b-kto", method) for method in ("kto", "sft"))
    assert (kto["learning_rate"], kto["beta"], kto["num_train_epochs"]) == (5e-7, 0.1, 1)
    assert kto["per_device_train_batch_size"] * kto["gradient_accumulation_steps"] == 16
    assert (kto["desirable_weight"], kto["undesirable_weight"]) == (1.0, 2.71)
    assert (kto["lora_r"], kto["lora_alpha"], kto["load_in_4bit"]) == (64, 64, True)
    assert (sft["learning_rate"], sft["num_train_epochs"], sft.get("use_peft")) == (2e-5, 3, None)


def test_a_section_overrides_the_common_settings_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("learning_rate: 1.0e-3\nmax_steps: 5\nkto:\n  learning_rate: 1.0e-5\n")
    assert load_config(str(file), "kto") == {"learning_rate": 1e-5, "max_steps": 5}
    assert load_config(str(file), "sft") == {"learning_rate": 1e-3, "max_steps": 5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- learning_rate", "one setting a line"),
        ("a: [", "is no YAML"),
        ("sft: 3", "the section `sft` holds 3"),
        ("env: {WANDB_API_KEY: x}", "set them in the shell"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_config(str(file), "sft")


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="there is no preset `huge`; choose one of paper-llama3-8b-kto, qwen3-8b-lora"):
        load_config("huge", "sft")
    with pytest.raises(UsageError, match=r"--config nothing\.yaml cannot be read"):
        load_config("nothing.yaml", "sft")
