"""What a simulated phone finds out about its network: service, mobile data, speed, picture messages, status bar.

The phone is the row `user.device`; where it is and what its line allows is the row `user.surroundings`. Both ids are
empty. A user may set the APN settings or the preferred network to any JSON value; the phone then fails as in the
release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from simkit.tools.tau.rows import Draft, Row

DEVICE: Final = ("user.device", "")
SURROUNDINGS: Final = ("user.surroundings", "")

PREFERRED: Final = "4g_5g_preferred"
MODES: Final[Mapping[str, str]] = {PREFERRED: "5G", "4g_only": "4G", "3g_only": "3G", "2g_only": "2G"}
"""The choices of a preferred network, and the network that each asks for."""

_SIGNALS: Final = {
    "poor": ("📶¹ Poor", 0.2),
    "fair": ("📶² Fair", 0.5),
    "good": ("📶³ Good", 0.8),
    "excellent": ("📶⁴ Excellent", 1.0),
}
_NO_SIGNAL: Final = ("📵 No Signal", 0.0)
_MEGABITS: Final = {"2G": (0.1, 0.4), "3G": (1.0, 5.0), "4G": (10.0, 100.0), "5G": (50.0, 500.0)}
_QUALITIES: Final = ((1, "Very Poor"), (5, "Poor"), (25, "Fair"), (100, "Good"))


class Service(NamedTuple):
    """What a search for a network has found."""

    status: str
    technology: str
    signal: str


_NO_SERVICE: Final = Service("no_service", "none", "none")


def no_attribute(value: object, name: str) -> AttributeError:
    """What Python says of a value that has no such attribute."""
    return AttributeError(f"'{type(value).__name__}' object has no attribute '{name}'")


def apn_setting(device: Row, name: str) -> Any:
    """A part of the APN settings.

    Raises:
        AttributeError: the settings are a text or another value without parts.
    """
    settings = device["active_apn_settings"]
    if not isinstance(settings, dict):
        raise no_attribute(settings, name)
    return cast("Row", settings)[name]


def set_apn_setting(device: Row, name: str, value: object) -> None:
    """Change a part of the APN settings; the row may be changed.

    Raises:
        AttributeError: the settings are a text or another value without parts.
    """
    apn_setting(device, name)
    device["active_apn_settings"][name] = value


def sim_status(device: Row) -> str:
    """The state of the SIM card."""
    return "missing" if device["sim_card_missing"] else device["sim_card_status"]


def search_network(db: Draft) -> None:
    """Look for a network as phones do after a change, and write down what was found.

    Raises:
        AttributeError: the APN settings are unusable; what was found before they were needed stays written.
    """
    device, surroundings = db.edit(*DEVICE), db.get(*SURROUNDINGS)
    _write_service(
        device, _NO_SERVICE if device["airplane_mode"] else _service(device, surroundings["signal_strength"])
    )
    if apn_setting(device, "apn_name") == "broken" or not surroundings["line_active"]:
        _write_service(device, _NO_SERVICE)


def _service(device: Row, signals: Mapping[str, str]) -> Service:
    if sim_status(device) != "active":
        return _NO_SERVICE
    preference = device["network_mode_preference"]
    technology = MODES.get(preference, "4G") if isinstance(preference, str) else "4G"
    if preference == PREFERRED and signals.get(technology, "none") == "none":
        technology = "4G"
    return Service("connected", technology, signals.get(technology, "none"))


def _write_service(device: Row, found: Service) -> None:
    device["network_connection_status"] = found.status
    device["network_technology_connected"] = found.technology
    device["network_signal_strength"] = found.signal


def mobile_data_works(db: Draft) -> bool:
    """Whether the phone can use mobile data where it is."""
    device, surroundings = db.get(*DEVICE), db.get(*SURROUNDINGS)
    served = device["network_signal_strength"] != "none" and device["network_connection_status"] != "no_service"
    roams = device["roaming_enabled"] and surroundings["roaming_allowed"]
    return bool(
        served
        and not device["airplane_mode"]
        and (roams or not surroundings["is_abroad"])
        and device["data_enabled"]
        and not surroundings["mobile_data_usage_exceeded"]
    )


def measured_speed(db: Draft) -> tuple[float | None, str]:
    """Speed of mobile data in megabits per second, None without a connection; and a word for it."""
    if not mobile_data_works(db):
        return None, "No Connection"
    device = db.get(*DEVICE)
    details = device["vpn_details"]
    slow = device["vpn_connected"] and details and details["server_performance"] == "poor"
    factor = 0.1 if slow else 1.0
    if device["data_saver_mode"]:
        factor *= 0.2
    low, high = _MEGABITS.get(device["network_technology_connected"], (0.0, 0.0))
    _, share = _SIGNALS.get(device["network_signal_strength"], _NO_SIGNAL)
    speed = round((low + high) / 2.0 * share * factor, 2)  # the order of the factors decides how it is rounded
    return speed, next((name for limit, name in _QUALITIES if speed < limit), "Excellent")


def sends_mms(db: Draft) -> bool:
    """Whether the messaging app can send pictures."""
    device = db.get(*DEVICE)
    if not mobile_data_works(db) or device["network_technology_connected"] == "2G":
        return False
    if device["wifi_calling_enabled"] and device["wifi_calling_mms_over_wifi"]:  # no carrier supports it
        return False
    if apn_setting(device, "mmsc_url") is None:
        return False
    app = device["app_statuses"].get("messaging")
    return app is not None and bool(app["permissions"]["storage"] and app["permissions"]["sms"])


def with_status_bar(db: Draft, news: str) -> str:
    """What a tool says, and the status bar below it."""
    return f"{news}\nStatus Bar: {status_bar(db)}"


def status_bar(db: Draft) -> str:
    """The icons at the top of the screen."""
    device = db.get(*DEVICE)
    icons = ["✈️ Airplane Mode"] if device["airplane_mode"] else _network_icons(device)
    if device["wifi_enabled"] and device["wifi_connected"]:
        icons.append(f"📡 Connected to {device['wifi_ssid']}" if device["wifi_ssid"] else "📡 Enabled")
    if device["vpn_connected"]:
        icons.append("🔒 VPN Connected")
    return " | ".join([*icons, f"🔋 {device['battery_level']}%"])


def _network_icons(device: Row) -> list[str]:
    technology = device["network_technology_connected"]
    name, _ = _SIGNALS.get(device["network_signal_strength"], _NO_SIGNAL)
    if technology == "none":
        return [name, "📵 Data Disabled"]
    if not device["data_enabled"]:
        return [name, technology, "📵 Data Disabled"]
    return [name, technology, "📱 Data Enabled", *(["🔽 Data Saver"] if device["data_saver_mode"] else [])]
