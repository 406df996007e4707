"""The tools of a customer of tau2's telecom domain for apps, picture messages and payments."""

from __future__ import annotations

from simkit.tools.tau.rows import Draft, Row
from simkit.tools.tau2.phone_network import DEVICE, SURROUNDINGS, sends_mms, with_status_bar


def check_installed_apps(db: Draft) -> object:
    """The names of the apps."""
    return f"The following apps are installed on the phone: {', '.join(db.get(*DEVICE)['app_statuses'])}"


def _granted(app: Row) -> list[str]:
    return [name.replace("_", " ").lower() for name, allowed in app["permissions"].items() if allowed]


def check_app_status(db: Draft, app_name: str) -> object:
    """What is known about an app: what it may do, one permission a line."""
    app = db.get(*DEVICE)["app_statuses"].get(app_name)
    if app is None:
        return f"App '{app_name}' not found on this phone."
    granted = _granted(app)
    if not granted:
        return f"Status for App: {app_name}\n - Permissions: None granted."
    return "\n".join([f"Status for App: {app_name}", " - Permissions Granted:", *(f"   - {name}" for name in granted)])


def check_app_permissions(db: Draft, app_name: str) -> object:
    """What an app may do, in a sentence."""
    app = db.get(*DEVICE)["app_statuses"].get(app_name)
    if app is None:
        return f"App '{app_name}' not found on this phone."
    granted = _granted(app)
    if not granted:
        return f"App '{app_name}' currently has no permissions granted."
    return f"App '{app_name}' has permission for: {', '.join(granted)}."


def grant_app_permission(db: Draft, app_name: str, permission: str) -> object:
    """Let an app do something, if it is an app and a permission that the phone knows."""
    app = db.get(*DEVICE)["app_statuses"].get(app_name)
    permission = permission.lower()
    if app is None:
        return with_status_bar(db, f"Error. App '{app_name}' not found. Cannot grant permission.")
    known = list(app["permissions"])
    if permission not in known:
        news = f"Permission '{permission}' not tracked for app '{app_name}', available permissions: {known}"
        return with_status_bar(db, f"Error. {news}")
    db.edit(*DEVICE)["app_statuses"][app_name]["permissions"][permission] = True
    return with_status_bar(db, f"Success. Permission '{permission}' granted to app '{app_name}'.")


def can_send_mms(db: Draft) -> object:
    """Whether the messaging app can send pictures, in a sentence."""
    return f"Your messaging app {'can' if sends_mms(db) else 'cannot'} send MMS messages."


def check_payment_request(db: Draft) -> object:
    """The bill that the agent has asked the customer to pay."""
    request = db.get(*SURROUNDINGS)["payment_request"]
    if request is None:
        return "No payment request has been made."
    return f"You have a payment request for bill {request['bill_id']} of {request['amount_due']} USD."


def make_payment(db: Draft) -> object:
    """Pay the bill that the agent has asked for."""
    if db.get(*SURROUNDINGS)["payment_request"] is None:
        return "You do not have a payment request."
    request = db.edit(*SURROUNDINGS)["payment_request"]
    request["paid"] = True
    return f"Payment of {request['amount_due']} USD has been made for bill {request['bill_id']}."
