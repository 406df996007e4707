"""The tools of tau2-bench retail, with the release's order of checks, wording and quirks.

Arguments may be of any JSON type. Python's own exceptions are results that agents read, so a type is never checked
where the release does not check it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused
from simkit.tools.tau2.call import Toolset
from simkit.tools.tau2.common import calculate, found, transfer_to_human_agents
from simkit.tools.tau2.records import UserAddress
from simkit.tools.tau2.text import Record

REASONS: Final = ("no longer needed", "ordered by mistake")


def find_user_id_by_email(db: Draft, email: str) -> object:
    """The id of the first user with an e-mail address, in any case."""
    for user_id, user in db.items("users"):
        if user["email"].lower() == email.lower():
            return user_id
    raise Refused("User not found")


def find_user_id_by_name_zip(db: Draft, first_name: str, last_name: str, zip: str) -> object:
    """The id of the first user with a name, in any case, and a postal code."""
    for user_id, user in db.items("users"):
        name = user["name"]
        if (
            name["first_name"].lower() == first_name.lower()
            and name["last_name"].lower() == last_name.lower()
            and user["address"]["zip"] == zip
        ):
            return user_id
    raise Refused("User not found")


def get_order_details(db: Draft, order_id: str) -> object:
    """The row of an order."""
    return Record(_order(db, order_id))


def get_product_details(db: Draft, product_id: str) -> object:
    """The row of a product with its variants."""
    return Record(_product(db, product_id))


def get_item_details(db: Draft, item_id: str) -> object:
    """A variant of a product."""
    for _, product in db.items("products"):
        if item_id in product["variants"]:
            return Record(product["variants"][item_id])
    raise Refused("Item not found")


def get_user_details(db: Draft, user_id: str) -> object:
    """The row of a user."""
    return Record(_user(db, user_id))


def list_all_product_types(db: Draft) -> object:
    """The ids of all products by name, sorted by name."""
    return json.dumps({product["name"]: product["product_id"] for _, product in db.items("products")}, sort_keys=True)


def cancel_pending_order(db: Draft, order_id: str, reason: str) -> object:
    """Cancel an order and pay its transactions back; a gift card has the money at once."""
    order = _order(db, order_id)
    if order["status"] != "pending":
        raise Refused("Non-pending order cannot be cancelled")
    if reason not in set(REASONS):
        raise Refused("Invalid reason")
    refunds: list[Row] = []
    for payment in order["payment_history"]:
        id, amount = payment["payment_method_id"], payment["amount"]
        refunds.append(_transaction("refund", amount, id))
        _pay_in(db, order, id, amount)
    changed = db.edit("orders", order_id)
    changed["status"] = "cancelled"
    changed["cancel_reason"] = reason
    changed["payment_history"].extend(refunds)
    return Record(changed)


def exchange_delivered_order_items(
    db: Draft, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> object:
    """Request an exchange of items for other variants; no money moves."""
    order = _order(db, order_id)
    if order["status"] != "delivered":
        raise Refused("Non-delivered order cannot be exchanged")
    for item_id in _absent_items(order, item_ids):
        raise Refused(f"Number of {item_id} not found.")
    if len(item_ids) != len(new_item_ids):
        raise Refused("The number of items to be exchanged should match.")
    variants = [_variant_for(db, order, *pair) for pair in zip(item_ids, new_item_ids, strict=True)]
    difference = round(_price_difference(order, item_ids, variants), 2)
    _check_balance(_payment_method(db, order, payment_method_id), difference, "price difference")
    changed = db.edit("orders", order_id)
    changed["status"] = "exchange requested"
    changed["exchange_items"] = sorted(item_ids)
    changed["exchange_new_items"] = sorted(new_item_ids)
    changed["exchange_payment_method_id"] = payment_method_id
    changed["exchange_price_difference"] = difference
    return Record(changed)


def modify_pending_order_address(
    db: Draft, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> object:
    """Send an order to another address."""
    _check_pending(_order(db, order_id))
    address = _address(address1, address2, city, state, country, zip)
    changed = db.edit("orders", order_id)
    changed["address"] = address
    return Record(changed)


def modify_user_address(
    db: Draft, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> object:
    """Change the address of a user."""
    _user(db, user_id)
    address = _address(address1, address2, city, state, country, zip)
    changed = db.edit("users", user_id)
    changed["address"] = address
    return Record(changed)


def modify_pending_order_items(
    db: Draft, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> object:
    """Replace items of an order; every replaced item gets price and options of the last new one."""
    return replace_items(db, order_id, item_ids, new_item_ids, payment_method_id, last_for_all=True)


def replace_items(
    db: Draft,
    order_id: str,
    item_ids: list[str],
    new_item_ids: list[str],
    payment_method_id: str,
    *,
    last_for_all: bool,
) -> object:
    """Replace items of an order and settle the difference, which is not rounded.

    Each replaced item gets price and options of its new one, or, with `last_for_all`, of the last new one.
    """
    order = _order(db, order_id)
    if order["status"] != "pending":
        raise Refused("Non-pending order cannot be modified")
    for item_id in _absent_items(order, item_ids):
        raise Refused(f"{item_id} not found")
    if len(item_ids) != len(new_item_ids):
        raise Refused("The number of items to be exchanged should match")
    variants: list[Row] = []
    for item_id, new_item_id in zip(item_ids, new_item_ids, strict=True):
        if item_id == new_item_id:
            raise Refused("The new item id should be different from the old item id")
        variants.append(_variant_for(db, order, item_id, new_item_id))
    difference = _price_difference(order, item_ids, variants)
    _check_balance(_payment_method(db, order, payment_method_id), difference, "new item")
    changed = db.edit("orders", order_id)
    kind = "payment" if difference > 0 else "refund"
    changed["payment_history"].append(_transaction(kind, float(abs(difference)), payment_method_id))
    _pay_in(db, order, payment_method_id, -difference)
    for place, (item_id, new_item_id) in enumerate(zip(item_ids, new_item_ids, strict=True)):
        variant = variants[-1 if last_for_all else place]
        item = _first_item(changed, item_id)
        item.update(item_id=new_item_id, price=variant["price"], options=variant["options"])
    changed["status"] = "pending (item modified)"
    return Record(changed)


def modify_pending_order_payment(db: Draft, order_id: str, payment_method_id: str) -> object:
    """Pay an order that has one payment by another method."""
    order = _order(db, order_id)
    _check_pending(order)
    method = _payment_method(db, order, payment_method_id)
    history = order["payment_history"]
    if len(history) != 1 or history[0]["transaction_type"] != "payment":
        raise Refused("There should be exactly one payment for a pending order")
    former, amount = history[0]["payment_method_id"], history[0]["amount"]
    if former == payment_method_id:
        raise Refused("The new payment method should be different from the current one")
    _check_balance(method, amount, "order")
    changed = db.edit("orders", order_id)
    changed["payment_history"].append(_transaction("payment", amount, payment_method_id))
    changed["payment_history"].append(_transaction("refund", amount, former))
    _pay_in(db, order, payment_method_id, -amount)
    _pay_in(db, order, former, amount)
    return Record(changed)


def return_delivered_order_items(db: Draft, order_id: str, item_ids: list[str], payment_method_id: str) -> object:
    """Request a return of items; no money moves."""
    order = _order(db, order_id)
    if order["status"] != "delivered":
        raise Refused("Non-delivered order cannot be returned")
    method = _payment_method(db, order, payment_method_id)
    if method["source"] != "gift_card" and payment_method_id != order["payment_history"][0]["payment_method_id"]:
        raise Refused("Payment method should be the original payment method")
    if _absent_items(order, item_ids):
        raise Refused("Some item not found")
    changed = db.edit("orders", order_id)
    changed["status"] = "return requested"
    changed["return_items"] = sorted(item_ids)
    changed["return_payment_method_id"] = payment_method_id
    return Record(changed)


def _order(db: Draft, order_id: str) -> Row:
    return found(db, "orders", order_id, "Order not found")


def _user(db: Draft, user_id: str) -> Row:
    return found(db, "users", user_id, "User not found")


def _product(db: Draft, product_id: str) -> Row:
    return found(db, "products", product_id, "Product not found")


def _check_pending(order: Row) -> None:
    if "pending" not in order["status"]:
        raise Refused("Non-pending order cannot be modified")


def _payment_method(db: Draft, order: Row, id: str) -> Row:
    """One of the payment methods of the user who made an order."""
    methods = _user(db, order["user_id"])["payment_methods"]
    if id not in methods:
        raise Refused("Payment method not found")
    return methods[id]


def _check_balance(method: Row, amount: float, what: str) -> None:
    if method["source"] == "gift_card" and method["balance"] < amount:
        raise Refused(f"Insufficient gift card balance to pay for the {what}")


def _pay_in(db: Draft, order: Row, id: str, amount: float) -> None:
    """Add an amount, which may be negative, if the method is a gift card."""
    if _payment_method(db, order, id)["source"] == "gift_card":
        card = db.edit("users", order["user_id"])["payment_methods"][id]
        card["balance"] = round(card["balance"] + amount, 2)


def _transaction(kind: str, amount: float, method: str) -> Row:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": method}


def _address(address1: Any, address2: Any, city: Any, state: Any, country: Any, zip: Any) -> Row:
    address = UserAddress(address1=address1, address2=address2, city=city, state=state, country=country, zip=zip)
    return address.model_dump()


def _absent_items(order: Row, item_ids: list[str]) -> list[str]:
    """The first item that is asked for more often than the order has it, in a list; an empty list if there is none."""
    held = [item["item_id"] for item in order["items"]]
    for item_id in item_ids:
        if item_ids.count(item_id) > held.count(item_id):
            return [item_id]
    return []


def _variant_for(db: Draft, order: Row, item_id: str, new_item_id: str) -> Row:
    """The available variant that can replace an item of an order."""
    item = _first_item(order, item_id)
    variants = _product(db, item["product_id"])["variants"]
    if new_item_id not in variants:
        raise Refused("Variant not found")
    if not variants[new_item_id]["available"]:
        raise Refused(f"New item {new_item_id} not found or available")
    return variants[new_item_id]


def _price_difference(order: Row, item_ids: list[str], variants: list[Row]) -> float:
    """What the new items cost more than the old ones, unrounded and summed in the order of the items."""
    difference = 0
    for item_id, variant in zip(item_ids, variants, strict=True):
        difference += variant["price"] - _first_item(order, item_id)["price"]
    return difference


def _first_item(order: Row, item_id: str) -> Row:
    """The first item of an order with an id."""
    item = next((item for item in order["items"] if item["item_id"] == item_id), None)
    if item is None:
        raise Refused(f"Item {item_id} not found")
    return item


TOOLS: Final = Toolset.of(
    "RetailTools",
    read=[
        find_user_id_by_email,
        find_user_id_by_name_zip,
        get_item_details,
        get_order_details,
        get_product_details,
        get_user_details,
        list_all_product_types,
    ],
    write=[
        cancel_pending_order,
        exchange_delivered_order_items,
        modify_pending_order_address,
        modify_pending_order_items,
        modify_pending_order_payment,
        modify_user_address,
        return_delivered_order_items,
    ],
    generic=[calculate, transfer_to_human_agents],
)
