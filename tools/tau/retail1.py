"""The tools of tau-bench retail, with the release's order of checks, wording and quirks.

Arguments may be of any JSON type. Python's own exceptions are results that agents read, so a type is never checked
where the release does not check it.
"""

from __future__ import annotations

from typing import Any, Final

from simkit.tools.tau.call import Toolset
from simkit.tools.tau.common1 import calculate, found, get_user_details, think, transfer_to_human_agents
from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused

REASONS: Final = ("no longer needed", "ordered by mistake")


def find_user_id_by_email(db: Draft, email: str) -> object:
    """The id of the first user with an e-mail address, in any case."""
    for user_id, user in db.items("users"):
        if user["email"].lower() == email.lower():
            return user_id
    raise Refused("user not found")


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
    raise Refused("user not found")


def get_order_details(db: Draft, order_id: str) -> object:
    """The row of an order."""
    return found(db, "orders", order_id, "order not found")


def get_product_details(db: Draft, product_id: str) -> object:
    """The row of a product with its variants."""
    return found(db, "products", product_id, "product not found")


def list_all_product_types(db: Draft) -> object:
    """The ids of all products by name, sorted by name."""
    ids = {product["name"]: product["product_id"] for _, product in db.items("products")}
    return {name: ids[name] for name in sorted(ids)}


def cancel_pending_order(db: Draft, order_id: str, reason: str) -> object:
    """Cancel an order and pay its transactions back; a gift card has the money at once."""
    order = _order(db, order_id, "pending", "cancelled")
    if reason not in REASONS:
        raise Refused("invalid reason")
    refunds: list[Row] = []
    for payment in order["payment_history"]:
        method, amount = payment["payment_method_id"], payment["amount"]
        refunds.append(_transaction("refund", amount, method))
        if "gift_card" in method:
            _pay_in(db, order, method, amount)
    changed = db.edit("orders", order_id)
    changed["status"] = "cancelled"
    changed["cancel_reason"] = reason
    changed["payment_history"].extend(refunds)
    return changed


