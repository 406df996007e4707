"""The agent's tools of tau2's telecom domain, with the release's order of checks, wording and quirks.

Arguments may be of any JSON type. Python's own exceptions are results that agents read, so a type is never checked
where the release does not check it.
"""

from __future__ import annotations

import datetime
from typing import Any, Final, TypeAlias

from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused
from simkit.tools.tau2.call import Toolset
from simkit.tools.tau2.text import Record

Period: TypeAlias = tuple[datetime.date, datetime.date]

TODAY: Final = datetime.date(2025, 2, 25)
"""The day on which all tasks of the release play."""

BILLS_MADE: Final = ("defaults.bills", "")
"""The row that counts the bills that were made: `{"made": 0}` at the start."""

_KINDS: Final = {
    "L": ("lines", "Line"),
    "D": ("devices", "Device"),
    "B": ("bills", "Bill"),
    "C": ("customers", "Customer"),
    "P": ("plans", "Plan"),
}


def _found(db: Draft, letter: str, id: object) -> Row:
    """A row by the letter with which ids of its table begin.

    Raises:
        Refused: there is none.
    """
    table, kind = _KINDS[letter]
    if not isinstance(id, str) or not db.has(table, id):
        raise Refused(f"{kind} with ID {id} not found")
    return db.get(table, id)


def find_line(db: Draft, phone_number: object) -> Row:
    """The line of a phone number.

    Raises:
        Refused: there is none.
    """
    for _, line in db.items("lines"):
        if line["phone_number"] == phone_number:
            return line
    raise Refused(f"Line with phone number {phone_number} not found")


def find_line_by_id(db: Draft, line_id: object) -> Row:
    """A line.

    Raises:
        Refused: there is none.
    """
    return _found(db, "L", line_id)


def find_plan(db: Draft, line: Row) -> Row:
    """The plan of a line."""
    return _found(db, "P", line["plan_id"])


def find_customer(db: Draft, customer_id: object) -> Row:
    """A customer.

    Raises:
        Refused: there is none.
    """
    return _found(db, "C", customer_id)


def find_owner(db: Draft, phone_number: object) -> Row:
    """The first customer with a phone number, as contact or as the number of a line.

    Raises:
        Refused: there is none.
    """
    for _, customer in db.items("customers"):
        lines = (_found(db, "L", line_id)["phone_number"] for line_id in customer["line_ids"])
        if customer["phone_number"] == phone_number or any(number == phone_number for number in lines):
            return customer
    raise Refused(f"Customer with phone number {phone_number} not found")


def find_own_line(db: Draft, customer_id: object, line_id: object) -> Row:
    """A line of a customer.

    Raises:
        Refused: there is no such customer, or the customer has no such line.
    """
    if line_id not in find_customer(db, customer_id)["line_ids"]:
        raise Refused(f"Line {line_id} not found for customer {customer_id}")
    return _found(db, "L", line_id)


def bills_of(db: Draft, customer: Row) -> list[Row]:
    """The bills of a customer in their order."""
    return [_found(db, "B", bill_id) for bill_id in customer["bill_ids"]]


def awaiting_payment(db: Draft, customer: Row) -> list[Row]:
    """The bills that a customer was asked to pay."""
    return [bill for bill in bills_of(db, customer) if bill["status"] == "Awaiting Payment"]


def make_bill(
    db: Draft, customer_id: str, bill_id: str, status: str, period: tuple[datetime.date, datetime.date]
) -> Row:
    """Give a customer an empty bill that is issued on the first day of its period; it may be changed."""
    first, last = period
    bill: Row = {
        "bill_id": bill_id,
        "customer_id": customer_id,
        "period_start": str(first),
        "period_end": str(last),
        "issue_date": str(first),
        "total_due": 0.0,
        "due_date": str(first + datetime.timedelta(days=14)),
        "line_items": [],
        "status": status,
    }
    db.put("bills", bill_id, bill)
    db.edit("customers", customer_id)["bill_ids"].append(bill_id)
    return bill


def add_charge(bill: Row, amount: float, description: str) -> None:
    """Put an amount of today on a bill."""
    kind = "Credit" if amount < 0 else "Charge"
    bill["line_items"].append({"description": description, "amount": amount, "date": str(TODAY), "item_type": kind})
    bill["total_due"] += amount


def get_customer_by_phone(db: Draft, phone_number: str) -> object:
    """The customer with a phone number."""
    return Record(find_owner(db, phone_number))


def get_customer_by_id(db: Draft, customer_id: str) -> object:
    """The customer with an id."""
    return Record(find_customer(db, customer_id))


def get_customer_by_name(db: Draft, full_name: str, dob: str) -> object:
    """The customers with a name, in any case, and a day of birth."""
    return [
        Record(customer)
        for _, customer in db.items("customers")
        if customer["full_name"].lower() == full_name.lower() and customer["date_of_birth"] == dob
    ]


def get_details_by_id(db: Draft, id: str) -> object:
    """The row with an id, whose first letter tells what it is."""
    for letter in _KINDS:
        if id.startswith(letter):
            return Record(_found(db, letter, id))
    raise Refused(f"Unknown ID format or type: {id}")


