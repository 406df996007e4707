"""What the load server answers in the workloads: `--reply benchmarks/workload_replies.py:talk` and the like."""

from __future__ import annotations

import sys
from pathlib import Path

from simkit.tools.builtin import BuiltinWorld

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.dialogue import Dialogue

_TASKS = BuiltinWorld().tasks("train")

talk = Dialogue(_TASKS, accuracy=0.4)
"""Conversations in which two of five calls reach their goal."""

talk_seldom = Dialogue(_TASKS, accuracy=0.1)
"""Searches that are rewarded now and then."""

talk_in_vain = Dialogue(_TASKS, accuracy=0.0)
"""Searches that are never rewarded."""
