"""Tools of tau2-bench in the variant `fixed`: the release's, with its defects repaired.

Arguments are checked where the tools are called (`Environment.checked`), and both sides are synchronized in the state
that a task's solution leads to. What a phone's VPN is like after it was broken is repaired among the functions that set
a task up.
"""

from __future__ import annotations

import datetime
from typing import Final

from simkit.tools.tau.fixed1 import as_day
from simkit.tools.tau.rows import Draft
from simkit.tools.tau2 import airline, retail
from simkit.tools.tau2.text import Record


def modify_pending_order_items(
    db: Draft, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> object:
    """Replace items of an order; each one gets its own price and options."""
    return retail.replace_items(db, order_id, item_ids, new_item_ids, payment_method_id, last_for_all=False)


def search_onestop_flight(db: Draft, origin: str, destination: str, date: str) -> object:
    """The pairs of flights with one stop that can be booked, each flight on its own day."""
    next_date = (as_day(date) + datetime.timedelta(days=1)).isoformat()
    offers: list[list[Record]] = []
    for first in airline.bookable(db, origin, None, date):
        arrival, _, overnight = first["scheduled_arrival_time_est"].partition("+")
        second_date = next_date if overnight else date
        for second in airline.bookable(db, first["destination"], destination, second_date):
            if second["scheduled_departure_time_est"] >= arrival:
                legs = ((first, date), (second, second_date))
                offers.append([Record(airline.offer(flight, day, day)) for flight, day in legs])
    return offers


RETAIL: Final = retail.TOOLS.replaced(modify_pending_order_items)
AIRLINE: Final = airline.TOOLS.replaced(search_onestop_flight)
