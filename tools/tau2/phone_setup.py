"""What tasks of tau2's telecom domain do to a customer's phone before they begin, and what they check at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

from simkit.tools.tau.rows import Draft
from simkit.tools.tau2.phone import VPN, connect_vpn, flip, flip_airplane_mode, flip_data, flip_roaming
from simkit.tools.tau2.phone_network import (
    DEVICE,
    SURROUNDINGS,
    measured_speed,
    mobile_data_works,
    search_network,
    sends_mms,
    set_apn_setting,
)

STATUSES = ("connected", "searching", "no_service", "emergency_only")


def set_user_info(db: Draft, name: str, phone_number: str) -> None:
    """Give the phone to a person and a line."""
    surroundings = db.edit(*SURROUNDINGS)
    surroundings["name"], surroundings["phone_number"] = name, phone_number


def set_user_location(db: Draft, abroad: bool) -> None:
    """Take the customer abroad, or home."""
    db.edit(*SURROUNDINGS)["is_abroad"] = abroad


def simulate_network_search(db: Draft) -> None:
    """Let the phone look for a network."""
    search_network(db)


def turn_airplane_mode_on(db: Draft) -> None:
    """Switch airplane mode until it is on."""
    _until(True, db, flip_airplane_mode)


def turn_airplane_mode_off(db: Draft) -> None:
    """Switch airplane mode until it is off."""
    _until(False, db, flip_airplane_mode)


def _until(state: bool, db: Draft, switch: Callable[[Draft], bool]) -> None:
    if switch(db) != state:
        switch(db)


def unseat_sim_card(db: Draft) -> None:
    """Take the SIM card out."""
    db.edit(*DEVICE)["sim_card_missing"] = True
    search_network(db)


def lock_sim_card(db: Draft, mode: Literal["pin", "puk"]) -> None:
    """Lock the SIM card, which no tool can undo."""
    if mode in ("pin", "puk"):
        db.edit(*DEVICE)["sim_card_status"] = f"locked_{mode}"
    search_network(db)


def turn_data_on(db: Draft) -> None:
    """Switch mobile data on; the phone does not look for a network."""
    db.edit(*DEVICE)["data_enabled"] = True


def turn_data_off(db: Draft) -> None:
    """Switch mobile data until they are off."""
    _until(False, db, flip_data)


def turn_roaming_on(db: Draft) -> None:
    """Switch data roaming until it is on."""
    _until(True, db, flip_roaming)


def turn_roaming_off(db: Draft) -> None:
    """Switch data roaming until it is off."""
    _until(False, db, flip_roaming)


def turn_data_saver_mode_on(db: Draft) -> None:
    """Save data."""
    db.edit(*DEVICE)["data_saver_mode"] = True


def turn_data_saver_mode_off(db: Draft) -> None:
    """Save no data."""
    db.edit(*DEVICE)["data_saver_mode"] = False


def break_apn_settings(db: Draft) -> None:
    """Give the access point a name that does not work."""
    set_apn_setting(db.edit(*DEVICE), "apn_name", "broken")
    search_network(db)


def break_apn_mms_setting(db: Draft) -> None:
    """Forget where picture messages are sent."""
    set_apn_setting(db.edit(*DEVICE), "mmsc_url", None)


def set_wifi_calling(db: Draft, enabled: bool, mms_over_wifi: bool | None = None) -> None:
    """Let calls, and if said also picture messages, go over Wi-Fi, or not."""
    device = db.edit(*DEVICE)
    if device["wifi_calling_enabled"] != enabled:
        flip(db, "wifi_calling_enabled")
    if mms_over_wifi is not None:
        device["wifi_calling_mms_over_wifi"] = mms_over_wifi


def break_vpn(db: Draft) -> None:
    """Connect to a slow VPN. The release spoils the phone's profile with it, so that every later connection is slow."""
    slow_vpn(db)
    db.edit(*VPN)["server_performance"] = "poor"


