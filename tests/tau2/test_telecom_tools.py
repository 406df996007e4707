"""The tools of telecom's agent, and how its tables and the phone learn of each other's changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_telecom import ENVIRONMENT, Line, telecom_rows

from simkit.tools.tau.rows import Draft, Rows, copied
from simkit.tools.tau.text import Refused
from simkit.tools.tau2 import phone_setup, telecom_setup
from simkit.tools.tau2.call import run_call

ADA = {"customer_id": "C1", "line_id": "L1"}
SOLO = replace(ENVIRONMENT, solo=True)


def test_customers_are_found_by_their_number_the_number_of_a_line_and_their_name() -> None:
    line = Line()
    for number in ("100", "111", "112"):
        assert json.loads(line.agent("get_customer_by_phone", phone_number=number).text)["customer_id"] == "C1"
    assert line.agent("get_customer_by_phone", phone_number=111).text == (
        "Error: Customer with phone number 111 not found"
    )
    found = json.loads(line.agent("get_customer_by_name", full_name="ada reed", dob="1990-01-01").text)
    assert [customer["customer_id"] for customer in found] == ["C1", "C2"]
    assert line.agent("get_customer_by_name", full_name="ada reed", dob="1990-01-02").text == "[]"


@pytest.mark.parametrize(
    ("id", "text"),
    [
        ("P1", '{"plan_id": "P1", "data_limit_gb": 5.0, "price_per_month": 30.0, "data_refueling_price_per_gb": 2.5}'),
        ("D1", '{"device_id": "D1", "model": "Slate"}'),
        ("D2", "Error: Device with ID D2 not found"),
        ("L9", "Error: Line with ID L9 not found"),
        ("B9", "Error: Bill with ID B9 not found"),
        ("X1", "Error: Unknown ID format or type: X1"),
        (7, "Error: 'int' object has no attribute 'startswith'"),
    ],
)
def test_details_are_looked_up_by_the_first_letter_of_their_id(id: object, text: str) -> None:
    assert Line().agent("get_details_by_id", id=id).text == text


def test_lines_are_suspended_and_resumed() -> None:
    line = Line()
    called = line.agent("suspend_line", **ADA, reason="holiday")
    assert json.loads(called.text)["line"]["suspension_start_date"] == "2025-02-25"
    assert json.loads(called.text)["line"]["data_used_gb"] == 1.5
    assert line.row("user.surroundings")["line_active"] is False
    assert line.agent("suspend_line", **ADA, reason="").text == "Error: Line must be active to suspend"
    assert json.loads(line.agent("resume_line", **ADA).text)["line"]["status"] == "Active"
    assert line.row("lines", "L1")["suspension_start_date"] is None
    assert line.row("user.surroundings")["line_active"] is True
    assert line.agent("resume_line", **ADA).text == "Error: Line must be suspended to resume"
    assert line.agent("resume_line", customer_id="C2", line_id="L1").text == "Error: Line L1 not found for customer C2"


def test_roaming_needs_the_line_and_the_phone() -> None:
    line = Line(telecom_rows({}, {"is_abroad": True}))
    assert line.agent("disable_roaming", **ADA).text == "Roaming was already disabled"
    assert line.agent("enable_roaming", **ADA).text == "Roaming enabled successfully"
    assert line.agent("enable_roaming", **ADA).text == "Roaming was already enabled"
    assert line.says("run_speed_test") == "Speed test failed: No Connection."
    assert line.says("toggle_roaming") == "Data Roaming is now ON."
    assert line.says("run_speed_test").startswith("Speed Test Result")
    assert line.agent("disable_roaming", **ADA).text == "Roaming disabled successfully"
    assert line.row("user.surroundings")["roaming_allowed"] is False


def test_bills_come_with_the_newest_first() -> None:
    def ids(**arguments: object) -> list[str]:
        bills = json.loads(Line().agent("get_bills_for_customer", customer_id="C1", **arguments).text)
        return [bill["bill_id"] for bill in bills]

    assert ids() == ids(limit=None) == ["B2", "B1"]
    assert ids(limit=1) == ids(limit=-1) == ["B2"]
    called = Line().agent("get_bills_for_customer", customer_id="C1", limit="1")
    assert called.text == "Error: slice indices must be integers or None or have an __index__ method"


def test_a_bill_is_asked_for_and_paid() -> None:
    line = Line()
    assert line.says("check_payment_request") == "No payment request has been made."
    assert line.says("make_payment") == "You do not have a payment request."
    asked = line.agent("send_payment_request", customer_id="C1", bill_id="B2")
    assert asked.text == "Payment request sent to the customer for bill B2"
    again = line.agent("send_payment_request", customer_id="C1", bill_id="B1")
    assert again.text == "Error: A bill is already awaiting payment for this customer"
    assert line.says("check_payment_request") == "You have a payment request for bill B2 of 40.0 USD."
    assert line.says("make_payment") == "Payment of 40.0 USD has been made for bill B2."
    assert line.row("bills", "B2")["status"] == "Paid"
    assert line.row("user.surroundings")["payment_request"] is None
    other = line.agent("send_payment_request", customer_id="C2", bill_id="B1")
    assert other.text == "Error: Bill B1 not found for customer C2"


def test_used_up_data_stop_mobile_data_until_more_is_bought() -> None:
    line = Line()
    draft = Draft(line.rows)
    telecom_setup.ACTIONS["set_data_usage"](draft, **ADA, data_used_gb=5.5)
    line.rows = draft.done()[0]
    usage = json.loads(line.agent("get_data_usage", **ADA).text)
    assert usage == {
        "line_id": "L1",
        "data_used_gb": "5.5",
        "data_limit_gb": "5.0",
        "data_refueling_gb": "0.0",
        "cycle_end_date": "2025-02-28",
    }
    assert line.row("user.surroundings")["mobile_data_usage_exceeded"] is True
    assert line.agent("refuel_data", **ADA, gb_amount=0).text == "Error: Refuel amount must be positive"
    bought = json.loads(line.agent("refuel_data", **ADA, gb_amount=2).text)
    assert bought["message"] == "Successfully added 2 GB of data for line L1 for $5.00"
    assert (bought["new_data_refueling_gb"], bought["charge"]) == ("2.0", "5.0")
    assert line.row("user.surroundings")["mobile_data_usage_exceeded"] is False


def test_charges_go_to_the_next_bill_whose_id_is_counted_in_each_branch() -> None:
    start = Line()
    for forked in (Line(start.rows), Line(start.rows)):
        forked.agent("refuel_data", **ADA, gb_amount=1)
        forked.agent("refuel_data", **ADA, gb_amount=0.5)
        bill = forked.row("bills", "B10000000")
        assert (bill["issue_date"], bill["period_end"], bill["due_date"]) == ("2025-03-01", "2025-03-31", "2025-03-15")
        assert (bill["status"], bill["total_due"], len(bill["line_items"])) == ("Draft", 3.75, 2)
        assert bill["line_items"][1] == {
            "description": "Data refueling: 0.5 GB at $2.5/GB",
            "amount": 1.25,
            "date": "2025-02-25",
            "item_type": "Charge",
        }
        assert forked.row("customers", "C1")["bill_ids"] == ["B1", "B2", "B10000000"]
        assert forked.row("defaults.bills") == {"made": 1}


def test_a_line_can_be_suspended_for_an_overdue_bill() -> None:
    line = Line()
    draft = Draft(line.rows)
    overdue = {**ADA, "new_bill_id": "B7", "contract_ended": True}
    telecom_setup.ACTIONS["suspend_line_for_overdue_bill"](draft, **overdue)
    bill, row = draft.get("bills", "B7"), draft.get("lines", "L1")
    assert (bill["period_start"], bill["period_end"], bill["due_date"]) == ("2025-01-01", "2025-01-31", "2025-01-15")
    assert (bill["status"], bill["total_due"]) == ("Overdue", 30.0)
    assert (row["status"], row["suspension_start_date"]) == ("Suspended", "2025-02-25")
    assert row["contract_end_date"] == "2025-01-31"
    holds = telecom_setup.ASSERTIONS
    assert holds["assert_overdue_bill_exists"](draft, customer_id="C1", overdue_bill_id="B7")
    assert not holds["assert_no_overdue_bill"](draft, overdue_bill_id="B7")
    assert holds["assert_no_overdue_bill"](draft, overdue_bill_id="B8")
    with pytest.raises(Refused, match="Line must be active to suspend for unpaid bill"):
        telecom_setup.ACTIONS["suspend_line_for_overdue_bill"](draft, **overdue)
    draft.edit("lines", "L2")["status"] = "Active"
    with pytest.raises(Refused, match="Customer already has an overdue bill"):
        telecom_setup.ACTIONS["suspend_line_for_overdue_bill"](draft, **(overdue | {"line_id": "L2"}))
    with pytest.raises(Refused, match="B1 is not overdue"):
        holds["assert_overdue_bill_exists"](draft, customer_id="C1", overdue_bill_id="B1")
    with pytest.raises(Refused, match="B9 not found"):
        holds["assert_overdue_bill_exists"](draft, customer_id="C1", overdue_bill_id="B9")
    draft.edit("bills", "B7")["status"] = "Paid"
    assert holds["assert_no_overdue_bill"](draft, overdue_bill_id="B7")
    draft.edit("plans", "P1")["price_per_month"] = 0
    draft.edit("lines", "L1")["status"] = "Active"
    with pytest.raises(Refused, match="Amount must be positive"):
        telecom_setup.ACTIONS["suspend_line_for_overdue_bill"](draft, **overdue)


def test_checks_of_a_line() -> None:
    draft, holds = Draft(telecom_rows()), telecom_setup.ASSERTIONS
    assert holds["assert_line_status"](draft, **ADA, expected_status="Active")
    assert not holds["assert_line_status"](draft, **ADA, expected_status="Closed")
    assert holds["assert_data_refueling_amount"](draft, **ADA, expected_amount=1e-7)
    assert not holds["assert_data_refueling_amount"](draft, **ADA, expected_amount=1e-5)


def test_a_phone_without_a_number_is_alone_and_one_with_an_unknown_number_is_an_error() -> None:
    alone = Line(telecom_rows({}, {"phone_number": None}))
    alone.agent("suspend_line", **ADA, reason="")
    assert alone.row("user.surroundings")["line_active"] is True
    wrong = Line(telecom_rows({}, {"phone_number": "999"}))
    called = wrong.user("toggle_data")
    assert (called.text, called.error) == ("Error: Line with phone number 999 not found", True)
    assert wrong.row("user.device")["data_enabled"] is False


def test_alone_the_agent_has_both_sides_tools_and_the_user_none() -> None:
    line = Line(environment=SOLO)
    assert not line.agent("suspend_line", **ADA, reason="").error
    assert line.agent("toggle_data").text.startswith("Mobile Data is now OFF.")
    assert line.user("toggle_data").text == "Error: User tool calls are not allowed in solo mode"


CALLS: list[tuple[str, dict[str, Any]]] = [
    *[
        (name, {})
        for name, tool in ENVIRONMENT.user.tools.items()  # pyright: ignore[reportOptionalMemberAccess]
        if not tool.parameters
    ],
    *[("set_network_mode_preference", {"mode": mode}) for mode in ("3g_only", "4g_5g_preferred", 7)],
    *[("set_apn_settings", {"apn_settings": settings}) for settings in ({}, {"apn_name": "broken"}, "x")],
    ("grant_app_permission", {"app_name": "chess", "permission": "sms"}),
    ("send_payment_request", {"customer_id": "C1", "bill_id": "B2"}),
    *[("refuel_data", {**ADA, "gb_amount": amount}) for amount in (0.1, 2, "2")],
    *[(name, ADA) for name in ("resume_line", "enable_roaming", "disable_roaming", "get_data_usage")],
    ("suspend_line", {**ADA, "reason": ""}),
]


def played(rows: Rows, calls: Sequence[tuple[str, dict[str, Any]]]) -> tuple[Rows, list[str]]:
    texts: list[str] = []
    for name, arguments in calls:
        called = run_call(SOLO, rows, name, copied(arguments))
        rows = called.rows
        texts.append(called.text)
    return rows, texts


@given(st.lists(st.sampled_from(CALLS), max_size=12), st.lists(st.sampled_from(CALLS), max_size=6), st.booleans())
def test_branches_are_straight_replays(trunk: Any, branch: Any, broken: bool) -> None:
    start = telecom_rows()
    untouched = start.base.whole_digest()
    if broken:
        draft = Draft(start)
        phone_setup.ACTIONS["break_vpn"](draft)
        start = draft.done()[0]
    forked, _ = played(start, trunk)
    before = forked.digest()
    ended, texts = played(forked, branch)
    straight, all_texts = played(start, [*trunk, *branch])
    assert straight == ended
    assert all_texts[len(trunk) :] == texts
    assert played(forked, branch)[1] == texts  # a second branch sees nothing of the first one
    assert forked.digest() == before
    assert start.base.whole_digest() == untouched
