"""A small clone of tau2-bench, in its layout and with invented contents."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from small_telecom import AGENT_TABLES, DEVICE

from simkit.tools.tau2.call import Toolset
from simkit.tools.tau2.domains import PAPER
from simkit.tools.tau2.layout import LAYOUTS, DomainName
from support.tau2_clone import model_source, prompt_sources, tool_source

ADDRESS: Final = {
    "address1": "1 Kiln Row",
    "address2": "",
    "city": "Alder",
    "country": "USA",
    "state": "CO",
    "zip": "80001",
}
NAME: Final = {"first_name": "Ada", "last_name": "Reed"}


def _variant(id: str, price: float, **options: str) -> dict[str, Any]:
    return {"item_id": id, "options": options, "available": id != "i9", "price": price}


def _item(id: str, price: float) -> dict[str, Any]:
    return {"name": "Kettle", "product_id": "p1", "item_id": id, "price": price, "options": {"color": "red"}}


def _order(id: str, status: str) -> dict[str, Any]:
    return {
        "order_id": id,
        "user_id": "ada_1",
        "address": ADDRESS,
        "items": [_item("i1", 20.5), _item("i2", 30.0)],
        "status": status,
        "fulfillments": [],
        "payment_history": [{"transaction_type": "payment", "amount": 50.5, "payment_method_id": "gift_card_1"}],
    }


RETAIL: Final = {
    "products": {
        "p1": {
            "name": "Kettle",
            "product_id": "p1",
            "variants": {
                id: _variant(id, price, color=color)
                for id, price, color in (("i3", 21.25, "blue"), ("i4", 33.0, "green"), ("i9", 1.0, "grey"))
            },
        }
    },
    "users": {
        "ada_1": {
            "user_id": "ada_1",
            "name": NAME,
            "address": ADDRESS,
            "email": "ada@example.com",
            "payment_methods": {
                "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "balance": 100.0},
                "paypal_1": {"source": "paypal", "id": "paypal_1"},
            },
            "orders": ["#W1", "#W2"],
        }
    },
    "orders": {"#W1": _order("#W1", "pending"), "#W2": _order("#W2", "delivered")},
}


def _flight(number: str, origin: str, destination: str, departs: str, arrives: str) -> dict[str, Any]:
    seats, prices = {"basic_economy": 9, "economy": 2, "business": 1}, {"basic_economy": 50, "economy": 80}
    day = {"status": "available", "available_seats": seats, "prices": {**prices, "business": 200}}
    return {
        "origin": origin,
        "destination": destination,
        "flight_number": number,
        "scheduled_departure_time_est": departs,
        "scheduled_arrival_time_est": arrives,
        "dates": {"2024-05-08": day, "2024-05-09": day, "2024-05-20": day, "2024-05-21": {"status": "cancelled"}},
    }


AIRLINE: Final = {
    "flights": {
        "F1": _flight("F1", "SFO", "DEN", "08:00:00", "10:00:00"),
        "F2": _flight("F2", "DEN", "JFK", "11:00:00", "15:00:00"),
        "F3": _flight("F3", "SFO", "ORD", "20:00:00", "01:00:00+1"),
        "F4": _flight("F4", "ORD", "JFK", "09:00:00", "12:00:00"),
    },
    "users": {
        "bo_1": {
            "user_id": "bo_1",
            "name": NAME,
            "address": ADDRESS,
            "email": "bo@example.com",
            "dob": "1980-01-01",
            "payment_methods": {
                "credit_card_1": {"source": "credit_card", "id": "credit_card_1", "brand": "visa", "last_four": "1111"},
                "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "amount": 90.0},
                "certificate_1": {"source": "certificate", "id": "certificate_1", "amount": 500.0},
            },
            "saved_passengers": [],
            "membership": "regular",
            "reservations": ["R1"],
        }
    },
    "reservations": {
        "R1": {
            "reservation_id": "R1",
            "user_id": "bo_1",
            "origin": "SFO",
            "destination": "DEN",
            "flight_type": "one_way",
            "cabin": "economy",
            "flights": [
                {"origin": "SFO", "destination": "DEN", "flight_number": "F1", "date": "2024-05-20", "price": 80}
            ],
            "passengers": [{"first_name": "Bo", "last_name": "Lind", "dob": "1980-01-01"}],
            "payment_history": [{"payment_id": "gift_card_1", "amount": 80}],
            "created_at": "2024-05-01T00:00:00",
            "total_baggages": 0,
            "nonfree_baggages": 0,
            "insurance": "no",
        }
    },
}
MOCK: Final = {
    "tasks": {"task_1": {"task_id": "task_1", "title": "Sweep", "description": "The yard", "status": "pending"}},
    "users": {"user_1": {"user_id": "user_1", "name": "Ada", "tasks": ["task_1"]}},
}
MOCK_USER: Final = {"notifications": {"n1": {"notification_id": "n1", "message": "Sweep!", "task_id": "task_1"}}}


def _complete(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row with something in each required field."""
    layout = LAYOUTS["telecom"][table]
    names = [] if layout is None else [name for name in layout.fields.split() if name not in layout.defaults]
    return {**dict.fromkeys(names, "x"), **row}


