"""Tools that several domains have in common in tau2-bench."""

from __future__ import annotations

from simkit.tools.tau import calculate as arithmetic
from simkit.tools.tau.calculate import CHARACTERS
from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau.text import Refused


def calculate(db: Draft, expression: str) -> object:
    """The value of an arithmetic expression."""
    if not all(character in CHARACTERS for character in expression):
        raise Refused("Invalid characters in expression")
    return arithmetic.calculate(expression)


def transfer_to_human_agents(db: Draft, summary: str) -> object:
    """Hand the customer over. The conversation goes on until the user ends it."""
    return "Transfer successful"


def found(db: Draft, table: str, id: str, refusal: str) -> Row:
    """A row, not to be changed.

    Raises:
        Refused: there is none.
    """
    if not db.has(table, id):
        raise Refused(refusal)
    return db.get(table, id)
