"""The tools of a customer of tau2's telecom domain: what a person can look up and change on a phone.

The words of the results are the release's. Arguments may be of any JSON type, and Python's own exceptions are
results that users read, so a type is never checked where the release does not check it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau2 import phone_apn, phone_apps
from simkit.tools.tau2.call import Toolset
from simkit.tools.tau2.phone_network import (
    DEVICE,
    MODES,
    measured_speed,
    no_attribute,
    search_network,
    sim_status,
    status_bar,
    with_status_bar,
)

VPN: Final = ("defaults.vpn", "")
"""The row of the profile with which the phone connects to its VPN."""

DEFAULT_VPN: Final[Row] = {
    "server_address": "192.168.1.1",
    "protocol": "OpenVPN",
    "server_performance": "excellent",
}

Switch = Literal["data_enabled", "roaming_enabled", "data_saver_mode", "wifi_calling_enabled"]

_SIM: Final = {
    "active": "Your SIM card is active and working.",
    "missing": "No SIM card detected in the phone.",
    "locked_pin": "The SIM card is locked with a PIN code.",
    "locked_puk": "The SIM card is locked with a PUK code.",
}
_ADVICE: Final = {
    "Very Poor": "Connection is very slow. Basic web browsing might be difficult.",
    "Poor": "Connection is slow. Web browsing may be sluggish, streaming difficult.",
    "Fair": "Connection is okay for web browsing and some standard definition streaming.",
    "Good": "Connection is good for most activities, including HD streaming.",
    "Excellent": "Connection is very fast.",
}


def _on(state: object) -> str:
    return "ON" if state else "OFF"


def _yes(state: object) -> str:
    return "Yes" if state else "No"


def check_status_bar(db: Draft) -> object:
    """The icons at the top of the screen."""
    return f"Status Bar: {status_bar(db)}"


def check_network_status(db: Draft) -> object:
    """Cellular service, Wi-Fi and the switches that concern them."""
    device = db.get(*DEVICE)
    lines = [
        f"Airplane Mode: {_on(device['airplane_mode'])}",
        f"SIM Card Status: {sim_status(device)}",
        f"Cellular Connection: {device['network_connection_status']}",
        f"Cellular Signal: {device['network_signal_strength']}",
        f"Cellular Network Type: {device['network_technology_connected']}",
        f"Mobile Data Enabled: {_yes(device['data_enabled'])}",
        f"Data Roaming Enabled: {_yes(device['roaming_enabled'])}",
        f"Wi-Fi Radio: {_on(device['wifi_enabled'])}",
        f"Wi-Fi Connected: {_yes(device['wifi_connected'])}",
    ]
    if device["wifi_connected"]:
        lines.append(f"Connected Wi-Fi Network: {device['wifi_ssid']}")
    return "\n".join(lines)


def check_network_mode_preference(db: Draft) -> object:
    """The preferred network."""
    return f"Network Mode Preference: {_mode_name(db.get(*DEVICE)['network_mode_preference'])}"


def set_network_mode_preference(db: Draft, mode: Any) -> object:
    """Prefer a network. A value that is no text is taken over, whatever it is; then no such network is found."""
    known = not isinstance(mode, str) or mode in MODES
    if known:
        db.edit(*DEVICE)["network_mode_preference"] = mode
        search_network(db)
    if not known or mode is None:
        modes = ", ".join(MODES)
        news = f"Failed to set network mode: '{mode}' is not a valid option. Please use one of: {modes}"
        return with_status_bar(db, news)
    return with_status_bar(db, f"Preferred Network Mode set to: {_mode_name(mode)}")


def _mode_name(mode: object) -> str:
    if not isinstance(mode, str):
        raise no_attribute(mode, "value")
    return mode


def run_speed_test(db: Draft) -> object:
    """The speed of mobile data, and what it is good for."""
    speed, quality = measured_speed(db)
    if speed is None:
        return f"Speed test failed: {quality}."
    return f"Speed Test Result: {speed:.2f} Mbps ({quality}). {_ADVICE[quality]}"


def toggle_airplane_mode(db: Draft) -> object:
    """Switch the radios off or on."""
    return with_status_bar(db, f"Airplane Mode is now {_on(flip_airplane_mode(db))}.")


def flip_airplane_mode(db: Draft) -> bool:
    """Switch airplane mode, drop Wi-Fi and VPN as phones do, and look for a network; the new state."""
    device = db.edit(*DEVICE)
    flying = device["airplane_mode"] = not device["airplane_mode"]
    if flying or device["wifi_enabled"]:
        _drop_wifi(device)
    if flying:
        _drop_vpn(db)
    search_network(db)
    return flying


def _drop_wifi(device: Row) -> None:
    device["wifi_connected"], device["wifi_ssid"], device["wifi_signal_strength"] = False, None, "none"


def check_sim_status(db: Draft) -> object:
    """The state of the SIM card in words."""
    return _SIM[sim_status(db.get(*DEVICE))]


def reseat_sim_card(db: Draft) -> object:
    """Take the SIM card out and put it in again."""
    db.edit(*DEVICE)["sim_card_missing"] = False
    search_network(db)
    return with_status_bar(db, "SIM card re-seated successfully.")


def flip(db: Draft, switch: Switch) -> bool:
    """Turn a switch of the phone over; its new state."""
    device = db.edit(*DEVICE)
    device[switch] = not device[switch]
    return device[switch]


def flip_data(db: Draft) -> bool:
    """Turn the switch for mobile data over and look for a network; its new state."""
    state = flip(db, "data_enabled")
    search_network(db)
    return state


def flip_roaming(db: Draft) -> bool:
    """Turn the switch for data roaming over and look for a network; its new state."""
    state = flip(db, "roaming_enabled")
    search_network(db)
    return state


def toggle_data(db: Draft) -> object:
    """Switch mobile data off or on."""
    return with_status_bar(db, f"Mobile Data is now {_on(flip_data(db))}.")


def toggle_roaming(db: Draft) -> object:
    """Switch data roaming off or on."""
    return with_status_bar(db, f"Data Roaming is now {_on(flip_roaming(db))}.")


def check_data_restriction_status(db: Draft) -> object:
    """Whether the phone saves data."""
    saving = db.get(*DEVICE)["data_saver_mode"]
    return "Data Saver mode is ON (limits data usage)." if saving else "Data Saver mode is OFF."


def toggle_data_saver_mode(db: Draft) -> object:
    """Switch the saving of data off or on."""
    return with_status_bar(db, f"Data Saver Mode is now {_on(flip(db, 'data_saver_mode'))}.")


def check_wifi_status(db: Draft) -> object:
    """Whether the phone is in a Wi-Fi network."""
    device = db.get(*DEVICE)
    if not device["wifi_enabled"]:
        return "Wi-Fi is turned OFF."
    if not device["wifi_connected"]:
        return "Wi-Fi is ON but not connected to any network."
    return f"Wi-Fi is ON and connected to '{device['wifi_ssid']}'. Signal strength: {device['wifi_signal_strength']}."


def toggle_wifi(db: Draft) -> object:
    """Switch Wi-Fi off or on, which airplane mode forbids."""
    if db.get(*DEVICE)["airplane_mode"]:
        return with_status_bar(db, "Cannot change Wi-Fi settings while Airplane Mode is ON.")
    device = db.edit(*DEVICE)
    device["wifi_enabled"] = not device["wifi_enabled"]
    if not device["wifi_enabled"]:
        _drop_wifi(device)
    return with_status_bar(db, f"Wi-Fi is now {_on(device['wifi_enabled'])}.")


def check_wifi_calling_status(db: Draft) -> object:
    """Whether calls may go over Wi-Fi."""
    return f"Wi-Fi Calling is currently turned {_on(db.get(*DEVICE)['wifi_calling_enabled'])}."


def toggle_wifi_calling(db: Draft) -> object:
    """Let calls go over Wi-Fi, or not."""
    return with_status_bar(db, f"Wi-Fi Calling is now {_on(flip(db, 'wifi_calling_enabled'))}.")


def check_vpn_status(db: Draft) -> object:
    """Whether a VPN is used, and which."""
    device = db.get(*DEVICE)
    if not device["vpn_connected"]:
        enabled = device["vpn_enabled_setting"]
        return "VPN is turned ON in settings, but currently not connected." if enabled else "VPN is turned OFF."
    details = device["vpn_details"]
    if not details:
        return "VPN is ON and connected (no specific details available)."
    performance = details["server_performance"]
    shown = (
        f"'server_address': {details['server_address']!r}, 'protocol': {details['protocol']!r}, "
        f"'server_performance': <PerformanceLevel.{performance.upper()}: '{performance}'>"
    )
    return f"VPN is ON and connected. Details: {{{shown}}}"


def connect_vpn(db: Draft) -> object:
    """Connect to the VPN of the phone's profile."""
    if db.get(*DEVICE)["vpn_connected"]:
        return "VPN already connected."
    device = db.edit(*DEVICE)
    device["vpn_connected"], device["vpn_details"] = True, dict(db.get(*VPN))
    return with_status_bar(db, "VPN connected successfully.")


