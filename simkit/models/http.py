"""Old place of `HttpReply`, for scripts that were written before `simkit.models.transport`."""

from simkit.models.transport.http1 import HttpReply

__all__ = ["HttpReply"]
