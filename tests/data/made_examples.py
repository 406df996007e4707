from __future__ import annotations

from simkit.core.messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, ToolSpec, UserMessage
from simkit.data.examples import DpoExample, ExampleSet, KtoExample, SftExample
from simkit.data.origins import ExampleOrigin

FIND = ToolSpec.of(
    "find_hotel", "Finds a hotel.", {"area": {"type": "string"}, "stars": {"type": "integer"}}, ("area",)
)
BOOK = ToolSpec.of("book_hotel", "Books it.", {"name": {"type": "string"}})
CALL = AssistantMessage.of(None, (ToolCall.of("t01s00c00", "find_hotel", {"area": "north"}),))
BOOKING = AssistantMessage.of(None, (ToolCall.of("t02s00c00", "book_hotel", {"name": "Ashley House"}),))


def origin(number: int) -> ExampleOrigin:
    return ExampleOrigin(run_id="r1", task_id=f"train-{number}", trial=number % 2, world="builtin", split="train")


def prompt(number: int) -> tuple[SystemMessage, UserMessage]:
    return SystemMessage.of("You help people."), UserMessage.of(f"I need hotel number {number}.")


def demonstrations(count: int) -> ExampleSet:
    """Conversations with two different tools: what one call has, the other lacks."""
    return ExampleSet(
        "sft",
        tuple(
            SftExample(
                messages=(
                    *prompt(number),
                    CALL,
                    ToolMessage.of("t01s00c00", '{"name": "Ashley House"}'),
                    AssistantMessage.of("Shall I book Ashley House?"),
                    UserMessage.of("Yes."),
                    BOOKING,
                    ToolMessage.of("t02s00c00", "done"),
                    AssistantMessage.of("Booked."),
                ),
                tools=(FIND, BOOK),
                origin=origin(number),
            )
            for number in range(count)
        ),
    )


def judged(count: int) -> ExampleSet:
    """Calls that are desirable and words that are not."""
    answers = (CALL, AssistantMessage.of("No idea."))
    return ExampleSet(
        "kto",
        tuple(
            KtoExample(
                prompt=prompt(number),
                completion=(answers[number % 2],),
                label=number % 2 == 0,
                tools=(FIND, BOOK),
                origin=origin(number),
            )
            for number in range(count)
        ),
    )


def pairs(count: int) -> ExampleSet:
    return ExampleSet(
        "dpo",
        tuple(
            DpoExample(
                prompt=prompt(number),
                chosen=(CALL,),
                rejected=(AssistantMessage.of("No idea."),),
                tools=(FIND, BOOK),
                origin=origin(number),
            )
            for number in range(count)
        ),
    )
