from __future__ import annotations

from typing import get_args

import pytest

from simkit.errors import UsageError
from simkit.training.presets import Method, Preset, PresetName, preset


def test_every_preset_has_settings_for_every_method() -> None:
    for name in get_args(PresetName):
        for method in get_args(Method):
            assert preset(name, method).learning_rate > 0


def test_the_papers_settings() -> None:
    kto, sft = preset("paper", "kto"), preset("paper", "sft")
    assert (kto.learning_rate, kto.beta, kto.epochs, kto.batch) == (5e-7, 0.1, 1, 16)
    assert (kto.desirable_weight, kto.undesirable_weight) == (1.0, 2.71)
    assert (kto.lora_rank, kto.lora_alpha, kto.quantize) == (64, 64, True)
    assert (sft.learning_rate, sft.epochs, sft.lora_rank) == (2e-5, 3, 0)


def test_flags_override_and_what_is_left_out_stays() -> None:
    start = preset("tiny", "sft")
    changed = start.overridden(learning_rate=1e-5, epochs=None, lora_rank=0)
    assert (changed.learning_rate, changed.epochs, changed.lora_rank) == (1e-5, start.epochs, 0)


def test_a_batch_is_split_evenly() -> None:
    split = Preset(learning_rate=1e-3, batch=12, micro_batch=4)
    assert (split.at_once, split.accumulated) == (4, 3)
    assert (Preset(learning_rate=1e-3, batch=12).at_once, Preset(learning_rate=1e-3, batch=12).accumulated) == (12, 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0; it must be above 0"),
        ({"lora_rank": -1}, "`lora_rank` is -1; it must be at least 0"),
        ({"batch": 10, "micro_batch": 4}, "choose a micro-batch that divides 10"),
        ({"nonsense": 1}, "a preset has no `nonsense`"),
    ],
)
def test_a_value_that_cannot_be_is_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        preset("tiny", "sft").overridden(**values)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="there is no preset `huge`; choose one of: paper, cpu, tiny"):
        preset("huge", "sft")
