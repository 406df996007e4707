"""Tools of tau2-bench as models see them, read from source text: types, defaults and docstrings."""

from __future__ import annotations

from typing import Any

import pytest

from simkit.errors import DataCorrupt
from simkit.tools.tau2.docstrings import read_docstring
from simkit.tools.tau2.signatures import read_function, read_tools
from support.tau2_clone import model_source, tool_source


def test_a_docstring_gives_the_description_and_those_of_parameters() -> None:
    found = read_docstring(
        """Move an item.
        It must exist.

            Even so.

        Args:
            item_id: Id: the item's own,
                     such as '1'.
            where (str): Place.

        Returns:
            A text.

        Raises:
            ValueError: never.
        """
    )
    assert found.description == "Move an item.\n\nIt must exist.\n\n    Even so."
    assert found.parameters == {"item_id": "Id: the item's own,\nsuch as '1'.", "where": "Place."}
    assert read_docstring("One line.").description == "One line."


PARAMETERS: dict[str, Any] = {
    "$defs": {
        "Mode": {"enum": ["a", "b"], "title": "Mode", "type": "string"},
        "Stop": {
            "additionalProperties": False,
            "description": "A stop.",
            "properties": {
                "mode": {"$ref": "#/$defs/Mode", "default": "a", "description": "How."},
                "port": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "title": "Port"},
                "name": {"title": "Name", "type": "string"},
            },
            "required": ["name"],
            "title": "Stop",
            "type": "object",
        },
    },
    "properties": {
        "stops": {
            "description": "All stops.",
            "items": {"anyOf": [{"$ref": "#/$defs/Stop"}, {"additionalProperties": True, "type": "object"}]},
            "title": "Stops",
            "type": "array",
        },
        "kind": {"enum": ["x", "y"], "title": "Kind", "type": "string"},
        "limit": {"default": 12, "title": "Limit", "type": "integer"},
    },
    "required": ["stops", "kind"],
    "title": "parameters",
    "type": "object",
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "plan_stops", "description": "Plan.\n\nAll of them.", "parameters": PARAMETERS},
}


def test_schemas_are_made_from_types_and_docstrings() -> None:
    assert read_tools(tool_source([TOOL]), "tools.py", [(model_source([TOOL]), "models.py")]) == [TOOL]


def test_types_can_be_written_in_several_ways() -> None:
    models = (
        b"class Mode(str, Enum):\n    A = 'a'\nKind = Literal['x']\nclass Plan(BaseModel):\n    mode: Mode = Mode.A\n"
    )
    source = (
        b"class T:\n    @is_tool(ToolType.READ)\n    def f(self, a: Optional[Kind], b: Union[int, None], c: Plan, "
        b"d: List[float], e: bool = True):\n        'F.'\n    def not_a_tool(self): ...\n"
    )
    (tool,) = read_tools(source, "tools.py", [(models, "models.py")])
    schema = tool["function"]["parameters"]
    assert schema["properties"] == {
        "a": {"anyOf": [{"enum": ["x"], "type": "string"}, {"type": "null"}], "title": "A"},
        "b": {"anyOf": [{"type": "integer"}, {"type": "null"}], "title": "B"},
        "c": {"$ref": "#/$defs/Plan"},
        "d": {"items": {"type": "number"}, "title": "D", "type": "array"},
        "e": {"default": True, "title": "E", "type": "boolean"},
    }
    assert schema["$defs"]["Plan"]["properties"] == {"mode": {"$ref": "#/$defs/Mode", "default": "a"}}


@pytest.mark.parametrize("parameters", ["a", "a: Unheard", "a: Callable[[], int]", "a: int = 1 + 1", "a: int = M.b"])
def test_a_tool_that_cannot_be_read_is_named(parameters: str) -> None:
    text = f"class T:\n    @is_tool(ToolType.READ)\n    def f(self, {parameters}):\n        'F.'\n"
    with pytest.raises(DataCorrupt, match=r"the tool f in tools\.py cannot be read"):
        read_tools(text.encode(), "tools.py")


def test_a_function_inside_others_is_a_tool_without_parameters() -> None:
    text = b"class A:\n    def b(self):\n        def done():\n            'End.'\n"
    assert read_function(text, "agent.py", "done")["function"]["description"] == "End."
    with pytest.raises(DataCorrupt, match="has no function stop"):
        read_function(text, "agent.py", "stop")