def disconnect_vpn(db: Draft) -> object:
    """Leave the VPN."""
    left = _drop_vpn(db)
    return with_status_bar(db, "VPN disconnected successfully." if left else "No active VPN connection to disconnect.")


def _drop_vpn(db: Draft) -> bool:
    if not db.get(*DEVICE)["vpn_connected"]:
        return False
    device = db.edit(*DEVICE)
    device["vpn_connected"], device["vpn_details"] = False, None
    return True


USER_TOOLS: Final = Toolset.of(
    "TelecomUserTools",
    read=(
        check_status_bar,
        check_network_status,
        check_network_mode_preference,
        run_speed_test,
        check_sim_status,
        check_data_restriction_status,
        phone_apn.check_apn_settings,
        check_wifi_status,
        check_wifi_calling_status,
        check_vpn_status,
        phone_apps.check_installed_apps,
        phone_apps.check_app_status,
        phone_apps.check_app_permissions,
        phone_apps.can_send_mms,
        phone_apps.check_payment_request,
    ),
    write=(
        set_network_mode_preference,
        toggle_airplane_mode,
        reseat_sim_card,
        toggle_data,
        toggle_roaming,
        toggle_data_saver_mode,
        phone_apn.set_apn_settings,
        phone_apn.reset_apn_settings,
        toggle_wifi,
        toggle_wifi_calling,
        connect_vpn,
        disconnect_vpn,
        phone_apps.grant_app_permission,
        phone_apn.reboot_device,
        phone_apps.make_payment,
    ),
)
