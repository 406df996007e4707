"""The tools of a complaints desk."""

from sqlite3 import Connection
from typing import Any


def find_order(db: Connection, order_id: int) -> dict[str, Any] | None:
    """Find an order, with its price in dollars."""
    return db.execute("select * from orders where order_id = ?", (order_id,)).fetchone()


def refund(db: Connection, order_id: int) -> dict[str, Any]:
    """Pay the price of an order back, once."""
    paid = db.execute("update orders set refunded = 1 where order_id = ? and refunded = 0", (order_id,))
    return {"success": paid.rowcount == 1}
