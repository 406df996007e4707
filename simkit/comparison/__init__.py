"""Comparison of two or more runs on the same tasks: paired statistics, claims, tables and pictures.

from simkit.comparison import Arm, compare
from simkit.store import Store

found = compare(Store("simkit-store"), [Arm("before", ("a1", "a2")), Arm("after", ("b1", "b2"))])
print(*found.claims, sep="\\n")
"""

from __future__ import annotations

from simkit.comparison.compare import compare
from simkit.comparison.family import one_family
from simkit.comparison.measures import Noise
from simkit.comparison.pairs import PairedOutcomes, holm, sign_flip
from simkit.comparison.plan import ComparisonPlan
from simkit.comparison.records import Arm
from simkit.comparison.results import ArmScores, Comparison, Curve, Difference, GroupScore, Score
from simkit.statistics.scores import Bootstrap

__all__ = [
    "Arm",
    "ArmScores",
    "Bootstrap",
    "Comparison",
    "ComparisonPlan",
    "Curve",
    "Difference",
    "GroupScore",
    "Noise",
    "PairedOutcomes",
    "Score",
    "compare",
    "holm",
    "one_family",
    "sign_flip",
]
