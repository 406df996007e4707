"""Flags that mean the same in every training recipe, with their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

Data: TypeAlias = Annotated[
    str,
    "What to learn from: runs (ids or names, separated by commas; `last` for the last one that played), or a file: "
    "what `simkit export` wrote, a TRL data set in .jsonl or .parquet, or the authors' .zip.",
]
Where: TypeAlias = Annotated[
    str | None, "Which episodes, in SQL: reward >= 1 and turns < 10 (columns: from episode_facts)."
]
MaxPerTask: TypeAlias = Annotated[int | None, "Examples of one task at most."]
Limit: TypeAlias = Annotated[int | None, "Examples at most, chosen by lot."]
HeldOut: TypeAlias = Annotated[
    str,
    "Split of the world that no example may be of; it is checked. `none` for data whose tasks are unknown; "
    "examples of dev goals are refused in any case.",
]
AllowIncomplete: TypeAlias = Annotated[
    bool, "Learn from runs that have not come to their end, or whose journals hold unreadable lines, all the same."
]
PresetFlag: TypeAlias = Annotated[
    Literal["paper", "cpu", "tiny"],
    "Settings to start from: the paper's (a GPU), for small models on a CPU, or for tiny ones made from scratch.",
]
Out: TypeAlias = Annotated[Path | None, "Folder for the trained model. Default: models/<run> in the store."]
Guard: TypeAlias = Annotated[
    str, "Dev goals that the guard plays while it trains: a number, a slice, or `none` for no guard."
]
GuardSplit: TypeAlias = Annotated[str, "Split of the world that dev goals are from."]
GuardEvery: TypeAlias = Annotated[int | None, "Optimiser steps between two looks. Default: ten looks."]
ValidFloor: TypeAlias = Annotated[
    float, "Share of the valid tool calls it began with that must be left, or training stops and rolls back."
]
SuccessFloor: TypeAlias = Annotated[float, "The same for greedy success."]
Keep: TypeAlias = Annotated[
    Literal["best", "last"], "Whose weights are kept when nothing was lost: the best look's, or the last."
]
Player: TypeAlias = Annotated[str, "Who plays the model on dev goals: function_calling, react, or your own."]
MaxTokens: TypeAlias = Annotated[int, "Tokens of one reply to dev goals at most."]

LearningRate: TypeAlias = Annotated[
    float | None, "The highest of the schedule; like all settings below, the preset's when left out."
]
Epochs: TypeAlias = Annotated[float | None, "Passes over the examples."]
MaxSteps: TypeAlias = Annotated[int | None, "Optimiser steps at most; wins over the epochs."]
Batch: TypeAlias = Annotated[int | None, "Examples of one optimiser step."]
MicroBatch: TypeAlias = Annotated[int | None, "So many of them at once: less memory, the same result."]
MaxLength: TypeAlias = Annotated[int | None, "Tokens of an example at most; longer ones are left out and counted."]
LoraRank: TypeAlias = Annotated[int | None, "Rank of the adapters; 0 trains all weights."]
LoraAlpha: TypeAlias = Annotated[int | None, "Scale of the adapters; 0 takes the rank."]
Beta: TypeAlias = Annotated[float | None, "How closely the model is held to the one it starts from."]
Schedule: TypeAlias = Annotated[Literal["linear", "cosine", "constant"] | None, "How the learning rate falls."]
KeepAdapter: TypeAlias = Annotated[bool, "Leave the adapter beside the merged weights."]
Threads: TypeAlias = Annotated[int, "CPU threads; 0 takes one without a GPU, as machines are shared."]