def slow_vpn(db: Draft) -> None:
    """Connect to a slow VPN; the next connection is fast again."""
    connect_vpn(db)
    db.edit(*DEVICE)["vpn_details"]["server_performance"] = "poor"


def remove_app_permission(db: Draft, app_name: str, permission: str) -> None:
    """Forbid an app something, if it is an app and a permission that the phone knows."""
    app = db.get(*DEVICE)["app_statuses"].get(app_name)
    if app is not None and permission.lower() in app["permissions"]:
        db.edit(*DEVICE)["app_statuses"][app_name]["permissions"][permission.lower()] = False


def assert_airplane_mode_status(db: Draft, expected_status: bool) -> bool:
    """Whether airplane mode is as expected."""
    return db.get(*DEVICE)["airplane_mode"] == expected_status


def assert_service_status(db: Draft, expected_status: str) -> bool:
    """Whether cellular service is as expected.

    Raises:
        ValueError: no service is called so.
    """
    if expected_status not in STATUSES:
        raise ValueError(f"{expected_status!r} is not a valid NetworkStatus")
    return db.get(*DEVICE)["network_connection_status"] == expected_status


def assert_mobile_data_status(db: Draft, expected_status: bool) -> bool:
    """Whether mobile data works or not, as expected."""
    return mobile_data_works(db) == expected_status


def assert_mobile_roaming_status(db: Draft, expected_status: bool) -> bool:
    """Whether the switch for data roaming is as expected."""
    return db.get(*DEVICE)["roaming_enabled"] == expected_status


def assert_mobile_data_saver_mode_status(db: Draft, expected_status: bool) -> bool:
    """Whether data are saved or not, as expected."""
    return db.get(*DEVICE)["data_saver_mode"] == expected_status


def assert_internet_speed(db: Draft, expected_speed: float, expected_desc: str | None = None) -> bool:
    """Whether mobile data reach a speed, in megabits per second, and, if given, are called as expected in any case."""
    speed, quality = measured_speed(db)
    named = expected_desc is None or quality.lower() == expected_desc.lower()
    return (speed or 0.0) >= expected_speed and named


def assert_internet_not_excellent(db: Draft) -> bool:
    """Whether mobile data are anything but excellent."""
    return measured_speed(db)[1] != "Excellent"


def assert_can_send_mms(db: Draft, expected_status: bool) -> bool:
    """Whether the phone can send pictures or not, as expected."""
    return sends_mms(db) == expected_status


def assert_mobile_data_usage_exceeded(db: Draft, expected_status: bool) -> bool:
    """Whether the line's data are used up or not, as expected."""
    return db.get(*SURROUNDINGS)["mobile_data_usage_exceeded"] == expected_status


ACTIONS: Final[Mapping[str, Callable[..., object]]] = {
    each.__name__: each
    for each in (
        set_user_info,
        set_user_location,
        simulate_network_search,
        turn_airplane_mode_on,
        turn_airplane_mode_off,
        unseat_sim_card,
        lock_sim_card,
        turn_data_on,
        turn_data_off,
        turn_roaming_on,
        turn_roaming_off,
        turn_data_saver_mode_on,
        turn_data_saver_mode_off,
        break_apn_settings,
        break_apn_mms_setting,
        set_wifi_calling,
        break_vpn,
        remove_app_permission,
    )
}
"""What a task may do to the phone before it begins, by name; it may also use the tools."""

FIXED_ACTIONS: Final[Mapping[str, Callable[..., object]]] = {**ACTIONS, "break_vpn": slow_vpn}
"""The same in the variant `fixed`: who connects again after `break_vpn` has a fast VPN."""

ASSERTIONS: Final[Mapping[str, Callable[..., bool]]] = {
    each.__name__: each
    for each in (
        assert_airplane_mode_status,
        assert_service_status,
        assert_mobile_data_status,
        assert_mobile_roaming_status,
        assert_mobile_data_saver_mode_status,
        assert_internet_speed,
        assert_internet_not_excellent,
        assert_can_send_mms,
        assert_mobile_data_usage_exceeded,
    )
}
"""What a task may check on the phone at the end, by name."""
