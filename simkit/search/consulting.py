"""Questions to components: what goes wrong in a component is its fault, described with the place where it happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from simkit.actors.actor import ActorRef, Request, Stopwatch
from simkit.core.boundary import boundary, location_text
from simkit.core.ids import TurnKey
from simkit.errors import AgentFault, Fault, LimitHit, Where, WrongValue, outgrew_context

R = TypeVar("R")


def where(who: str, ref: ActorRef, key: TurnKey, doing: str = "") -> Callable[[], str]:
    """Describe the current action for fault messages; formatted only if a fault occurs."""
    return lambda: f"{who} `{ref.name}`, turn {key.turn} of {key.task_id} at {key.path or 'the root'}{doing}"


async def consult(
    ref: ActorRef,
    request: Request[R],
    check: Callable[[object], R],
    fault: type[Fault],
    place: Where,
    stopwatch: Stopwatch | None = None,
) -> R:
    """Ask a component, attribute whatever it raises, and check its reply (`simkit.components.checks` has the checks).

    Raises:
        Fault: the component raised an error, or its reply is invalid.
    """
    with boundary(fault, place):
        reply: object = await ref.ask(request, stopwatch)
        try:
            return check(reply)
        except WrongValue as wrong:
            raise fault(f"{location_text(place)}: {type(request).__name__} was answered with {wrong}") from None
    raise AssertionError("a boundary lets nothing pass silently")


async def consult_agent(agent: ActorRef, request: Request[R], check: Callable[[object], R], place: Where) -> R:
    """Ask the agent; a conversation that exceeds the context of its model is a limit, not a fault.

    Raises:
        LimitHit: the agent's own model call exceeded the context, and the agent raised that error or one caused by it.
        Fault: see `consult`.
    """
    try:
        return await consult(agent, request, check, AgentFault, place)
    except Fault as fault:
        if outgrew_context(fault):
            raise LimitHit(str(fault), "context_limit") from fault
        raise
