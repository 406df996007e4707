"""The tools of tau2-bench's retail, airline and mock domains, and what the variant `fixed` repairs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from small_tau2 import AIRLINE, MOCK, MOCK_USER, RETAIL, schemas_of

from simkit.core.messages import ToolSpec
from simkit.tools.tau.call import Called
from simkit.tools.tau.rows import Base, Rows, Side, copied
from simkit.tools.tau2.call import Environment, run_call
from simkit.tools.tau2.domains import FIXED, HIDDEN, PAPER
from simkit.tools.tau2.layout import DomainName, arranged_tables

DATA: dict[DomainName, tuple[Any, Any]] = {
    "retail": (RETAIL, {}),
    "airline": (AIRLINE, {}),
    "mock": (MOCK, MOCK_USER),
}


class Branch:
    """A branch of a domain on which calls are made."""

    def __init__(self, domain: DomainName, environment: Environment | None = None) -> None:
        tables = arranged_tables(domain, *copied_data(domain))
        self.rows = Rows(Base({**tables, **HIDDEN.get(domain, {})}))
        self.environment = environment or PAPER[domain]

    def call(self, name: str, **arguments: Any) -> Called:
        """Make a call of the agent; the branch goes on with what it changed."""
        return self._call(name, "agent", arguments)

    def _call(self, name: str, side: Side, arguments: dict[str, Any]) -> Called:
        called = run_call(self.environment, self.rows, name, copied(arguments), side)
        self.rows = called.rows
        return called

    def text(self, name: str, **arguments: Any) -> str:
        """The text of a call of the agent."""
        return self.call(name, **arguments).text

    def user_text(self, name: str, **arguments: Any) -> str:
        """The text of a call of the user."""
        return self._call(name, "user", arguments).text

    def row(self, table: str, id: str) -> Any:
        """A row."""
        return self.rows.get(table, id)


def copied_data(domain: DomainName) -> tuple[Any, Any]:
    """The data of both sides of a small domain."""
    agent, user = DATA[domain]
    return copied(agent), copied(user)


def repaired(domain: DomainName) -> Branch:
    """A branch of the variant `fixed`."""
    found = FIXED[domain]
    specs = [ToolSpec.model_validate(schema) for side in found.sides() for schema in schemas_of(side)]
    return Branch(domain, found.checked(specs))


def items(*ids: str) -> dict[str, Any]:
    """Arguments that replace both items of an order."""
    return {"item_ids": ["i1", "i2"], "new_item_ids": list(ids), "payment_method_id": "gift_card_1"}


def test_retail_finds_users_and_rows() -> None:
    branch = Branch("retail")
    assert branch.text("find_user_id_by_email", email="ADA@example.com") == "ada_1"
    assert branch.text("find_user_id_by_email", email="eve@example.com") == "Error: User not found"
    assert branch.text("find_user_id_by_name_zip", first_name="ada", last_name="REED", zip="80001") == "ada_1"
    assert branch.text("find_user_id_by_name_zip", first_name="ada", last_name="REED", zip=80001).startswith("Error")
    assert json.loads(branch.text("get_item_details", item_id="i4"))["price"] == 33.0
    assert branch.text("get_item_details", item_id="i0") == "Error: Item not found"
    assert json.loads(branch.text("get_order_details", order_id="#W1"))["return_items"] is None
    assert json.loads(branch.text("get_product_details", product_id="p1"))["name"] == "Kettle"
    assert branch.text("get_product_details", product_id="p2") == "Error: Product not found"
    assert json.loads(branch.text("get_user_details", user_id="ada_1"))["orders"] == ["#W1", "#W2"]
    assert branch.text("list_all_product_types") == '{"Kettle": "p1"}'
    assert branch.text("calculate", expression="1 / 3") == "0.33"
    assert branch.text("calculate", expression="one") == "Error: Invalid characters in expression"
    assert branch.text("transfer_to_human_agents", summary="angry") == "Transfer successful"


def test_a_cancelled_order_is_paid_back_to_a_gift_card_at_once() -> None:
    branch = Branch("retail")
    cancel = {"order_id": "#W1", "reason": "no longer needed"}
    assert branch.text("cancel_pending_order", **{**cancel, "reason": "bored"}) == "Error: Invalid reason"
    assert branch.text("cancel_pending_order", **{**cancel, "reason": ["x"]}) == "Error: unhashable type: 'list'"
    order = json.loads(branch.text("cancel_pending_order", **cancel))
    assert (order["status"], order["cancel_reason"]) == ("cancelled", "no longer needed")
    assert order["payment_history"][1] == {
        "transaction_type": "refund",
        "amount": 50.5,
        "payment_method_id": "gift_card_1",
    }
    assert branch.row("users", "ada_1")["payment_methods"]["gift_card_1"]["balance"] == 150.5
    again = branch.text("cancel_pending_order", **cancel)
    assert again == "Error: Non-pending order cannot be cancelled"


def test_replaced_items_all_get_price_and_options_of_the_last_one() -> None:
    branch = Branch("retail")
    order = json.loads(branch.text("modify_pending_order_items", order_id="#W1", **items("i3", "i4")))
    changed = [(item["item_id"], item["price"], item["options"]["color"]) for item in order["items"]]
    assert changed == [("i3", 33.0, "green"), ("i4", 33.0, "green")]
    assert order["payment_history"][1]["amount"] == 3.75
    assert branch.row("users", "ada_1")["payment_methods"]["gift_card_1"]["balance"] == 96.25
    fixed = repaired("retail")
    order = json.loads(fixed.text("modify_pending_order_items", order_id="#W1", **items("i3", "i4")))
    changed = [(item["item_id"], item["price"], item["options"]["color"]) for item in order["items"]]
    assert changed == [("i3", 21.25, "blue"), ("i4", 33.0, "green")]
    assert order["payment_history"][1]["amount"] == 3.75


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"order_id": "#W9"}, "Order not found"),
        ({"order_id": "#W2"}, "Non-pending order cannot be modified"),
        ({"item_ids": ["i1", "i1"]}, "i1 not found"),
        ({"new_item_ids": ["i3"]}, "The number of items to be exchanged should match"),
        ({"new_item_ids": ["i1", "i3"]}, "The new item id should be different from the old item id"),
        ({"new_item_ids": ["i3", "i0"]}, "Variant not found"),
        ({"new_item_ids": ["i3", "i9"]}, "New item i9 not found or available"),
        ({"payment_method_id": "gift_card_2"}, "Payment method not found"),
    ],
)
def test_items_that_cannot_be_replaced(arguments: dict[str, Any], error: str) -> None:
    called = Branch("retail").call(
        "modify_pending_order_items", **{"order_id": "#W1", **items("i3", "i4"), **arguments}
    )
    assert (called.text, called.error, called.writes) == (f"Error: {error}", True, ())


def test_an_exchange_and_a_return_are_requested_once() -> None:
    branch = Branch("retail")
    order = json.loads(branch.text("exchange_delivered_order_items", order_id="#W2", **items("i4", "i3")))
    assert order["exchange_new_items"] == ["i3", "i4"]
    assert order["exchange_price_difference"] == 3.75
    assert branch.text("exchange_delivered_order_items", order_id="#W2", **items("i4", "i3")) == (
        "Error: Non-delivered order cannot be exchanged"
    )
    other = Branch("retail")
    give_back = {"order_id": "#W2", "item_ids": ["i2"], "payment_method_id": "paypal_1"}
    assert other.text("return_delivered_order_items", **give_back) == (
        "Error: Payment method should be the original payment method"
    )
    assert other.text("return_delivered_order_items", **{**give_back, "item_ids": ["i7"]}).startswith("Error: Payment")
    card = {**give_back, "payment_method_id": "gift_card_1"}
    assert other.text("return_delivered_order_items", **{**card, "item_ids": ["i7"]}) == "Error: Some item not found"
    assert json.loads(other.text("return_delivered_order_items", **card))["return_items"] == ["i2"]
    assert other.text("exchange_delivered_order_items", order_id="#W1", **items("i4", "i3")).startswith("Error: Non-d")


def test_addresses_are_records_and_statuses_with_pending_count() -> None:
    branch = Branch("retail")
    address = {"address1": "2", "address2": "", "city": "B", "state": "CO", "country": "USA", "zip": "80002"}
    branch.call("modify_pending_order_items", order_id="#W1", **items("i3", "i4"))
    assert (
        json.loads(branch.text("modify_pending_order_address", order_id="#W1", **address))["address"]["zip"] == "80002"
    )
    assert branch.text("modify_pending_order_address", order_id="#W2", **address).endswith("cannot be modified")
    assert json.loads(branch.text("modify_user_address", user_id="ada_1", **address))["address"]["city"] == "B"
    wrong = branch.call("modify_user_address", user_id="ada_1", **{**address, "zip": 80002})
    assert wrong.error
    assert "1 validation error for UserAddress\nzip\n  Input should be a valid string" in wrong.text


def test_another_payment_method_pays_and_the_former_is_refunded() -> None:
    branch = Branch("retail")
    order = json.loads(branch.text("modify_pending_order_payment", order_id="#W1", payment_method_id="paypal_1"))
    kinds = [(paid["transaction_type"], paid["payment_method_id"]) for paid in order["payment_history"]]
    assert kinds == [("payment", "gift_card_1"), ("payment", "paypal_1"), ("refund", "gift_card_1")]
    assert branch.row("users", "ada_1")["payment_methods"]["gift_card_1"]["balance"] == 150.5
    assert branch.text("modify_pending_order_payment", order_id="#W1", payment_method_id="paypal_1") == (
        "Error: There should be exactly one payment for a pending order"
    )
    same = Branch("retail").text("modify_pending_order_payment", order_id="#W1", payment_method_id="gift_card_1")
    assert same == "Error: The new payment method should be different from the current one"


BO = {"first_name": "Bo", "last_name": "Lind", "dob": "1980-01-01"}
TRIP = {
    "user_id": "bo_1",
    "origin": "SFO",
    "destination": "JFK",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [{"flight_number": "F1", "date": "2024-05-20"}, {"flight_number": "F2", "date": "2024-05-20"}],
    "passengers": [BO],
    "payment_methods": [{"payment_id": "certificate_1", "amount": "160"}],
    "total_baggages": 0,
    "nonfree_baggages": 0,
    "insurance": "no",
}


def test_a_booking_takes_seats_and_money_and_numbers_may_be_texts() -> None:
    branch = Branch("airline")
    booked = json.loads(branch.text("book_reservation", **TRIP))
    assert (booked["reservation_id"], booked["status"]) == ("HATHAT", None)
    assert booked["payment_history"] == [{"payment_id": "certificate_1", "amount": 160}]
    assert [flight["price"] for flight in booked["flights"]] == [80, 80]
    assert branch.row("flights", "F1")["dates"]["2024-05-20"]["available_seats"]["economy"] == 1
    user = branch.row("users", "bo_1")
    assert "certificate_1" not in user["payment_methods"]
    assert user["reservations"] == ["R1", "HATHAT"]
    for id in ("HATHAU", "HATHAV"):
        card = [{"payment_id": "credit_card_1", "amount": 100}]
        cheap = {**TRIP, "cabin": "basic_economy", "payment_methods": card}
        assert json.loads(branch.text("book_reservation", **cheap))["reservation_id"] == id
    assert branch.text("book_reservation", **TRIP) == "Error: Too many reservations"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"user_id": "eve_1"}, "User eve_1 not found"),
        ({"flights": 3}, "'int' object is not iterable"),
        ({"flights": "F1"}, "'str' object has no attribute 'flight_number'"),
        ({"flights": [{"flight_number": "F9", "date": "2024-05-20"}]}, "Flight F9 not found"),
        ({"flights": [{"flight_number": "F1", "date": "2024-06-20"}]}, "Flight F1 not found on date 2024-06-20"),
        ({"flights": [{"flight_number": "F1", "date": "2024-05-21"}]}, "Flight F1 not available on date 2024-05-21"),
        ({"passengers": [BO] * 3}, "Not enough seats on flight F1"),
        ({"payment_methods": [{"payment_id": "x", "amount": 160}]}, "Payment method x not found"),
        (
            {"payment_methods": [{"payment_id": "gift_card_1", "amount": 160}]},
            "Not enough balance in payment method gift_card_1",
        ),
        (
            {"insurance": "yes", "nonfree_baggages": 1},
            "Payment amount does not add up, total price is 240, but paid 160",
        ),
    ],
)
def test_bookings_that_are_refused(arguments: dict[str, Any], error: str) -> None:
    called = Branch("airline").call("book_reservation", **{**TRIP, **arguments})
    assert (called.text, called.error, called.writes) == (f"Error: {error}", True, ())


def test_new_records_are_checked() -> None:
    branch = Branch("airline")
    half = {**TRIP, "payment_methods": [{"payment_id": "certificate_1", "amount": 99.5}]}
    assert "1 validation error for Payment\namount" in branch.text("book_reservation", **half)
    assert "validation error for Reservation\ncabin" in branch.text("book_reservation", **{**TRIP, "cabin": "first"})
    assert "1 validation error for Certificate" in branch.text("send_certificate", user_id="bo_1", amount="much")


def test_changes_of_a_reservation_keep_the_seats_of_flights() -> None:
    branch = Branch("airline")
    flights = [{"flight_number": "F1", "date": "2024-05-20"}]
    change = {"reservation_id": "R1", "cabin": "business", "flights": flights, "payment_id": "credit_card_1"}
    changed = json.loads(branch.text("update_reservation_flights", **change))
    assert (changed["cabin"], changed["flights"][0]["price"]) == ("business", 200)
    assert changed["payment_history"][1] == {"payment_id": "credit_card_1", "amount": 120}
    kept = branch.call("update_reservation_flights", **change)
    assert kept.writes == ()
    assert branch.row("flights", "F1")["dates"]["2024-05-20"]["available_seats"]["business"] == 1
    wrong = {"certificate_1": "Certificate cannot be used to update reservation", "x": "Payment method not found"}
    wrong["gift_card_1"] = "Gift card balance is not enough"
    for id, error in wrong.items():
        text = Branch("airline").text("update_reservation_flights", **{**change, "payment_id": id})
        assert text == f"Error: {error}"


def test_bags_passengers_and_cancelling() -> None:
    branch = Branch("airline")
    bags = {"reservation_id": "R1", "total_baggages": 2, "nonfree_baggages": 1, "payment_id": "gift_card_1"}
    assert json.loads(branch.text("update_reservation_baggages", **bags))["nonfree_baggages"] == 1
    assert branch.row("users", "bo_1")["payment_methods"]["gift_card_1"]["amount"] == 40.0
    two = branch.text("update_reservation_passengers", reservation_id="R1", passengers=[BO, BO])
    assert two == "Error: Number of passengers does not match"
    eve = {**BO, "first_name": "Eve"}
    assert json.loads(branch.text("update_reservation_passengers", reservation_id="R1", passengers=[eve]))[
        "passengers"
    ] == [eve]
    branch.call("update_reservation_passengers", reservation_id="R1", passengers="x")
    assert branch.row("reservations", "R1")["passengers"] == "x"
    for count in (4, 8):
        cancelled = json.loads(branch.text("cancel_reservation", reservation_id="R1"))
        assert (cancelled["status"], len(cancelled["payment_history"])) == ("cancelled", count)
    assert branch.text("cancel_reservation", reservation_id="R9") == "Error: Reservation R9 not found"


def test_certificates_are_given_three_times() -> None:
    branch = Branch("airline")
    texts = [branch.text("send_certificate", user_id="bo_1", amount=50) for _ in range(4)]
    assert texts[0] == "Certificate certificate_3221322 added to user bo_1 with amount 50."
    assert texts[3] == "Error: Too many certificates"
    assert branch.row("users", "bo_1")["payment_methods"]["certificate_3221322"]["amount"] == 50.0


def numbers(text: str) -> list[str]:
    """The numbers and dates of flights in a result, in order."""
    return ["".join(pair) for pair in re.findall(r'"flight_number": "(\w+)"|"date": "([\d-]+)"', text)]


def test_flights_with_a_stop_and_the_next_day() -> None:
    branch, fixed = Branch("airline"), repaired("airline")
    trip = {"origin": "SFO", "destination": "JFK", "date": "2024-05-20"}
    one_stop = ["F1", "2024-05-20", "F2", "2024-05-20"]
    assert numbers(branch.text("search_onestop_flight", **trip)) == one_stop
    assert numbers(fixed.text("search_onestop_flight", **trip)) == one_stop
    overnight = {**trip, "date": "2024-05-08"}
    found = ["F1", "2024-05-08", "F2", "2024-05-08"]
    assert numbers(branch.text("search_onestop_flight", **overnight)) == found
    assert numbers(fixed.text("search_onestop_flight", **overnight)) == [*found, "F3", "2024-05-08", "F4", "2024-05-09"]
    assert "is no date" in fixed.text("search_onestop_flight", **{**trip, "date": "tomorrow"})
    direct = json.loads(branch.text("search_direct_flight", origin="SFO", destination="DEN", date="2024-05-20"))
    assert [(flight["flight_number"], flight["date"]) for flight in direct] == [("F1", None)]
    anywhere = branch.text("search_direct_flight", origin=None, destination="JFK", date="2024-05-20")
    assert [flight["flight_number"] for flight in json.loads(anywhere)] == ["F2", "F4"]
    assert branch.text("get_flight_status", flight_number="F1", date="2024-05-21") == "cancelled"
    assert len(json.loads(branch.text("list_all_airports"))) == 20


def test_mock_has_tasks_and_notifications() -> None:
    branch = Branch("mock")
    made = json.loads(branch.text("create_task", user_id="user_1", title="Mop"))
    assert made == {"task_id": "task_2", "title": "Mop", "description": None, "status": "pending"}
    assert "validation error for Task\ntitle" in branch.text("create_task", user_id="user_1", title=3)
    assert json.loads(branch.text("update_task_status", task_id="task_2", status="odd"))["status"] == "odd"
    assert json.loads(branch.text("get_users"))[0]["tasks"] == ["task_1", "task_2"]
    (shown,) = json.loads(branch.user_text("check_notifications"))
    assert shown == {"notification_id": "n1", "message": "Sweep!", "status": "unread", "task_id": "task_1"}
    assert branch.user_text("dismiss_notification", notification_id="n1") == "Notification n1 dismissed"
    assert branch.user_text("dismiss_notification", notification_id="n2") == "Error: Notification n2 not found"
    assert branch.text("create_task", user_id="u", title="Mop") == "Error: User u not found"


def test_repaired_tools_check_arguments_first() -> None:
    fixed = repaired("airline")
    called = fixed.call("book_reservation", **{**TRIP, "flights": "F1"})
    assert called.text == "Error: book_reservation was not called: `flights` must be a list"
    assert fixed.call("cancel_reservation", reservation_id="R9").text == "Error: Reservation R9 not found"
