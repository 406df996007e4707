"""Tools that retail and airline have in common in tau-bench."""

from __future__ import annotations

from simkit.tools.tau import calculate as arithmetic
from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused


def calculate(db: Draft, expression: str) -> object:
    """The value of an arithmetic expression."""
    return arithmetic.calculate(expression)


def think(db: Draft, thought: str) -> object:
    """Nothing: the tool gives the agent a place for its thoughts."""
    return ""


def transfer_to_human_agents(db: Draft, summary: str) -> object:
    """Hand the customer over; the world ends the episode."""
    return "Transfer successful"


def get_user_details(db: Draft, user_id: str) -> object:
    """The row of a user."""
    return found(db, "users", user_id, "user not found")


def found(db: Draft, table: str, id: str, refusal: str) -> Row:
    """A row, not to be changed.

    Raises:
        Refused: there is none.
    """
    if not db.has(table, id):
        raise Refused(refusal)
    return db.get(table, id)
