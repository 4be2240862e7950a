"""Texts that callers pass beside identifiers: messages, session ids, reasons, keys."""

from __future__ import annotations

from muxi_identity.errors import InvalidRequestError

MAX_MESSAGE = 100_000  # characters
MAX_SESSION_ID = 255
MAX_NOTE = 1_000  # of an actor, a source or a reason


def is_storable(text: str) -> bool:
    """Tell whether both databases keep ``text``: PostgreSQL has no NUL, and no UTF-8 has a lone surrogate."""
    if "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def check_message(message: object) -> None:
    """Check what somebody says in a chat.

    Raises:
        InvalidRequestError: It is no text, blank, too long or cannot be stored.
    """
    if not isinstance(message, str) or not message.strip():
        raise InvalidRequestError("message must be a text that is not blank.")
    if len(message) > MAX_MESSAGE:
        raise InvalidRequestError(f"message has {len(message)} characters; at most {MAX_MESSAGE} are taken.")
    if not is_storable(message):
        raise InvalidRequestError("message must not contain NUL or lone surrogates.")


def check_session_id(session_id: object) -> None:
    """Check a session id that the caller chose; None is for whoever did not.

    Raises:
        InvalidRequestError: It cannot be one.
    """
    if session_id is None:
        return
    if not isinstance(session_id, str) or not 0 < len(session_id) <= MAX_SESSION_ID or not session_id.isprintable():
        raise InvalidRequestError(f"session_id must be a printable text of 1 to {MAX_SESSION_ID} characters.")


def check_note(name: str, text: object) -> None:
    """Check an actor, a source or a reason; None is for whoever gave none.

    Raises:
        InvalidRequestError: It is no text, too long or cannot be stored.
    """
    if text is not None and not (isinstance(text, str) and len(text) <= MAX_NOTE and is_storable(text)):
        raise InvalidRequestError(
            f"{name} must be a text of at most {MAX_NOTE} characters, without NUL or lone surrogates."
        )
