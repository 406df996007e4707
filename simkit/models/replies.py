"""Old place of the reading of replies, for scripts that were written before `simkit.models.providers`."""

from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext as Reading

__all__ = ["Reading", "read_reply"]
