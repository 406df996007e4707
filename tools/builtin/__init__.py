"""The built-in travel world: an invented town with limited places to book. Needs no download.

from simkit.tools.builtin import BuiltinWorld

world = BuiltinWorld(seed=0)
task = world.tasks("val")[0]
"""

from __future__ import annotations

from simkit.tools.builtin.bookings import Booking, TravelState
from simkit.tools.builtin.server import TravelServer
from simkit.tools.builtin.town import Town, TownSize
from simkit.tools.builtin.world import BuiltinWorld

__all__ = ["Booking", "BuiltinWorld", "Town", "TownSize", "TravelServer", "TravelState"]