TELECOM: Final = {table: [_complete(table, row) for row in rows.values()] for table, rows in AGENT_TABLES.items()}

SCENARIO: Final = {"persona": None, "instructions": "You are Ada Reed.\nYou want help."}
STRUCTURED: Final = {
    "persona": "Calm",
    "instructions": {
        "domain": "retail",
        "reason_for_call": "A kettle leaks.\nCancel it.",
        "known_info": "Order #W1",
        "unknown_info": None,
        "task_instructions": "Be brief.",
    },
}


def action(name: str, requestor: str = "assistant", compare: list[str] | None = None, **arguments: Any) -> Any:
    """A gold action."""
    found = {"action_id": "a", "name": name, "arguments": arguments, "requestor": requestor}
    return found if compare is None else {**found, "compare_args": compare}


def task(id: str, scenario: Any = SCENARIO, ticket: str | None = None, state: Any = None, **criteria: Any) -> Any:
    """A task of the release."""
    return {
        "id": id,
        "user_scenario": scenario,
        "ticket": ticket,
        "initial_state": state,
        "evaluation_criteria": criteria or None,
    }


CANCEL: Final = action("cancel_pending_order", order_id="#W1", reason="no longer needed")
LOOK: Final = action("get_order_details", order_id="#W1")
DB: Final = ["DB", "COMMUNICATE"]
CREATE: Final = {"id": "c1", "name": "create_task", "arguments": {"user_id": "user_1", "title": "Mop"}}
CREATED: Final = {"task_id": "task_2", "title": "Mop", "description": None, "status": "pending"}
HISTORY: Final[list[dict[str, Any]]] = [
    {"role": "user", "content": "I need a task."},
    {"role": "assistant", "content": None, "tool_calls": [CREATE]},
    {"role": "tool", "id": "c1", "content": json.dumps(CREATED)},
    {"role": "assistant", "content": "It is there."},
]
PENDING: Final = {
    "env_type": "assistant",
    "func_name": "assert_task_status",
    "arguments": {"task_id": "task_2", "expected_status": "pending"},
}
UNREAD: Final = {
    "env_type": "user",
    "func_name": "assert_notification_status",
    "arguments": {"notification_id": "n1", "expected_status": "read"},
    "assert_value": False,
}
TASKS: Final[dict[DomainName, list[Any]]] = {
    "retail": [
        task("0", STRUCTURED, actions=[LOOK, CANCEL], communicate_info=["1000"], reward_basis=DB),
        task("1", actions=[], reward_basis=DB),
        task("2", nl_assertions=["The agent was kind."], reward_basis=["DB", "NL_ASSERTION"]),
        task("3"),
    ],
    "airline": [task("0", actions=[action("cancel_reservation", reservation_id="R1")], communicate_info=[])],
    "mock": [
        task("plain", ticket="Make a task.", actions=[action("create_task", user_id="user_1", title="Mop")]),
        task("history", state={"message_history": HISTORY}, env_assertions=[PENDING, UNREAD], reward_basis=["DB"]),
        task(
            "data",
            state={"initialization_data": {"agent_data": {"tasks": {"task_1": {"status": "completed"}}}}},
            actions=[],
        ),
        task(
            "both",
            ticket="Dismiss it.",
            state={
                "initialization_actions": [
                    {
                        "env_type": "user",
                        "func_name": "add_notification",
                        "arguments": {"notification_id": "n2", "message": "Rest!"},
                    }
                ]
            },
            actions=[
                action("dismiss_notification", "user", notification_id="n1"),
                action("update_task_status", compare=["task_id"], task_id="task_1", status="completed"),
            ],
            env_assertions=[PENDING],
            reward_basis=["DB", "ACTION"],
        ),
    ],
    "telecom": [
        task(
            "t1",
            ticket="No signal.",
            state={
                "initialization_actions": [{"env_type": "user", "func_name": "turn_airplane_mode_on", "arguments": {}}]
            },
            actions=[action("toggle_airplane_mode", "user")],
            env_assertions=[],
            reward_basis=["ENV_ASSERTION"],
        )
    ],
}
_LISTS: Final = {"flights": "object", "passengers": "object", "payment_methods": "object"}
_LISTS_OF_TEXT: Final = ("item_ids", "new_item_ids")
_NUMBERS: Final = ("total_baggages", "nonfree_baggages", "amount", "limit")