def modify_pending_order_address(
    db: Draft, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> object:
    """Send an order to another address."""
    _order(db, order_id, "pending", "modified")
    return _move(db.edit("orders", order_id), address1, address2, city, state, country, zip)


def modify_user_address(
    db: Draft, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> object:
    """Change the address of a user."""
    found(db, "users", user_id, "user not found")
    return _move(db.edit("users", user_id), address1, address2, city, state, country, zip)


def modify_pending_order_payment(db: Draft, order_id: str, payment_method_id: str) -> object:
    """Pay an order that has one payment by another method."""
    order = _order(db, order_id, "pending", "modified")
    method = _payment_method(db, order, payment_method_id)
    history = order["payment_history"]
    if len(history) > 1 or history[0]["transaction_type"] != "payment":
        raise Refused("there should be exactly one payment for a pending order")
    former, amount = history[0]["payment_method_id"], history[0]["amount"]
    if former == payment_method_id:
        raise Refused("the new payment method should be different from the current one")
    _check_balance(method, amount, "order")
    changed = db.edit("orders", order_id)
    changed["payment_history"].append(_transaction("payment", amount, payment_method_id))
    changed["payment_history"].append(_transaction("refund", amount, former))
    if method["source"] == "gift_card":
        _pay_in(db, order, payment_method_id, -amount)
    if "gift_card" in former:
        _pay_in(db, order, former, amount)
    return changed


def modify_pending_order_items(
    db: Draft, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> object:
    """Replace items of an order by other variants and settle the difference, which is not rounded."""
    order = _order(db, order_id, "pending", "modified")
    difference = _price_difference(db, order, item_ids, new_item_ids)
    method = _payment_method(db, order, payment_method_id)
    _check_balance(method, difference, "new item")
    changed = db.edit("orders", order_id)
    kind = "payment" if difference > 0 else "refund"
    changed["payment_history"].append(_transaction(kind, abs(difference), payment_method_id))
    if method["source"] == "gift_card":
        _pay_in(db, order, payment_method_id, -difference)
    for item_id, new_item_id in zip(item_ids, new_item_ids, strict=True):
        item = _first_item(changed, item_id)
        variant = db.get("products", item["product_id"])["variants"][new_item_id]
        item.update(item_id=new_item_id, price=variant["price"], options=variant["options"])
    changed["status"] = "pending (item modified)"
    return changed


def exchange_delivered_order_items(
    db: Draft, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> object:
    """Request an exchange of items for other variants; no money moves."""
    order = _order(db, order_id, "delivered", "exchanged")
    difference = round(_price_difference(db, order, item_ids, new_item_ids), 2)
    method = _payment_method(db, order, payment_method_id)
    _check_balance(method, difference, "price difference")
    changed = db.edit("orders", order_id)
    changed["status"] = "exchange requested"
    changed["exchange_items"] = sorted(item_ids)
    changed["exchange_new_items"] = sorted(new_item_ids)
    changed["exchange_payment_method_id"] = payment_method_id
    changed["exchange_price_difference"] = difference
    return changed


def return_delivered_order_items(db: Draft, order_id: str, item_ids: list[str], payment_method_id: str) -> object:
    """Request a return of items; no money moves."""
    order = _order(db, order_id, "delivered", "returned")
    _payment_method(db, order, payment_method_id)
    if "gift_card" not in payment_method_id and payment_method_id != order["payment_history"][0]["payment_method_id"]:
        raise Refused("payment method should be either the original payment method or a gift card")
    if _absent_items(order, item_ids):
        raise Refused("some item not found")
    changed = db.edit("orders", order_id)
    changed["status"] = "return requested"
    changed["return_items"] = sorted(item_ids)
    changed["return_payment_method_id"] = payment_method_id
    return changed


def _order(db: Draft, order_id: str, status: str, done: str) -> Row:
    order = found(db, "orders", order_id, "order not found")
    if order["status"] != status:
        raise Refused(f"non-{status} order cannot be {done}")
    return order


def _payment_method(db: Draft, order: Row, id: str) -> Row:
    """One of the payment methods of the user who made an order."""
    methods = db.get("users", order["user_id"])["payment_methods"]
    if id not in methods:
        raise Refused("payment method not found")
    return methods[id]


def _check_balance(method: Row, amount: float, what: str) -> None:
    if method["source"] == "gift_card" and method["balance"] < amount:
        raise Refused(f"insufficient gift card balance to pay for the {what}")


def _pay_in(db: Draft, order: Row, id: str, amount: float) -> None:
    """Add an amount, which may be negative, to a gift card of the user who made an order."""
    card = db.edit("users", order["user_id"])["payment_methods"][id]
    card["balance"] = round(card["balance"] + amount, 2)


def _transaction(kind: str, amount: float, method: str) -> Row:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": method}


def _move(row: Row, *address: Any) -> Row:
    row["address"] = dict(zip(("address1", "address2", "city", "state", "country", "zip"), address, strict=True))
    return row


def _absent_items(order: Row, item_ids: list[str]) -> list[str]:
    """The first item that is asked for more often than the order has it, in a list; an empty list if there is none."""
    held = [item["item_id"] for item in order["items"]]
    for item_id in item_ids:
        if item_ids.count(item_id) > held.count(item_id):
            return [item_id]
    return []


def _price_difference(db: Draft, order: Row, item_ids: list[str], new_item_ids: list[str]) -> float:
    """What the new items cost more than the old ones, unrounded, after the checks that both are there."""
    for item_id in _absent_items(order, item_ids):
        raise Refused(f"{item_id} not found")
    if len(item_ids) != len(new_item_ids):
        raise Refused("the number of items to be exchanged should match")
    difference = 0
    for item_id, new_item_id in zip(item_ids, new_item_ids, strict=True):
        item = _first_item(order, item_id)
        variants = db.get("products", item["product_id"])["variants"]
        if not (new_item_id in variants and variants[new_item_id]["available"]):
            raise Refused(f"new item {new_item_id} not found or available")
        difference += variants[new_item_id]["price"] - item["price"]
    return difference


def _first_item(order: Row, item_id: str) -> Row:
    return next(item for item in order["items"] if item["item_id"] == item_id)


TOOLS: Final = Toolset.of(
    "retail",
    calculate,
    cancel_pending_order,
    exchange_delivered_order_items,
    find_user_id_by_email,
    find_user_id_by_name_zip,
    get_order_details,
    get_product_details,
    get_user_details,
    list_all_product_types,
    modify_pending_order_address,
    modify_pending_order_items,
    modify_pending_order_payment,
    modify_user_address,
    return_delivered_order_items,
    think,
    transfer_to_human_agents,
)
