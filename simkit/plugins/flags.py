"""Types of recipe parameters with the same meaning in every recipe, with their help texts."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

World: TypeAlias = Annotated[
    str,
    "Where tasks and tools come from: builtin, toolwoz, or your own path/to/file.py:Class; options: NAME,key=value.",
]
Variant: TypeAlias = Annotated[
    Literal["paper", "fixed"] | None,
    "ToolWOZ only: `paper` equals the release call for call, `fixed` repairs it. Never compare scores of the two.",
]
Split: TypeAlias = Annotated[
    Literal["train", "val", "test", "full_test"], "Which tasks; `full_test` is ToolWOZ's whole test set."
]
Tasks: TypeAlias = Annotated[str, "How many: a number (the first 50), a slice (10-20: tasks 10 to 19), or `all`."]
Trials: TypeAlias = Annotated[int, "How often each task is played; pass^k is reported up to this k."]
Agent: TypeAlias = Annotated[
    str | None, "Who is evaluated: scripted[,error_rate=0.2], or your own path/to/file.py:Class. Default: the world's."
]
User: TypeAlias = Annotated[
    str | None, "Who plays the customer: agenda, script (replay), human, or your own. Default: the world's."
]
Reward: TypeAlias = Annotated[str | None, "What counts: goal_calls, or your own. Default: the world's."]
MaxTurns: TypeAlias = Annotated[int, "Agent turns in one conversation at most."]
