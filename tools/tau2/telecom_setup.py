"""What tasks of tau2's telecom domain do to the provider's tables before they begin, and what they check at the end."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Final

from simkit.tools.tau.rows import Draft
from simkit.tools.tau.text import Refused
from simkit.tools.tau2 import telecom


def set_data_usage(db: Draft, customer_id: str, line_id: str, data_used_gb: float) -> None:
    """Let a line have used some gigabytes in this month."""
    telecom.find_own_line(db, customer_id, line_id)
    db.edit("lines", line_id)["data_used_gb"] = data_used_gb


def suspend_line_for_overdue_bill(
    db: Draft, customer_id: str, line_id: str, new_bill_id: str, contract_ended: bool
) -> None:
    """Suspend an active line because last month's bill was not paid; its contract may have ended with that month.

    Raises:
        Refused: the line is not active or costs nothing, or the customer has an overdue bill.
    """
    line = telecom.find_line_by_id(db, line_id)
    if line["status"] != "Active":
        raise Refused("Line must be active to suspend for unpaid bill")
    price = telecom.find_plan(db, line)["price_per_month"]
    if price <= 0:
        raise Refused("Amount must be positive for overdue bill")
    if any(bill["status"] == "Overdue" for bill in telecom.bills_of(db, telecom.find_customer(db, customer_id))):
        raise Refused("Customer already has an overdue bill")
    last = telecom.TODAY.replace(day=1) - datetime.timedelta(days=1)
    bill = telecom.make_bill(db, customer_id, new_bill_id, "Overdue", (last.replace(day=1), last))
    telecom.add_charge(bill, price, f"Charge for line {line_id}")
    line = db.edit("lines", line_id)
    line["status"], line["suspension_start_date"] = "Suspended", str(telecom.TODAY)
    if contract_ended:
        line["contract_end_date"] = str(last)


def assert_data_refueling_amount(db: Draft, customer_id: str, line_id: str, expected_amount: float) -> bool:
    """Whether a line was sold so many gigabytes in this month."""
    line = telecom.find_own_line(db, customer_id, line_id)
    return abs(line["data_refueling_gb"] - expected_amount) < 1e-6


def assert_line_status(db: Draft, customer_id: str, line_id: str, expected_status: str) -> bool:
    """Whether a line's status is as expected."""
    return telecom.find_own_line(db, customer_id, line_id)["status"] == expected_status


def assert_overdue_bill_exists(db: Draft, customer_id: str, overdue_bill_id: str) -> bool:
    """Whether a customer has an overdue bill; anything but yes is raised, as in the release.

    Raises:
        Refused: the customer has no such bill, or it is not overdue.
    """
    customer = telecom.find_customer(db, customer_id)
    bills = {bill["bill_id"]: bill for bill in telecom.bills_of(db, customer)}
    if overdue_bill_id not in bills:
        raise Refused(f"Overdue bill {overdue_bill_id} not found")
    if bills[overdue_bill_id]["status"] != "Overdue":
        raise Refused(f"Overdue bill {overdue_bill_id} is not overdue")
    return True


def assert_no_overdue_bill(db: Draft, overdue_bill_id: str) -> bool:
    """Whether a bill is paid, or there is no such bill."""
    return not db.has("bills", overdue_bill_id) or db.get("bills", overdue_bill_id)["status"] == "Paid"


ACTIONS: Final[Mapping[str, Callable[..., object]]] = {
    each.__name__: each for each in (set_data_usage, suspend_line_for_overdue_bill)
}
"""What a task may do to the provider's tables before it begins, by name; it may also use the tools."""

ASSERTIONS: Final[Mapping[str, Callable[..., bool]]] = {
    each.__name__: each
    for each in (
        assert_data_refueling_amount,
        assert_line_status,
        assert_overdue_bill_exists,
        assert_no_overdue_bill,
    )
}
"""What a task may check in the provider's tables at the end, by name."""
