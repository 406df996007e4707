"""Types of recipe parameters with the same meaning in every recipe, with their help texts."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

World: TypeAlias = Annotated[
    str,
    "World, the source of tasks and tools: builtin, toolwoz, or path/to/file.py:Class; with options: NAME,key=value.",
]
Variant: TypeAlias = Annotated[
    Literal["paper", "fixed"] | None,
    "ToolWOZ only: `paper` equals the release call for call, `fixed` repairs it. Never compare scores of the two.",
]
Split: TypeAlias = Annotated[
    Literal["train", "val", "test", "full_test"],
    "Split of the world's tasks; `full_test` is the whole test set of ToolWOZ.",
]
Tasks: TypeAlias = Annotated[
    str, "Tasks to play: a number (50: the first 50), a slice (10-20: tasks 10 to 19), or `all`."
]
Trials: TypeAlias = Annotated[int, "Number of times each task is played; pass^k is reported up to this k."]
Agent: TypeAlias = Annotated[
    str | None, "Agent to evaluate: scripted[,error_rate=0.2], or path/to/file.py:Class. Default: the world's."
]
User: TypeAlias = Annotated[
    str | None, "User simulator: agenda, script (replay), human, or path/to/file.py:Class. Default: the world's."
]
Reward: TypeAlias = Annotated[str | None, "Reward: goal_calls, or path/to/file.py:Class. Default: the world's."]
MaxTurns: TypeAlias = Annotated[int, "Maximum number of agent turns in a conversation."]
