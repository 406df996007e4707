"""ToolWOZ: the world of the JOSH paper, its data, its tools and its two variants."""

from __future__ import annotations

from simkit.tools.toolwoz.world import ToolwozWorld

__all__ = ["ToolwozWorld"]
