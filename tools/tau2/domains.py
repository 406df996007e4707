"""The tools of each domain of tau2-bench."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from simkit.tools.tau2 import airline, coupling, fixed, mock, phone, phone_setup, retail, telecom, telecom_setup
from simkit.tools.tau2.call import Environment
from simkit.tools.tau2.layout import DomainName, Tables
from simkit.tools.tau2.mock import SHARED

PAPER: Final[Mapping[DomainName, Environment]] = {
    "retail": Environment(retail.TOOLS),
    "airline": Environment(airline.TOOLS),
    "mock": Environment(
        mock.TOOLS,
        mock.USER_TOOLS,
        functions={"agent": mock.ASSERTIONS, "user": {**mock.USER_ASSERTIONS, **mock.USER_ACTIONS}},
    ),
    "telecom": Environment(
        telecom.TOOLS,
        phone.USER_TOOLS,
        coupling.sync,
        functions={
            "agent": {**telecom_setup.ACTIONS, **telecom_setup.ASSERTIONS},
            "user": {**phone_setup.ACTIONS, **phone_setup.ASSERTIONS},
        },
    ),
}
"""The release's tools."""

FIXED: Final[Mapping[DomainName, Environment]] = {
    **PAPER,
    "retail": Environment(fixed.RETAIL),
    "airline": Environment(fixed.AIRLINE),
    "telecom": replace(
        PAPER["telecom"],
        functions={**PAPER["telecom"].functions, "user": {**phone_setup.FIXED_ACTIONS, **phone_setup.ASSERTIONS}},
    ),
}
"""The release's tools with its defects repaired; they are to be `checked`."""

HIDDEN: Final[Mapping[DomainName, Tables]] = {"mock": {SHARED[0]: {}}, "telecom": coupling.hidden_tables()}
"""Tables that belong to the state and to neither side, as each task finds them."""