def suspend_line(db: Draft, customer_id: str, line_id: str, reason: str) -> object:
    """Suspend an active line."""
    if find_own_line(db, customer_id, line_id)["status"] != "Active":
        raise Refused("Line must be active to suspend")
    line = _set_status(db, line_id, "Suspended", str(TODAY))
    return {"message": "Line suspended successfully. $5/month holding fee will apply.", "line": Record(line)}


def resume_line(db: Draft, customer_id: str, line_id: str) -> object:
    """Activate a line that is suspended or not yet active."""
    if find_own_line(db, customer_id, line_id)["status"] not in ("Suspended", "Pending Activation"):
        raise Refused("Line must be suspended to resume")
    line = _set_status(db, line_id, "Active", None)
    return {"message": "Line resumed successfully", "line": Record(line)}


def _set_status(db: Draft, line_id: str, status: str, since: str | None) -> Row:
    line = db.edit("lines", line_id)
    line["status"], line["suspension_start_date"] = status, since
    return line


def get_bills_for_customer(db: Draft, customer_id: str, limit: int = 12) -> object:
    """The bills of a customer, the newest first; a negative limit leaves the oldest out."""
    bills = bills_of(db, find_customer(db, customer_id))
    newest = sorted(bills, key=lambda bill: bill["issue_date"], reverse=True)
    return [Record(bill) for bill in newest[:limit]]


def send_payment_request(db: Draft, customer_id: str, bill_id: str) -> object:
    """Ask a customer to pay a bill, which may be paid already. No other one may be waiting."""
    customer = find_customer(db, customer_id)
    if awaiting_payment(db, customer):
        raise Refused("A bill is already awaiting payment for this customer")
    if bill_id not in customer["bill_ids"]:
        raise Refused(f"Bill {bill_id} not found for customer {customer_id}")
    _found(db, "B", bill_id)
    db.edit("bills", bill_id)["status"] = "Awaiting Payment"
    return f"Payment request sent to the customer for bill {bill_id}"


def get_data_usage(db: Draft, customer_id: str, line_id: str) -> object:
    """What a line has used of its data in this month, and what it may use."""
    line = find_own_line(db, customer_id, line_id)
    return {
        "line_id": line_id,
        "data_used_gb": line["data_used_gb"],
        "data_limit_gb": find_plan(db, line)["data_limit_gb"],
        "data_refueling_gb": line["data_refueling_gb"],
        "cycle_end_date": _month_after(TODAY) - datetime.timedelta(days=1),
    }


def _month_after(day: datetime.date) -> datetime.date:
    """The first day of the next month."""
    return (day.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)


def enable_roaming(db: Draft, customer_id: str, line_id: str) -> object:
    """Let a line roam."""
    if find_own_line(db, customer_id, line_id)["roaming_enabled"]:
        return "Roaming was already enabled"
    db.edit("lines", line_id)["roaming_enabled"] = True
    return "Roaming enabled successfully"


def disable_roaming(db: Draft, customer_id: str, line_id: str) -> object:
    """Forbid a line to roam."""
    if not find_own_line(db, customer_id, line_id)["roaming_enabled"]:
        return "Roaming was already disabled"
    db.edit("lines", line_id)["roaming_enabled"] = False
    return "Roaming disabled successfully"


def refuel_data(db: Draft, customer_id: str, line_id: str, gb_amount: Any) -> object:
    """Sell a line more data for this month; the customer's next bill has the price."""
    line = find_own_line(db, customer_id, line_id)
    if gb_amount <= 0:
        raise Refused("Refuel amount must be positive")
    price = find_plan(db, line)["data_refueling_price_per_gb"]
    charge = gb_amount * price
    line = db.edit("lines", line_id)
    line["data_refueling_gb"] += gb_amount
    add_charge(_next_bill(db, customer_id), charge, f"Data refueling: {gb_amount} GB at ${price}/GB")
    return {
        "message": f"Successfully added {gb_amount} GB of data for line {line_id} for ${charge:.2f}",
        "new_data_refueling_gb": line["data_refueling_gb"],
        "charge": charge,
    }


def _next_bill(db: Draft, customer_id: str) -> Row:
    """The customer's first draft of a bill, which may be changed; a new one for the next month if there is none."""
    for bill in bills_of(db, find_customer(db, customer_id)):
        if bill["status"] == "Draft":
            return db.edit("bills", bill["bill_id"])
    first = _month_after(TODAY)
    last = _month_after(first) - datetime.timedelta(days=1)
    return make_bill(db, customer_id, _new_bill_id(db), "Draft", (first, last))


def _new_bill_id(db: Draft) -> str:
    """The next id of a bill. The release draws it; here it counts, so that equal calls lead to equal states."""
    counter = db.edit(*BILLS_MADE)
    counter["made"] += 1
    return "B" + f"{counter['made']:032x}"[::-1][:8]


def transfer_to_human_agents(db: Draft, summary: str) -> object:
    """Hand the customer over. The episode goes on."""
    return "Transfer successful"


TOOLS: Final = Toolset.of(
    "TelecomTools",
    read=(
        get_customer_by_phone,
        get_customer_by_id,
        get_customer_by_name,
        get_details_by_id,
        get_bills_for_customer,
        get_data_usage,
    ),
    write=(suspend_line, resume_line, send_payment_request, enable_roaming, disable_roaming, refuel_data),
    generic=(transfer_to_human_agents,),
)
