"""The tools of a small shop."""

from sqlite3 import Connection
from typing import Any


def find_items(db: Connection, text: str) -> list[dict[str, Any]]:
    """Find items by a part of their name, with their ids, prices in dollars and stock."""
    return db.execute("select * from items where name like '%' || ? || '%'", (text,)).fetchall()


def place_order(db: Connection, item_id: str, count: int) -> dict[str, Any]:
    """Order a number of pieces of an item."""
    db.execute("update items set stock = stock - ? where item_id = ?", (count, item_id))
    return db.execute("insert into orders (item_id, count) values (?, ?) returning *", (item_id, count)).fetchone()


def cancel_order(db: Connection, order_id: int) -> dict[str, Any]:
    """Cancel an order."""
    return {"success": db.execute("delete from orders where order_id = ?", (order_id,)).rowcount == 1}
