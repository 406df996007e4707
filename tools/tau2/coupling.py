"""How the provider's tables and a customer's phone in tau2's telecom domain learn of each other's changes."""

from __future__ import annotations

from typing import Any

from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau2.phone import DEFAULT_VPN, VPN
from simkit.tools.tau2.phone_network import SURROUNDINGS
from simkit.tools.tau2.telecom import BILLS_MADE, awaiting_payment, find_line, find_owner, find_plan


def sync(db: Draft) -> None:
    """Tell the phone what its line allows, book a payment, and show the bill that waits for one.

    Nothing happens while the phone has no number.

    Raises:
        Refused: no line has the phone's number, or the tables name rows that do not exist.
    """
    number = db.get(*SURROUNDINGS)["phone_number"]
    if number is None:
        return
    line = find_line(db, number)
    _show(db, "line_active", line["status"] == "Active")
    _show(db, "roaming_allowed", bool(line["roaming_enabled"]))
    limit = find_plan(db, line)["data_limit_gb"] + line["data_refueling_gb"]
    _show(db, "mobile_data_usage_exceeded", line["data_used_gb"] >= limit)
    _book_payment(db)
    if db.get(*SURROUNDINGS)["payment_request"] is None:
        _show(db, "payment_request", _request(awaiting_payment(db, find_owner(db, number))))


def _show(db: Draft, name: str, value: Any) -> None:
    if db.get(*SURROUNDINGS)[name] != value:
        db.edit(*SURROUNDINGS)[name] = value


def _book_payment(db: Draft) -> None:
    request = db.get(*SURROUNDINGS)["payment_request"]
    if request is not None and request["paid"]:
        db.edit("bills", request["bill_id"])["status"] = "Paid"
        _show(db, "payment_request", None)


def _request(bills: list[Row]) -> Row | None:
    """The request for the first of the bills that wait."""
    return {"bill_id": bills[0]["bill_id"], "amount_due": bills[0]["total_due"], "paid": False} if bills else None


def hidden_tables() -> dict[str, dict[str, Row]]:
    """Tables that belong to the state and to neither side: the profile of the phone's VPN, and a counter of bills."""
    return {VPN[0]: {VPN[1]: dict(DEFAULT_VPN)}, BILLS_MADE[0]: {BILLS_MADE[1]: {"made": 0}}}
