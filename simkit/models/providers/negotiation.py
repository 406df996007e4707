"""Negotiation with an endpoint about the form of requests: a refused request is sent again in other forms.

What helped is learned once for each model at an endpoint, recorded, and applied to all later requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from simkit.errors import BadRequest, ModelFault, RunStopped, ServerFailed
from simkit.models.adjustments import Adjustment, EndpointModel, LearnedAdjustments
from simkit.models.base import ChatRequest
from simkit.models.providers.dialect import RULE, Dialect
from simkit.models.providers.error_details import ErrorDetails
from simkit.models.providers.refusal import Refusal
from simkit.models.providers.reply_errors import ReplyContext, classify, read_body
from simkit.models.transport.http1 import HttpReply

REFUSALS = frozenset({400, 404, 405, 415, 422, 500, 501})
"""Statuses of replies that may refuse a form of request."""

MOST = 12
"""Maximum number of adjusted requests for one call."""

Post: TypeAlias = Callable[[bytes], Awaitable[HttpReply]]
"""Posts a body to the endpoint."""


@dataclass(slots=True, kw_only=True)
class Negotiation:
    """Finds the dialect of one model at one endpoint.

    Args:
        place: names of endpoint and model.
        known: the dialect before the first call.
        requested: adjustments that the user asked for; they are never changed.
        learned: adjustments that calls of the run have found; those that helped are added.
        reading: context for reading errors.
    """

    place: EndpointModel
    known: Dialect
    requested: tuple[Adjustment, ...]
    learned: LearnedAdjustments
    reading: ReplyContext
    accepted: bool = False
    """Whether a request has been accepted as it was; its options are no reason for a later refusal."""

    _seen: tuple[Adjustment, ...] = ()
    _dialect: Dialect | None = None

    @property
    def dialect(self) -> Dialect:
        """The dialect for the next request."""
        learned = self.learned.known.get(self.place, ())
        if self._dialect is None or learned is not self._seen:
            fixed = {(each.kind, each.name) for each in self.requested}
            free = [each for each in learned if (each.kind, each.name) not in fixed]
            self._seen, self._dialect = learned, self.known.adjusted(self.requested).adjusted(free)
        return self._dialect

    async def resend(
        self, request: ChatRequest, dialect: Dialect, reply: HttpReply, post: Post
    ) -> tuple[HttpReply, Dialect]:
        """Send a refused request in other forms. Returns the reply to the last one, and its dialect.

        Raises:
            OptionRefused: the endpoint refuses an option that the user gave.
            ModelFault: a request could not be sent.
        """
        found: list[tuple[Adjustment, str]] = []
        tried = set(dialect.adjustments)
        for _ in range(MOST):
            if self.dialect.adjustments != dialect.adjustments and not found:  # another call has learned something
                dialect = self.dialect
                reply = await post(dialect.body(self.place[1], request))
            if not self._is_refused(reply):
                break
            refusal = self._refusal(request, dialect, reply)
            proposal = self._proposal(refusal, tried) if refusal else None
            if refusal is None or proposal is None:
                break
            tried.add(proposal)
            other = dialect.adjusted((proposal,))
            body = other.body(self.place[1], request)
            if body == dialect.body(self.place[1], request):
                continue
            answer = await post(body)
            if proposal.kind != RULE and refusal.is_repeated(ErrorDetails.of(answer, self.reading.now())):
                continue
            found.append((proposal, self.reading.clean(refusal.details.message)))
            dialect, reply = other, answer
        if 200 <= reply.status < 300 and not self._is_refused(reply):
            for adjustment, reason in found:
                self.learned.add(self.place, adjustment, reason)
        return reply, dialect

    def _is_refused(self, reply: HttpReply) -> bool:
        """Whether a reply may be a refusal: by its status, or because its body is an error under status 200."""
        if reply.status != 200:
            return reply.status in REFUSALS
        try:
            read_body(reply, self.reading)
        except (ModelFault, RunStopped):
            return True
        return False

    def _refusal(self, request: ChatRequest, dialect: Dialect, reply: HttpReply) -> Refusal | None:
        """The refusal in a reply; None if it is an error of another kind."""
        details = ErrorDetails.of(reply, self.reading.now())
        error = classify(details, self.reading)
        if not isinstance(error, BadRequest | ServerFailed):
            return None
        return Refusal(
            details=details,
            request=request,
            dialect=dialect,
            settings=request.sent_settings(),
            messages=dialect.messages(request),
            tools=dialect.tools(request),
            error_text=str(error),
            final=isinstance(error, BadRequest) and not self.accepted,
        )

    def _proposal(self, refusal: Refusal, tried: set[Adjustment]) -> Adjustment | None:
        fixed = {(each.kind, each.name) for each in self.requested}
        for proposal in refusal.proposals():
            if proposal not in tried and (proposal.kind, proposal.name) not in fixed:
                return proposal
        return None
