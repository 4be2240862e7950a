"""What a conversation brings."""

from __future__ import annotations

from typing import Any


class ChatReply(dict[str, Any]):
    """The answer to one message: ``{"message": {"role", "content"}, "user_id", "session_id", "request_id"}``.

    A dict, as it is on the wire, that prints as the text of the reply.
    """

    @property
    def text(self) -> str:
        """The reply's text."""
        content: str = self["message"]["content"]
        return content

    @property
    def user_id(self) -> str:
        """The public id of the person who was answered."""
        user_id: str = self["user_id"]
        return user_id

    @property
    def session_id(self) -> str:
        """The session that the turn belongs to."""
        session_id: str = self["session_id"]
        return session_id

    @property
    def request_id(self) -> str:
        """The id of the request: over HTTP its ``X-Request-ID``, under which the server's log has it."""
        request_id: str = self["request_id"]
        return request_id

    def __str__(self) -> str:
        return self.text
