"""The access point of a phone: what a customer of tau2's telecom domain can look up, set and reset."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau2.phone_network import (
    DEVICE,
    apn_setting,
    no_attribute,
    search_network,
    set_apn_setting,
    with_status_bar,
)


class APNNames(StrEnum):
    """Names of access points."""

    INTERNET = "internet"
    BROKEN = "broken"


class APNSettings(BaseModel):
    """Settings of an access point; names and defaults are those of the release."""

    model_config = ConfigDict(extra="forbid")

    apn_name: APNNames = APNNames.INTERNET
    reset_at_reboot: bool = False
    mms_apn: str | None = "mms"
    mmsc_url: str | None = "http://mms.carrier.com/mms/wapenc"
    mms_proxy: str | None = None
    mms_port: int | None = None

    def row(self) -> Row:
        """The settings as part of a row."""
        return self.model_dump(mode="json")


def check_apn_settings(db: Draft) -> object:
    """The access point, as far as customers are shown it."""
    device = db.get(*DEVICE)
    if not isinstance(device["active_apn_settings"], dict):
        raise no_attribute(device["active_apn_settings"], "model_copy")  # the release copies the settings first
    name, url = apn_setting(device, "apn_name"), apn_setting(device, "mmsc_url") or "Not Set"
    note = "(These are technical settings, usually best left unchanged.)"
    return f"Current APN Name: {name}\nMMSC URL (for picture messages): {url}\n{note}"


def set_apn_settings(db: Draft, apn_settings: Any) -> object:
    """Take over settings of an access point. What is no object is taken over, too, and the phone fails at it."""
    if isinstance(apn_settings, dict):
        apn_settings = APNSettings(**cast("Row", apn_settings)).row()
    device = db.edit(*DEVICE)
    device["active_apn_settings"] = apn_settings
    news = f"APN settings set to: {apn_setting(device, 'apn_name')}"
    search_network(db)
    return with_status_bar(db, news)


def reset_apn_settings(db: Draft) -> object:
    """Take back the settings of the access point at the next reboot."""
    set_apn_setting(db.edit(*DEVICE), "reset_at_reboot", True)
    search_network(db)
    return with_status_bar(db, "APN settings will reset at reboot.")


def reboot_device(db: Draft) -> object:
    """Restart the phone, which takes back settings of the access point if that was asked for."""
    lines: list[str] = []
    if apn_setting(db.get(*DEVICE), "reset_at_reboot"):
        lines.append("Resetting APN settings...")
        db.edit(*DEVICE)["active_apn_settings"] = APNSettings().row()
    search_network(db)
    return with_status_bar(db, "\n".join([*lines, "Restarting network services..."]))
