from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.training.config_files import load_config
from simkit.training.groups import joined
from simkit.training.guard import Guard
from simkit.training.jobs import TrainingJob
from simkit.training.play import in_memory
from simkit.training.trainer import train
from support.training_runs import practised, trained

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench

    from simkit.local.chat import ChatFormat
    from simkit.training.jobs import TrainingMetrics

for module in ("torch", "transformers", "trl"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[train]'")


FEW: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "num_generations": 2,
    "max_steps": 2,
    "learning_rate": 1e-4,
}


def job(bench: Bench, out: Path, guard: Guard | None = None, **settings: Any) -> TrainingJob:
    how = {**load_config("tiny-cpu", "grpo"), **FEW, **settings}
    return TrainingJob(method="grpo", model=str(bench.model), practice=bench.place, config=how, out=out, guard=guard)


def loaded(bench: Bench) -> tuple[Any, ChatFormat]:
    from simkit.local.chat import ChatFormat

    transformers = require("transformers", "train")
    return transformers.AutoModelForCausalLM.from_pretrained(bench.model), ChatFormat.of(bench.model)


def test_the_sequences_hold_the_very_tokens_and_log_probabilities_the_model_sampled(
    bench: Bench, tmp_path: Path
) -> None:
    torch = require("torch", "train")
    weights, form = loaded(bench)
    with in_memory(weights, form) as model:
        branches = anyio.run(practised, tmp_path, bench.place, model, 3)
    assert len({tuple(one.replies[0].prompt_ids) for one in branches}) == 1
    for one in branches:
        sequence, cut_off = joined(one.replies), len(one.replies[-1].ids) == bench.place.reply_tokens
        whole = torch.tensor([sequence.prompt_ids + sequence.ids])
        with torch.no_grad():
            scores = torch.log_softmax(weights(input_ids=whole).logits[0, :-1].float(), dim=-1)
        found = scores.gather(1, whole[0, 1:, None])[len(sequence.prompt_ids) - 1 :, 0]
        sampled = torch.tensor(sequence.mask, dtype=torch.bool)
        assert torch.allclose(found[sampled], torch.tensor(sequence.logprobs)[sampled], atol=1e-3)
        assert cut_off or form.text(sequence.ids[-1:]) == "<|im_end|>"


def test_what_is_masked_is_what_users_and_tools_said(bench: Bench, tmp_path: Path) -> None:
    weights, form = loaded(bench)
    with in_memory(weights, form) as model:
        branches = anyio.run(practised, tmp_path, bench.place, model, 2)
    assert len(branches) == 2
    for one in branches:
        sequence = joined(one.replies)
        last = len(one.replies[-1].ids)
        assert sequence.ids[-last:] == list(one.replies[-1].ids)
        assert sequence.mask[-last:] == [1] * last
        sampled = [token for token, mine in zip(sequence.ids, sequence.mask, strict=True) if mine]
        others = [token for token, mine in zip(sequence.ids, sequence.mask, strict=True) if not mine]
        assert "<|im_start|>" not in form.text(sampled)
        assert form.text(others).count("<|im_start|>user") == form.text(sequence.ids).count("<|im_start|>user") > 0


def test_a_few_steps_practise_with_the_weights_of_the_moment_and_tell_the_reward(bench: Bench, tmp_path: Path) -> None:
    heard: list[TrainingMetrics] = []
    guard = Guard(place=bench.place, every=2)
    found = trained(tmp_path / "store", job(bench, tmp_path / "out", guard=guard), heard.append)
    steps = [each for each in heard if each.stage == "train"]
    assert [each.step for each in steps] == [1, 2], heard
    assert all(0 <= each.values[name] <= 1 for each in steps for name in ("reward", "drifted"))
    assert list(found.guard) == [0, 2]
    assert (found.examples, found.stopped) == (8, None)
    assert 0 < found.learned < found.tokens
    assert train(job(bench, tmp_path / "out", guard=guard)) == found


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_generations": 4, "per_device_train_batch_size": 2}, "must be divisible by num_generations"),
        ({"temperature": 0.0}, "branches that differ"),
    ],
)
def test_a_practice_that_cannot_be_is_refused(bench: Bench, tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train(job(bench, tmp_path / "out", **values))
