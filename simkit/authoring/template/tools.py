"""The tools: every public function is one. Models see its name, docstring and parameters; `db` is the database."""

from sqlite3 import Connection
from typing import Any


def find_items(db: Connection, text: str) -> list[dict[str, Any]]:
    """Find items by a part of their name. Gives their ids, prices in dollars and how many there are."""
    return db.execute("select * from items where name like '%' || ? || '%'", (text,)).fetchall()


def place_order(db: Connection, item_id: str, count: int) -> dict[str, Any]:
    """Order a number of pieces of an item."""
    wanted = {"item_id": item_id, "count": count}
    taken = db.execute("update items set stock = stock - :count where item_id = :item_id and stock >= :count", wanted)
    if taken.rowcount == 0:
        return {"success": False, "reason": "not enough in stock"}
    order = db.execute("insert into orders (item_id, count) values (:item_id, :count) returning *", wanted).fetchone()
    return {"success": True, **order}


def cancel_order(db: Connection, order_id: int) -> dict[str, Any]:
    """Cancel an order that is still open."""
    found = db.execute("update orders set status = 'cancelled' where order_id = ? and status = 'open'", (order_id,))
    return {"success": found.rowcount == 1}
