"""Flags that mean the same in every training recipe, with their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from simkit.data.reasoning import Reasoning
from simkit.data.selection import Source

Data: TypeAlias = Annotated[
    str,
    "Training data: runs (ids or names, separated by commas; `last` for the last one that played), or a file: "
    "an export of `simkit export`, a TRL data set in .jsonl or .parquet, or the authors' .zip.",
]
SourceFlag: TypeAlias = Annotated[
    Source,
    "Of runs: the golden conversations of trees, or the final conversation of any episode (filter with --where).",
]
Where: TypeAlias = Annotated[
    str | None, "Filter for episodes, in SQL: reward >= 1 and turns < 10 (columns: from episode_facts)."
]
MaxPerTask: TypeAlias = Annotated[int | None, "Maximum number of examples per task."]
Limit: TypeAlias = Annotated[int | None, "Maximum number of examples, chosen at random."]
ReasoningFlag: TypeAlias = Annotated[
    Reasoning | None,
    "Reasoning of answers: `keep` it as the field reasoning_content, write it `inline` in tags before the text, or "
    "`drop` it. Default: keep; a file is used as it is.",
]
HeldOut: TypeAlias = Annotated[
    str,
    "Split of the world whose tasks may not be in the training data. `none` for data whose tasks are unknown; "
    "examples of dev goals are always refused.",
]
AllowIncomplete: TypeAlias = Annotated[bool, "Train on unfinished runs and on runs with unreadable lines."]
Config: TypeAlias = Annotated[
    str | None,
    "Settings: a preset (tiny-cpu, smollm2-135m, qwen3-8b-lora, paper-llama3-8b-kto), or a YAML file with fields of "
    "TRL's classes. Flags override them.",
]
Launcher: TypeAlias = Annotated[
    str | None,
    "Command that starts several processes, such as `accelerate launch --num_processes 8` or `torchrun "
    "--nproc_per_node 2`.",
]
EvalData: TypeAlias = Annotated[
    str | None,
    "Examples for an evaluation loss: a file, or a share of the training data such as 0.1. TRL's --eval_strategy says "
    "when; default: at the end of each epoch.",
]
Out: TypeAlias = Annotated[Path | None, "Folder for the trained model. Default: models/<run> in the store."]
Guard: TypeAlias = Annotated[
    str, "Dev goals that the guard plays during training: a number, a slice, or `none` for no guard."
]
GuardSplit: TypeAlias = Annotated[str, "Split of the world that the dev goals are taken from."]
GuardEvery: TypeAlias = Annotated[
    int | None, "Optimiser steps between two measurements by the guard. Default: ten measurements."
]
ValidFloor: TypeAlias = Annotated[
    float, "Minimum rate of valid tool calls, as a share of the initial rate; below it, training stops and rolls back."
]
SuccessFloor: TypeAlias = Annotated[float, "The same for the success rate of greedy decoding."]
Keep: TypeAlias = Annotated[
    Literal["best", "last"],
    "Weights to keep if the guard did not stop the training: those of the best measurement, or the last ones.",
]
Player: TypeAlias = Annotated[
    str, "Agent that plays the dev goals with the model: function_calling, react, or path/to/file.py:Class."
]
MaxTokens: TypeAlias = Annotated[int, "Maximum number of tokens in a reply on dev goals."]

LearningRate: TypeAlias = Annotated[float | None, "Peak of the learning-rate schedule. Default: that of the settings."]
Epochs: TypeAlias = Annotated[float | None, "Number of passes over the examples. Default: that of the settings."]
Threads: TypeAlias = Annotated[int, "CPU threads; 0 uses one thread on a machine without a GPU."]