def schemas_of(toolset: Toolset) -> list[dict[str, Any]]:
    """Schemas of the tools of one side, without descriptions of parameters."""
    return [_schema(name, tool.parameters, tool.required) for name, tool in toolset.tools.items()]


def _schema(name: str, parameters: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    properties = {
        each: {**({} if each in required else {"default": None}), "title": _title(each), **_kind(each)}
        for each in parameters
    }
    due = {"required": list(required)} if required else {}
    schema = {"properties": properties, **due, "title": "parameters", "type": "object"}
    return {"type": "function", "function": {"name": name, "description": _title(name), "parameters": schema}}


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _kind(name: str) -> dict[str, Any]:
    if name in _LISTS:
        return {"items": {"additionalProperties": True, "type": "object"}, "type": "array"}
    if name in _LISTS_OF_TEXT:
        return {"items": {"type": "string"}, "type": "array"}
    return {"type": "integer" if name in _NUMBERS else "string"}


def files() -> dict[str, bytes]:
    """The files of the clone, by path."""
    found: dict[str, Any] = {
        "domains/retail/db.json": RETAIL,
        "domains/airline/db.json": AIRLINE,
        "domains/mock/db.json": MOCK,
        "domains/mock/user_db.json": MOCK_USER,
        "domains/retail/split_tasks.json": {"train": ["1"], "test": ["0", "2", "3"], "base": ["0", "1", "2", "3"]},
        "domains/airline/split_tasks.json": {"train": [], "test": ["0"], "base": ["0"]},
        "domains/telecom/split_tasks.json": {name: ["t1"] for name in ("train", "small", "full", "test", "base")},
    }
    texts = {path: json.dumps(content).encode() for path, content in found.items()}
    texts["domains/telecom/db.toml"] = _toml(TELECOM).encode()
    texts["domains/telecom/user_db.toml"] = _toml_table("device", DEVICE).encode()
    for name in ("main_policy", "main_policy_solo", "tech_support_manual", "tech_support_workflow"):
        texts[f"domains/telecom/{name}.md"] = f"# {name}\n".encode()
    texts["domains/telecom/tech_support_workflow_solo.md"] = b"# workflow alone\n"
    for domain, environment in PAPER.items():
        texts[f"domains/{domain}/tasks.json"] = json.dumps(TASKS[domain]).encode()
        if domain != "telecom":
            texts[f"domains/{domain}/policy.md"] = f"# The rules of {domain}\n".encode()
        sides = {"tools": environment.agent, "user_tools": environment.user}
        specs = {name: schemas_of(toolset) for name, toolset in sides.items() if toolset is not None}
        texts |= {f"domains/{domain}/{name}.py": tool_source(found) for name, found in specs.items()}
        texts[f"domains/{domain}/data_model.py"] = model_source([])
    texts["domains/mock/policy_solo.md"] = b"# The rules of mock, alone\n"
    texts["user_simulator/simulation_guidelines.md"] = b"Be a user.\n<PERSONA_GUIDELINES>"
    texts["user_simulator/simulation_guidelines_tools.md"] = b"Be a user with tools.\n<PERSONA_GUIDELINES>"
    return {**texts, **prompt_sources()}


def _toml(tables: dict[str, list[Any]]) -> str:
    lines: list[str] = []
    for table, rows in tables.items():
        for row in rows:
            lines.append(f"[[{table}]]")
            lines += [f"{key} = {_toml_value(value)}" for key, value in row.items() if value is not None]
    return "".join(f"{line}\n" for line in lines)


def _toml_table(name: str, row: dict[str, Any]) -> str:
    """A table as one inline value."""
    return f"{name} = {_toml_value(row)}\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value).items()
        return "{" + ", ".join(f"{key} = {_toml_value(part)}" for key, part in parts if part is not None) + "}"
    return json.dumps(value)
