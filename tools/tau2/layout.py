"""The layout of tau2-bench's tables: order of fields and defaults, as the release's records have them.

Agents read rows with this order, and the states of a branch are compared with these defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast

from simkit.errors import DataCorrupt
from simkit.tools.tau.rows import USER_TABLES, Row

DomainName: TypeAlias = Literal["retail", "airline", "telecom", "mock"]
Tables: TypeAlias = dict[str, dict[str, Row]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of a record.

    Attributes:
        fields: names in their order, separated by spaces.
        defaults: values of fields that may be absent; all other fields are required.
        parts: layouts of fields that are records, or lists of records.
        times: fields with a date and a time, which are written with a space between them.
    """

    fields: str
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    parts: Mapping[str, Layout] = field(default_factory=dict[str, "Layout"])
    times: tuple[str, ...] = ()

    def arranged(self, row: Mapping[str, Any]) -> Row:
        """A row in this layout.

        Raises:
            DataCorrupt: a required field is missing, or a field is unknown.
        """
        names = self.fields.split()
        wrong = [name for name in names if name not in row and name not in self.defaults]
        wrong += [name for name in row if name not in names]
        if wrong:
            raise DataCorrupt(
                f"a row of tau2-bench's tables has a wrong or missing field `{wrong[0]:.50}`; get the data again with "
                "`simkit data tau2`"
            )
        return {name: self._value(name, row[name] if name in row else self.defaults[name]) for name in names}

    def _value(self, name: str, value: Any) -> Any:
        if name in self.parts and value is not None:
            part = self.parts[name]
            return _each(part, cast("Any", value)) if isinstance(value, list) else part.arranged(value)
        return value.replace("T", " ") if name in self.times and isinstance(value, str) else value


def _each(layout: Layout, rows: Any) -> list[Row]:
    return [layout.arranged(row) for row in rows]


def _nulls(names: str) -> dict[str, None]:
    return dict.fromkeys(names.split())


_ADDED_TO_ORDERS = (
    "cancel_reason exchange_items exchange_new_items exchange_payment_method_id exchange_price_difference "
    "return_items return_payment_method_id"
)
_APN_NULLS = "mms_proxy mms_port"
_LINE_DATES = "contract_end_date last_plan_change_date last_sim_replacement_date suspension_start_date"

LAYOUTS: Final[Mapping[DomainName, Mapping[str, Layout | None]]] = {
    "retail": {
        "products": None,
        "users": None,
        "orders": Layout(
            f"order_id user_id address items status fulfillments payment_history {_ADDED_TO_ORDERS}",
            _nulls(_ADDED_TO_ORDERS),
        ),
    },
    "airline": {
        "flights": Layout(
            "flight_number origin destination scheduled_departure_time_est scheduled_arrival_time_est dates"
        ),
        "users": None,
        "reservations": Layout(
            "reservation_id user_id origin destination flight_type cabin flights passengers payment_history created_at "
            "total_baggages nonfree_baggages insurance status",
            {"status": None},
            {"flights": Layout("flight_number origin destination date price")},
        ),
    },
    "mock": {
        "tasks": Layout("task_id title description status", {"description": None}),
        "users": None,
        "user.notifications": Layout("notification_id message status task_id", {"status": "unread", "task_id": None}),
    },
    "telecom": {
        "plans": None,
        "customers": Layout(
            "customer_id full_name date_of_birth email phone_number address account_status payment_methods line_ids "
            "bill_ids created_at last_extension_date goodwill_credit_used_this_year",
            {
                "account_status": "Pending Verification",
                "payment_methods": [],
                "line_ids": [],
                "bill_ids": [],
                "created_at": "2025-01-01",
                "last_extension_date": None,
                "goodwill_credit_used_this_year": 0.0,
            },
            times=("created_at",),
        ),
        "lines": Layout(
            "line_id phone_number status plan_id device_id data_used_gb data_refueling_gb roaming_enabled "
            f"{_LINE_DATES}",
            {
                "status": "Pending Activation",
                "device_id": None,
                "data_used_gb": 0.0,
                "data_refueling_gb": 0.0,
                "roaming_enabled": False,
                **_nulls(_LINE_DATES),
            },
        ),
        "bills": Layout(
            "bill_id customer_id period_start period_end issue_date total_due due_date line_items status",
            {"line_items": [], "status": "Draft"},
        ),
        "devices": Layout(
            "device_id device_type model imei is_esim_capable activated activation_date last_esim_transfer_date",
            {"imei": None, "activated": False, "activation_date": None, "last_esim_transfer_date": None},
            times=("activation_date", "last_esim_transfer_date"),
        ),
        "user.device": Layout(
            "sim_card_status sim_card_missing airplane_mode network_signal_strength network_technology_connected "
            "network_connection_status battery_level data_enabled roaming_enabled network_mode_preference "
            "active_apn_settings wifi_enabled wifi_connected wifi_ssid wifi_signal_strength wifi_calling_enabled "
            "wifi_calling_mms_over_wifi data_saver_mode vpn_enabled_setting vpn_connected vpn_details app_statuses",
            _nulls("wifi_ssid vpn_details"),
            {
                "active_apn_settings": Layout(
                    "apn_name reset_at_reboot mms_apn mmsc_url mms_proxy mms_port",
                    {"reset_at_reboot": False, **_nulls(_APN_NULLS)},
                )
            },
        ),
        "user.surroundings": Layout(
            "name phone_number is_abroad roaming_allowed signal_strength mobile_data_usage_exceeded line_active "
            "payment_request",
            {
                **_nulls("name phone_number payment_request"),
                "is_abroad": False,
                "roaming_allowed": False,
                "signal_strength": {"2G": "poor", "3G": "fair", "4G": "good", "5G": "excellent"},
                "mobile_data_usage_exceeded": False,
                "line_active": True,
            },
        ),
    },
}
"""Layouts by table; None where the data have the layout already. Tables of the user's side begin with `user.`."""

_LISTS: Final = {
    "plans": "plan_id",
    "customers": "customer_id",
    "lines": "line_id",
    "bills": "bill_id",
    "devices": "device_id",
}


def arranged_tables(domain: DomainName, agent: Mapping[str, Any], user: Mapping[str, Any]) -> Tables:
    """The tables of a domain from the files of both sides; the user's is empty if there is none.

    The lists of telecom become tables by their first field. The phone and the surroundings are tables with one row.

    Raises:
        DataCorrupt: a table or a field is missing or unknown.
    """
    tables: Tables = {}
    for table, layout in LAYOUTS[domain].items():
        found = _rows(domain, table, agent, user)
        tables[table] = {id: row if layout is None else layout.arranged(row) for id, row in found.items()}
    return tables


def _rows(domain: DomainName, table: str, agent: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Row]:
    name = table.removeprefix(USER_TABLES)
    side = agent if name == table else user
    if domain == "telecom" and name != table:
        return {"": cast("Row", side.get(name, {}))}
    if name != table and not side:
        return {}  # a release without tools for the user
    if not isinstance(rows := side.get(name), list | dict):
        raise DataCorrupt(f"tau2-bench's data of {domain} have no table `{name}`; get them with `simkit data tau2`")
    if isinstance(rows, list):
        return {row[_LISTS[name]]: row for row in cast("list[Row]", rows)}
    return cast("dict[str, Row]", rows)
