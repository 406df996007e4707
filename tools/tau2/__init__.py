"""tau2-bench: customer service in which the user, too, may have tools, over tables that both sides change."""

from __future__ import annotations

from simkit.tools.tau2.world import AirlineWorld, MockWorld, RetailWorld, Tau2World, TelecomWorld

__all__ = ["AirlineWorld", "MockWorld", "RetailWorld", "Tau2World", "TelecomWorld"]
