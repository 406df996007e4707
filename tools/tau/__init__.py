"""tau-bench: retail and airline customer service over tables that the tools change."""

from __future__ import annotations

from simkit.tools.tau.world import AirlineWorld, RetailWorld, TauWorld

__all__ = ["AirlineWorld", "RetailWorld", "TauWorld"]
