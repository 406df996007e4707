"""What a customer of telecom can look up and change on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from small_telecom import DEVICE, SURROUNDINGS, Line, telecom_rows

from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau2 import phone, phone_setup
from simkit.tools.tau2.phone_network import measured_speed, search_network, sends_mms

SIGNALS = SURROUNDINGS["signal_strength"]


def searched(device: Row, surroundings: Row | None = None) -> tuple[str, str, str]:
    """Status, network and signal that a phone finds."""
    draft = Draft(telecom_rows(device, surroundings))
    search_network(draft)
    found = draft.get("user.device", "")
    return (
        found["network_connection_status"],
        found["network_technology_connected"],
        found["network_signal_strength"],
    )


NOTHING = ("no_service", "none", "none")


@pytest.mark.parametrize(
    ("device", "surroundings", "found"),
    [
        ({}, {}, ("connected", "5G", "excellent")),
        ({"network_mode_preference": "4g_only"}, {}, ("connected", "4G", "good")),
        ({"network_mode_preference": "3g_only"}, {}, ("connected", "3G", "fair")),
        ({"network_mode_preference": "2g_only"}, {}, ("connected", "2G", "poor")),
        ({"network_mode_preference": 7}, {}, ("connected", "4G", "good")),
        ({}, {"signal_strength": {**SIGNALS, "5G": "none"}}, ("connected", "4G", "good")),
        ({}, {"signal_strength": {"4G": "poor"}}, ("connected", "4G", "poor")),
        ({"network_mode_preference": "3g_only"}, {"signal_strength": {}}, ("connected", "3G", "none")),
        ({"sim_card_missing": True}, {}, NOTHING),
        ({"sim_card_status": "locked_puk"}, {}, NOTHING),
        ({"airplane_mode": True}, {}, NOTHING),
        ({"active_apn_settings": {"apn_name": "broken"}}, {}, NOTHING),
        ({}, {"line_active": False}, NOTHING),
    ],
)
def test_what_a_search_for_a_network_finds(device: Row, surroundings: Row, found: tuple[str, str, str]) -> None:
    assert searched(device, surroundings) == found


@pytest.mark.parametrize(
    ("device", "surroundings", "works"),
    [
        ({}, {}, True),
        ({"airplane_mode": True}, {}, False),
        ({"network_signal_strength": "none"}, {}, False),
        ({"network_connection_status": "no_service"}, {}, False),
        ({"data_enabled": False}, {}, False),
        ({}, {"mobile_data_usage_exceeded": True}, False),
        ({}, {"is_abroad": True}, False),
        ({"roaming_enabled": True}, {"is_abroad": True}, False),
        ({}, {"is_abroad": True, "roaming_allowed": True}, False),
        ({"roaming_enabled": True}, {"is_abroad": True, "roaming_allowed": True}, True),
    ],
)
def test_when_mobile_data_work(device: Row, surroundings: Row, works: bool) -> None:
    draft = Draft(telecom_rows(device, surroundings))
    assert phone_setup.ASSERTIONS["assert_mobile_data_status"](draft, works)
    assert (measured_speed(draft)[0] is not None) is works


SLOW_VPN = {"vpn_connected": True, "vpn_details": {"server_performance": "poor"}}


@pytest.mark.parametrize(
    ("device", "speed", "quality"),
    [
        ({}, 275.0, "Excellent"),
        ({"network_signal_strength": "good"}, 220.0, "Excellent"),
        ({"network_signal_strength": "poor"}, 55.0, "Good"),
        ({"network_technology_connected": "4G", "network_signal_strength": "fair"}, 27.5, "Good"),
        ({"network_technology_connected": "4G", "network_signal_strength": "poor"}, 11.0, "Fair"),
        ({"network_technology_connected": "3G"}, 3.0, "Poor"),
        ({"network_technology_connected": "2G"}, 0.25, "Very Poor"),
        ({"data_saver_mode": True}, 55.0, "Good"),
        (SLOW_VPN, 27.5, "Good"),
        ({**SLOW_VPN, "data_saver_mode": True}, 5.5, "Fair"),
        ({"vpn_connected": True, "vpn_details": {"server_performance": "excellent"}}, 275.0, "Excellent"),
        ({"network_technology_connected": "none"}, 0.0, "Very Poor"),
    ],
)
def test_speed_follows_network_signal_saving_and_vpn(device: Row, speed: float, quality: str) -> None:
    line = Line(telecom_rows(device))
    assert measured_speed(Draft(line.rows)) == (speed, quality)
    assert line.user("run_speed_test").text.startswith(
        f"Speed Test Result: {speed:.2f} Mbps ({quality}). Connection is"
    )


def test_a_speed_test_without_a_connection_fails() -> None:
    assert Line(telecom_rows({"data_enabled": False})).says("run_speed_test") == "Speed test failed: No Connection."


APPS = DEVICE["app_statuses"]


def _messaging(**permissions: bool) -> Row:
    return {"app_statuses": {"messaging": {"app_name": "messaging", "permissions": permissions}}}


@pytest.mark.parametrize(
    ("device", "sends"),
    [
        ({}, True),
        ({"data_enabled": False}, False),
        ({"network_technology_connected": "2G"}, False),
        ({"wifi_calling_enabled": True}, True),
        ({"wifi_calling_enabled": True, "wifi_calling_mms_over_wifi": True}, False),
        ({"active_apn_settings": {**DEVICE["active_apn_settings"], "mmsc_url": None}}, False),
        ({"app_statuses": {}}, False),
        (_messaging(sms=False, storage=True), False),
        (_messaging(sms=True, storage=False), False),
    ],
)
def test_when_pictures_can_be_sent(device: Row, sends: bool) -> None:
    line = Line(telecom_rows(device))
    assert sends_mms(Draft(line.rows)) is sends
    assert ("cannot" in line.says("can_send_mms")) is not sends


def test_the_status_bar() -> None:
    line = Line()
    assert line.bar() == "📶⁴ Excellent | 5G | 📱 Data Enabled | 🔋 64%"
    assert line.user("toggle_data_saver_mode").text == f"Data Saver Mode is now ON.\nStatus Bar: {line.bar()}"
    assert line.bar() == "📶⁴ Excellent | 5G | 📱 Data Enabled | 🔽 Data Saver | 🔋 64%"
    line.user("toggle_data")
    assert line.bar() == "📶⁴ Excellent | 5G | 📵 Data Disabled | 🔋 64%"
    line.user("connect_vpn")
    assert line.bar() == "📶⁴ Excellent | 5G | 📵 Data Disabled | 🔒 VPN Connected | 🔋 64%"
    line.user("toggle_airplane_mode")
    assert line.bar() == "✈️ Airplane Mode | 🔋 64%"  # which ends the VPN
    assert Line(telecom_rows({"sim_card_missing": True})).says("reseat_sim_card") == "SIM card re-seated successfully."
    no_signal = {"network_signal_strength": "none", "network_technology_connected": "none"}
    assert Line(telecom_rows(no_signal)).bar() == "📵 No Signal | 📵 Data Disabled | 🔋 64%"
    wifi: Row = {"wifi_enabled": True, "wifi_connected": True}
    assert "| 📡 Enabled |" in Line(telecom_rows(wifi)).bar()
    assert "| 📡 Connected to Home |" in Line(telecom_rows({**wifi, "wifi_ssid": "Home"})).bar()


def test_airplane_mode_ends_wifi_and_vpn_and_cannot_be_left_by_wifi() -> None:
    wifi: Row = {"wifi_enabled": True, "wifi_connected": True, "wifi_ssid": "Home", "wifi_signal_strength": "good"}
    line = Line(telecom_rows(wifi))
    assert line.says("check_wifi_status") == "Wi-Fi is ON and connected to 'Home'. Signal strength: good."
    assert "Connected Wi-Fi Network: Home" in line.user("check_network_status").text
    line.user("connect_vpn")
    assert line.says("toggle_airplane_mode") == "Airplane Mode is now ON."
    assert line.says("check_wifi_status") == "Wi-Fi is ON but not connected to any network."
    assert line.says("check_vpn_status") == "VPN is turned OFF."
    assert line.says("toggle_wifi") == "Cannot change Wi-Fi settings while Airplane Mode is ON."
    assert line.says("toggle_airplane_mode") == "Airplane Mode is now OFF."
    assert line.says("toggle_wifi") == "Wi-Fi is now OFF."
    assert line.says("check_wifi_status") == "Wi-Fi is turned OFF."
    assert line.row("user.device")["network_technology_connected"] == "5G"


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ({}, "Your SIM card is active and working."),
        ({"sim_card_missing": True, "sim_card_status": "locked_pin"}, "No SIM card detected in the phone."),
        ({"sim_card_status": "locked_pin"}, "The SIM card is locked with a PIN code."),
        ({"sim_card_status": "locked_puk"}, "The SIM card is locked with a PUK code."),
    ],
)
def test_the_state_of_the_sim_card(device: Row, said: str) -> None:
    assert Line(telecom_rows(device)).says("check_sim_status") == said


def test_a_preferred_network_that_does_not_exist_changes_nothing_unless_it_is_no_text() -> None:
    line = Line()
    known = "4g_5g_preferred, 4g_only, 3g_only, 2g_only"
    failed = f"Failed to set network mode: '%s' is not a valid option. Please use one of: {known}"
    assert line.says("set_network_mode_preference", mode="6g") == failed % "6g"
    assert line.says("check_network_mode_preference") == "Network Mode Preference: 4g_5g_preferred"
    assert line.says("set_network_mode_preference", mode="3g_only") == "Preferred Network Mode set to: 3g_only"
    assert line.says("set_network_mode_preference", mode=None) == failed % None
    assert line.row("user.device")["network_technology_connected"] == "4G"
    called = line.user("set_network_mode_preference", mode=["5G"])
    assert (called.text, called.error) == ("Error: 'list' object has no attribute 'value'", True)
    assert line.row("user.device")["network_mode_preference"] == ["5G"]


def test_settings_of_the_access_point_come_back_with_a_reboot() -> None:
    line = Line()
    assert line.says("set_apn_settings", apn_settings={"apn_name": "broken", "mms_port": "80"}).endswith("to: broken")
    assert line.row("user.device")["active_apn_settings"]["mms_port"] == 80
    assert line.bar() == "📵 No Signal | 📵 Data Disabled | 🔋 64%"
    assert line.says("reboot_device") == "Restarting network services..."
    assert line.says("reset_apn_settings") == "APN settings will reset at reboot."
    assert line.says("check_apn_settings") == "Current APN Name: broken"
    assert line.says("reboot_device") == "Resetting APN settings..."
    assert line.row("user.device") == DEVICE
    assert line.user("set_apn_settings", apn_settings={"speed": 1}).error
    line.user("set_apn_settings", apn_settings={"mmsc_url": None})
    assert "(for picture messages): Not Set" in line.user("check_apn_settings").text


@pytest.mark.parametrize(
    ("tool", "missing"),
    [("check_apn_settings", "model_copy"), ("reset_apn_settings", "reset_at_reboot"), ("toggle_data", "apn_name")],
)
def test_settings_that_are_no_object_are_kept_and_the_phone_fails_at_them(tool: str, missing: str) -> None:
    line = Line()
    assert line.user("set_apn_settings", apn_settings=5).text == "Error: 'int' object has no attribute 'apn_name'"
    assert line.user(tool).text == f"Error: 'int' object has no attribute '{missing}'"
    assert line.row("user.device")["data_enabled"] is (tool != "toggle_data")  # what came before the failure stays


def test_what_apps_may_do() -> None:
    line = Line()
    assert line.says("check_installed_apps").endswith(": messaging, chess")
    assert line.says("check_app_permissions", app_name="chess") == "App 'chess' currently has no permissions granted."
    assert "None granted" in line.user("check_app_status", app_name="chess").text
    assert line.says("grant_app_permission", app_name="chess", permission="SMS").startswith("Success. Permission 'sms'")
    assert line.says("check_app_permissions", app_name="chess") == "App 'chess' has permission for: sms."
    assert line.user("check_app_status", app_name="messaging").text.endswith("Granted:\n   - sms\n   - storage")
    unknown = line.says("grant_app_permission", app_name="chess", permission="camera")
    assert unknown.endswith("available permissions: ['sms', 'storage', 'network']")
    for tool in ("check_app_status", "check_app_permissions"):
        assert line.says(tool, app_name="maps") == "App 'maps' not found on this phone."
    assert line.says("grant_app_permission", app_name="maps", permission="sms").startswith("Error. App 'maps' not")
    assert line.user("check_app_status", app_name=[]).text == "Error: unhashable type: 'list'"


def test_a_vpn_that_was_broken_stays_slow_in_its_branch_only() -> None:
    start = telecom_rows()
    line = Line(start)
    assert line.says("check_vpn_status") == "VPN is turned OFF."
    assert line.says("disconnect_vpn") == "No active VPN connection to disconnect."
    draft = Draft(start)
    phone_setup.ACTIONS["break_vpn"](draft)
    broken = Line(draft.done()[0])
    assert broken.says("connect_vpn") == "VPN already connected."
    assert broken.says("disconnect_vpn") == "VPN disconnected successfully."
    assert broken.says("connect_vpn") == line.says("connect_vpn") == "VPN connected successfully."
    assert broken.row("user.device")["vpn_details"]["server_performance"] == "poor"
    shown = (
        "{'server_address': '192.168.1.1', 'protocol': 'OpenVPN', 'server_performance': <PerformanceLevel.%s: '%s'>}"
    )
    assert line.says("check_vpn_status").endswith(shown % ("EXCELLENT", "excellent"))
    assert broken.says("check_vpn_status").endswith(shown % ("POOR", "poor"))
    assert broken.rows.digest(side="agent") == start.digest(side="agent")


def test_repaired_a_vpn_is_fast_again_when_it_is_connected_again() -> None:
    draft = Draft(telecom_rows())
    phone_setup.FIXED_ACTIONS["break_vpn"](draft)
    line = Line(draft.done()[0])
    assert line.row("user.device")["vpn_details"]["server_performance"] == "poor"
    line.user("disconnect_vpn")
    line.user("connect_vpn")
    assert line.row("user.device")["vpn_details"] == phone.DEFAULT_VPN


@pytest.mark.parametrize(
    ("vpn", "said"),
    [
        ({"vpn_enabled_setting": True}, "VPN is turned ON in settings, but currently not connected."),
        ({"vpn_connected": True}, "VPN is ON and connected (no specific details available)."),
    ],
)
def test_other_states_of_the_vpn(vpn: Row, said: str) -> None:
    assert Line(telecom_rows(vpn)).says("check_vpn_status") == said


SWITCHED: list[tuple[str, str, object]] = [
    ("turn_airplane_mode_on", "airplane_mode", True),
    ("turn_airplane_mode_off", "airplane_mode", False),
    ("turn_data_on", "data_enabled", True),
    ("turn_data_off", "data_enabled", False),
    ("turn_roaming_on", "roaming_enabled", True),
    ("turn_roaming_off", "roaming_enabled", False),
    ("turn_data_saver_mode_on", "data_saver_mode", True),
    ("turn_data_saver_mode_off", "data_saver_mode", False),
]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("action", "switch", "state"), SWITCHED)
def test_tasks_set_switches_whatever_they_were(action: str, switch: str, state: object, before: bool) -> None:
    draft = Draft(telecom_rows({switch: before}))
    phone_setup.ACTIONS[action](draft)
    assert draft.get("user.device", "")[switch] is state


def test_what_else_tasks_do_to_a_phone() -> None:
    draft = Draft(telecom_rows())
    act = phone_setup.ACTIONS
    act["set_user_info"](draft, name="Bo", phone_number="112")
    act["set_user_location"](draft, abroad=True)
    act["set_wifi_calling"](draft, enabled=True, mms_over_wifi=True)
    act["set_wifi_calling"](draft, enabled=False)
    act["remove_app_permission"](draft, app_name="messaging", permission="SMS")
    act["remove_app_permission"](draft, app_name="maps", permission="sms")
    act["break_apn_mms_setting"](draft)
    where, device = draft.get("user.surroundings", ""), draft.get("user.device", "")
    assert (where["name"], where["phone_number"], where["is_abroad"]) == ("Bo", "112", True)
    assert (device["wifi_calling_enabled"], device["wifi_calling_mms_over_wifi"]) == (False, True)
    assert device["app_statuses"]["messaging"]["permissions"] == {"sms": False, "storage": True, "network": False}
    assert device["active_apn_settings"]["mmsc_url"] is None
    act["lock_sim_card"](draft, mode="pin")
    assert draft.get("user.device", "")["sim_card_status"] == "locked_pin"
    act["lock_sim_card"](draft, mode="puk")
    act["unseat_sim_card"](draft)
    act["break_apn_settings"](draft)
    device = draft.get("user.device", "")
    assert (device["sim_card_status"], device["sim_card_missing"]) == ("locked_puk", True)
    assert device["active_apn_settings"]["apn_name"] == "broken"


@pytest.mark.parametrize(
    ("check", "arguments", "device"),
    [
        ("assert_airplane_mode_status", {"expected_status": False}, {"airplane_mode": True}),
        ("assert_service_status", {"expected_status": "connected"}, {"network_connection_status": "no_service"}),
        ("assert_mobile_data_status", {"expected_status": True}, {"data_enabled": False}),
        ("assert_mobile_roaming_status", {"expected_status": False}, {"roaming_enabled": True}),
        ("assert_mobile_data_saver_mode_status", {"expected_status": False}, {"data_saver_mode": True}),
        ("assert_internet_speed", {"expected_speed": 200}, {"data_saver_mode": True}),
        ("assert_internet_speed", {"expected_speed": 200}, {"data_enabled": False}),
        ("assert_internet_speed", {"expected_speed": 9, "expected_desc": "excellent"}, {"data_saver_mode": True}),
        ("assert_can_send_mms", {"expected_status": True}, {"app_statuses": {}}),
    ],
)
def test_checks_of_a_phone_hold_and_fail(check: str, arguments: dict[str, Any], device: Row) -> None:
    assert phone_setup.ASSERTIONS[check](Draft(telecom_rows()), **arguments) is True
    assert phone_setup.ASSERTIONS[check](Draft(telecom_rows(device)), **arguments) is False


def test_further_checks_of_a_phone() -> None:
    holds = phone_setup.ASSERTIONS
    assert holds["assert_internet_not_excellent"](Draft(telecom_rows())) is False
    assert holds["assert_internet_not_excellent"](Draft(telecom_rows({"data_enabled": False}))) is True
    used_up = Draft(telecom_rows({}, {"mobile_data_usage_exceeded": True}))
    assert holds["assert_mobile_data_usage_exceeded"](used_up, expected_status=True) is True
    assert holds["assert_mobile_data_usage_exceeded"](used_up, expected_status=False) is False
    with pytest.raises(ValueError, match="'lost' is not a valid NetworkStatus"):
        holds["assert_service_status"](used_up, expected_status="lost")
