"""What TRL's trainers make of rows before they train, without a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from simkit.local.chat import ChatFormat
from simkit.plugins.extras import require
from simkit.training.rows import TrainingRows


def prepared(method: str, rows: TrainingRows, chat: ChatFormat) -> Any:
    """What TRL's trainer makes of rows before it trains."""
    trl, datasets = require("trl", "train"), require("datasets", "train")
    kind = getattr(trl, f"{method.upper()}Trainer")
    trainer = SimpleNamespace(
        _tokenizer=chat.tokenizer, calculate_KL=True, desirable_weight=1.0, undesirable_weight=1.0,
        chat_template=None, completion_only_loss=False,
    )  # fmt: skip
    settings = SimpleNamespace(
        max_length=100_000, truncation_mode="keep_start", dataset_num_proc=None, per_device_train_batch_size=8,
        shuffle_dataset=False, dataset_text_field="text", assistant_only_loss=False,
    )  # fmt: skip
    more = (False, None) if method == "sft" else ()
    data = datasets.Dataset.from_list(list(rows.rows))
    return kind._prepare_dataset(trainer, data, chat.tokenizer, settings, *more, "train")
