"""A small provider of telephone lines and one phone, all invented."""

from __future__ import annotations

from typing import Any, Final

from simkit.tools.tau.call import Called
from simkit.tools.tau.rows import Base, Draft, Row, Rows, Side, copied
from simkit.tools.tau2 import coupling, phone, telecom
from simkit.tools.tau2.call import Environment, run_call
from simkit.tools.tau2.phone_apn import APNSettings

ENVIRONMENT: Final = Environment(telecom.TOOLS, phone.USER_TOOLS, coupling.sync)

PLAN: Final[Row] = {
    "plan_id": "P1",
    "data_limit_gb": 5.0,
    "price_per_month": 30.0,
    "data_refueling_price_per_gb": 2.5,
}
LINE: Final[Row] = {
    "line_id": "L1",
    "phone_number": "111",
    "status": "Active",
    "plan_id": "P1",
    "device_id": "D1",
    "data_used_gb": 1.5,
    "data_refueling_gb": 0.0,
    "roaming_enabled": False,
    "contract_end_date": "2026-12-31",
    "suspension_start_date": None,
}
BILL: Final[Row] = {
    "bill_id": "B1",
    "customer_id": "C1",
    "issue_date": "2025-01-05",
    "total_due": 30.0,
    "line_items": [],
    "status": "Issued",
}
CUSTOMER: Final[Row] = {
    "customer_id": "C1",
    "full_name": "Ada Reed",
    "date_of_birth": "1990-01-01",
    "phone_number": "100",
    "line_ids": ["L1", "L2"],
    "bill_ids": ["B1", "B2"],
}
AGENT_TABLES: Final[dict[str, dict[str, Row]]] = {
    "plans": {
        "P1": {"plan_id": "P1", "data_limit_gb": 5.0, "price_per_month": 30.0, "data_refueling_price_per_gb": 2.5}
    },
    "customers": {
        "C1": CUSTOMER,
        "C2": {**CUSTOMER, "customer_id": "C2", "phone_number": "200", "line_ids": [], "bill_ids": []},
    },
    "lines": {"L1": LINE, "L2": {**LINE, "line_id": "L2", "phone_number": "112", "status": "Suspended"}},
    "bills": {"B1": BILL, "B2": {**BILL, "bill_id": "B2", "issue_date": "2025-02-05", "total_due": 40.0}},
    "devices": {"D1": {"device_id": "D1", "model": "Slate"}},
}
DEVICE: Final[Row] = {
    "sim_card_status": "active",
    "sim_card_missing": False,
    "airplane_mode": False,
    "network_signal_strength": "excellent",
    "network_technology_connected": "5G",
    "network_connection_status": "connected",
    "battery_level": 64,
    "data_enabled": True,
    "roaming_enabled": False,
    "network_mode_preference": "4g_5g_preferred",
    "active_apn_settings": APNSettings().row(),
    "wifi_enabled": False,
    "wifi_connected": False,
    "wifi_ssid": None,
    "wifi_signal_strength": "none",
    "wifi_calling_enabled": False,
    "wifi_calling_mms_over_wifi": False,
    "data_saver_mode": False,
    "vpn_enabled_setting": False,
    "vpn_connected": False,
    "vpn_details": None,
    "app_statuses": {
        "messaging": {"app_name": "messaging", "permissions": {"sms": True, "storage": True, "network": False}},
        "chess": {"app_name": "chess", "permissions": {"sms": False, "storage": False, "network": False}},
    },
}
SURROUNDINGS: Final[Row] = {
    "name": "Ada Reed",
    "phone_number": "111",
    "is_abroad": False,
    "roaming_allowed": False,
    "signal_strength": {"2G": "poor", "3G": "fair", "4G": "good", "5G": "excellent"},
    "mobile_data_usage_exceeded": False,
    "line_active": True,
    "payment_request": None,
}


def telecom_rows(device: Row | None = None, surroundings: Row | None = None) -> Rows:
    """The rows of a branch, with changes of the phone and of where it is."""
    user: dict[str, dict[str, Row]] = {
        "user.device": {"": {**DEVICE, **(device or {})}},
        "user.surroundings": {"": {**SURROUNDINGS, **(surroundings or {})}},
    }
    return Rows(Base(copied({**AGENT_TABLES, **user, **coupling.hidden_tables()})))


class Line:
    """A branch on which both sides make calls."""

    def __init__(self, rows: Rows | None = None, environment: Environment = ENVIRONMENT) -> None:
        self.rows = rows or telecom_rows()
        self.environment = environment

    def agent(self, name: str, **arguments: object) -> Called:
        """A call of the agent."""
        return self._call(name, arguments, "agent")

    def user(self, name: str, **arguments: object) -> Called:
        """A call of the user."""
        return self._call(name, arguments, "user")

    def says(self, name: str, **arguments: object) -> str:
        """The first line of what a call tells the user."""
        return self.user(name, **arguments).text.splitlines()[0]

    def bar(self) -> str:
        """The status bar."""
        return self.user("check_status_bar").text.removeprefix("Status Bar: ")

    def row(self, table: str, id: str = "") -> Row:
        """A row, not to be changed."""
        return Draft(self.rows).get(table, id)

    def _call(self, name: str, arguments: dict[str, Any], side: Side) -> Called:
        called = run_call(self.environment, self.rows, name, arguments, side)
        self.rows = called.rows
        return called
