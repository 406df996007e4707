"""A small clone of tau-bench, in its layout and with invented contents."""

from __future__ import annotations

import json
from typing import Any

from simkit.tools.tau.airline1 import TOOLS as AIRLINE
from simkit.tools.tau.retail1 import TOOLS as RETAIL
from support.tau_clone import prompt_files, tool_files

ADDRESS = {"address1": "1 Kiln Row", "address2": "", "city": "Alder", "country": "USA", "state": "CO", "zip": "80001"}
CARD = {"source": "credit_card", "id": "credit_card_1", "brand": "visa", "last_four": "1111"}
ITEM = {"name": "Kettle", "product_id": "p1", "item_id": "i1", "price": 20.5, "options": {"color": "red"}}
ORDER = {
    "order_id": "#W1",
    "user_id": "ada_1",
    "address": ADDRESS,
    "items": [ITEM],
    "fulfillments": [],
    "status": "pending",
    "payment_history": [{"transaction_type": "payment", "amount": 20.5, "payment_method_id": "credit_card_1"}],
}
USER = {
    "name": {"first_name": "Ada", "last_name": "Reed"},
    "address": ADDRESS,
    "email": "ada@example.com",
    "payment_methods": {"credit_card_1": CARD},
    "orders": ["#W1", "#W2"],
}
DATA: dict[str, Any] = {
    "retail/data/orders.json": {"#W1": ORDER, "#W2": {**ORDER, "order_id": "#W2"}},
    "retail/data/products.json": {"p1": {"name": "Kettle", "product_id": "p1", "variants": {}}},
    "retail/data/users.json": {"ada_1": USER},
    "airline/data/flights.json": {},
    "airline/data/reservations.json": {},
    "airline/data/users.json": {"bo_1": {"name": {"first_name": "Bo", "last_name": "Lind"}}},
}
CANCEL = 'Action(name="cancel_pending_order", kwargs={"order_id": "#W1", "reason": "no longer needed"})'
LOOK = 'Action(name="get_order_details", kwargs={"order_id": "#W1"})'
TRANSFER = 'Action(name="transfer_to_human_agents", kwargs={"summary": "angry"})'
TASKS: dict[str, tuple[str, list[str], list[list[str]]]] = {
    "retail/tasks_train.py": ("TASKS_TRAIN", [f"[{LOOK}, {CANCEL}]"], [[]]),
    "retail/tasks_dev.py": ("TASKS_DEV", [f"[{LOOK}, {LOOK.replace('#W1', '#W2')}, {LOOK}]", "[]"], [["20.5"], []]),
    "retail/tasks_test.py": (
        "TASKS_TEST",
        [f"[{LOOK}, {CANCEL}]", f"[{CANCEL}]", "[]", f"[{CANCEL}, {TRANSFER}]"],
        [[], ["1000", "Kettle"], [], []],
    ),
    "airline/tasks_test.py": ("TASKS", ["[]"], [[]]),
}


PROMPTS = {
    "user": "You are a customer.\n\nInstruction: {{instruction}}\n\nEnd with ###STOP###.\n",
    "user_react": "Think. {{instruction}} Then speak.",
    "user_verify": "Is it good?\n{{transcript}}\n---\n{{response}}\n",
    "user_reflection": "Do better.\n{{transcript}}\n---\n{{response}}\n",
    "cue": "What is it?",
    "react": '{{policy}}\n#Tools\n{{tools}}\nThought: .\nAction: {"name": respond, "arguments": {"content": "."}}\n',
    "act": '{{policy}}\n#Tools\n{{tools}}\nAction: {"name": ...}\n',
}


def _tasks(name: str, actions: list[str], outputs: list[list[str]]) -> str:
    tasks = [
        f'    Task(\n        annotator="0",\n        user_id="ada_1",\n        instruction="You are Ada Reed. "\n'
        f'        "This is wish {place}.",\n        actions={made},\n        outputs={json.dumps(due)},\n    ),\n'
        for place, (made, due) in enumerate(zip(actions, outputs, strict=True))
    ]
    return f"from tau_bench.types import Action, Task\n\n{name} = [\n{''.join(tasks)}]\n"


def schemas_of(domain: str) -> list[dict[str, Any]]:
    """Schemas without descriptions for the tools of a domain."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "",
                "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in tool.parameters}},
            },
        }
        for name, tool in (RETAIL if domain == "retail" else AIRLINE).tools.items()
    ]


def files() -> dict[str, bytes]:
    """The files of the clone, by path below `tau_bench/envs`."""
    found = {path: json.dumps(rows) for path, rows in DATA.items()}
    found.update((path, _tasks(*tasks)) for path, tasks in TASKS.items())
    for domain in ("retail", "airline"):
        found[f"{domain}/wiki.md"] = f"# The rules of {domain}\n"
        found.update(tool_files(domain, schemas_of(domain)))
    found.update(prompt_files(PROMPTS))
    return {path: text.encode() for path, text in found.items()}
