"""What callers pass beside identifiers: messages, session ids, audiences, reasons, keys, JSON values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from muxi_identity.errors import InvalidRequestError, TooLargeError
from muxi_identity.refusals import fault_of

MAX_MESSAGE = 100_000  # characters
MAX_MESSAGES = 10_000  # in one call
MAX_SESSION_ID = 255
MAX_NOTE = 1_000  # of an actor, a source or a reason
REASON = "reason"
MAX_QUERY = 10_000
MAX_IDEMPOTENCY_KEY = 255
MAX_KEY = 128
MAX_DEPTH = 16  # of a JSON value
ROLES = ("user", "assistant", "system", "tool")
MAX_TIMEOUT = 3600.0  # seconds that a turn may take
AUDIENCES = ("private", "shared")


def is_storable(text: str) -> bool:
    """Tell whether both databases keep ``text``: PostgreSQL has no NUL, and no UTF-8 has a lone surrogate."""
    if "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def check_idempotency_key(key: object) -> str:
    """Return what a caller gave as ``idempotency_key``.

    Raises:
        InvalidRequestError: It is no text, empty, too long or cannot be stored.
    """
    if not isinstance(key, str) or not 0 < len(key) <= MAX_IDEMPOTENCY_KEY or not is_storable(key):
        raise InvalidRequestError(
            f"idempotency_key must be a text of 1 to {MAX_IDEMPOTENCY_KEY} characters, without NUL or lone surrogates."
        )
    return key


def check_text(name: str, text: object, most: int, *, blank: bool = False) -> str:
    """Return ``text``, which the caller passed as ``name``, if it is a text of at most ``most`` characters.

    Raises:
        TooLargeError: It is longer.
        InvalidRequestError: It is no text, blank (unless ``blank``) or cannot be stored.
    """
    if not isinstance(text, str) or not (blank or text.strip()):
        raise InvalidRequestError(f"{name} must be a text{'' if blank else ' that is not blank'}.")
    if len(text) > most:
        raise TooLargeError(f"{name} has {len(text)} characters; at most {most} are taken.", limit=most)
    if not is_storable(text):
        raise InvalidRequestError(f"{name} must not contain NUL or lone surrogates.")
    return str.__str__(text)


def check_message(message: object) -> None:
    """Check what somebody says in a chat.

    Raises:
        TooLargeError: It is too long.
        InvalidRequestError: It is no text, blank or cannot be stored.
    """
    check_text("message", message, MAX_MESSAGE)


def check_session_id(session_id: object) -> None:
    """Check a session id that the caller chose; None is for whoever did not.

    Raises:
        InvalidRequestError: It cannot be one.
    """
    if session_id is None:
        return
    if not isinstance(session_id, str) or not 0 < len(session_id) <= MAX_SESSION_ID or not session_id.isprintable():
        raise InvalidRequestError(f"session_id must be a printable text of 1 to {MAX_SESSION_ID} characters.")


def check_named_session(session_id: object) -> None:
    """Check the id of a session that must be named.

    Raises:
        InvalidRequestError: It is none.
    """
    if session_id is None:
        raise InvalidRequestError("session_id is missing; pass the id of the session.")
    check_session_id(session_id)


def check_audience(audience: object) -> None:
    """Check who is said to read a conversation.

    Raises:
        InvalidRequestError: It is neither ``"private"`` nor ``"shared"``.
    """
    if audience not in AUDIENCES:
        raise InvalidRequestError('audience must be "private" (the person alone reads) or "shared" (others read too).')


def check_timeout(timeout: object) -> None:
    """Check how many seconds a caller gives a turn; None is for whoever gave none.

    Raises:
        InvalidRequestError: It is no number of seconds from just above 0 to an hour.
    """
    if timeout is None:
        return
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not math.isfinite(timeout) or not 0 < timeout <= MAX_TIMEOUT:  # type: ignore[arg-type, operator]
        raise InvalidRequestError(f"timeout must be a number of seconds above 0 and at most {MAX_TIMEOUT:.0f}.")


def check_note(name: str, text: object) -> None:
    """Check an actor, a source or a reason; None is for whoever gave none.

    They are read by an operator who wants to know who did something: none may look like another one, nor act on a
    terminal. A reason is prose, which has lines, and emoji of several characters.

    Raises:
        InvalidRequestError: It is no text, too long, cannot be stored or holds what cannot be seen.
    """
    if text is None:
        return
    if not isinstance(text, str) or len(text) > MAX_NOTE or not is_storable(text):
        raise InvalidRequestError(
            f"{name} must be a text of at most {MAX_NOTE} characters, without NUL or lone surrogates."
        )
    if text.isascii() and text.isprintable():
        return
    for position, character in enumerate(text):
        fault = fault_of(character)
        if fault is not None and not (name == REASON and _is_of_prose(character, fault[0])):
            raise InvalidRequestError(
                f"{name} holds U+{ord(character):04X} at position {position}, {fault[1]}; send it without."
            )


def _is_of_prose(character: str, fault: str) -> bool:
    return character in "\n\r\t" or fault in ("invisible_character", "private_use_character", "unassigned_character")


def check_count(name: str, number: object, most: int) -> int:
    """Return ``number`` if it is a whole number from 0 to ``most``.

    Raises:
        InvalidRequestError: It is not.
    """
    if type(number) is not int or not 0 <= number <= most:
        raise InvalidRequestError(f"{name} must be a whole number from 0 to {most}.")
    return number


def check_flag(name: str, value: object) -> bool:
    """Return ``value`` if it is true or false, and nothing that only looks so.

    Raises:
        InvalidRequestError: It is not.
    """
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be true or false.")
    return value


def read_messages(messages: object) -> list[tuple[str, str, int | None]]:
    """Return role, content and time (microseconds, None where none is given) of each of ``messages``, in order.

    Raises:
        TooLargeError: There are too many, or one is too long.
        InvalidRequestError: One has another shape, or its time lies before that of the one before.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise InvalidRequestError('messages must be a list of {"role": ..., "content": ...}.')
    if len(messages) > MAX_MESSAGES:
        raise TooLargeError(
            f"messages has {len(messages)} items; at most {MAX_MESSAGES} are taken.", limit=MAX_MESSAGES
        )
    found: list[tuple[str, str, int | None]] = []
    last: int | None = None
    for number, message in enumerate(messages):
        name = f"messages[{number}]"
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise InvalidRequestError(f'{name} must be {{"role": ..., "content": ...}}.')
        unknown = [key for key in message if key not in ("role", "content", "created_at")]
        if unknown:
            raise InvalidRequestError(f"{name} has keys that are not known; it may have role, content and created_at.")
        if message["role"] not in ROLES:
            raise InvalidRequestError(f"{name}: role must be one of {', '.join(ROLES)}.")
        content = check_text(f"{name}: content", message["content"], MAX_MESSAGE)
        at = None if message.get("created_at") is None else read_time(f"{name}: created_at", message["created_at"])
        if at is not None:
            if last is not None and at < last:
                raise InvalidRequestError(
                    f"{name}: created_at lies before that of an earlier one; pass the oldest first."
                )
            last = at
        found.append((message["role"], content, at))
    return found


def read_time(name: str, given: object) -> int:
    """Return a time that the caller passed as ``name``, a datetime or a text in ISO 8601, in microseconds since 1970.

    Raises:
        InvalidRequestError: It is none, or lies before 1970.
    """
    try:
        at = given if isinstance(given, datetime) else datetime.fromisoformat(given)  # type: ignore[arg-type]
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        microseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    except (TypeError, ValueError, OverflowError):
        microseconds = -1
    if microseconds < 0:
        raise InvalidRequestError(
            f'{name} must be a time since 1970 in ISO 8601, as "2026-01-31T09:30:00Z"; without a zone, UTC.'
        )
    return microseconds


def write_json(name: str, value: object, most: int) -> str:
    """Return ``value`` as JSON of at most ``most`` characters, from which the same value is read again.

    Raises:
        TooLargeError: It is longer, or nested too deeply.
        InvalidRequestError: JSON has no such value, or it cannot be stored.
    """
    _check_json(name, value, MAX_DEPTH, most, most)
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(written) > most:
        raise TooLargeError(f"{name} is {len(written)} characters of JSON; at most {most} are taken.", limit=most)
    return written


def _check_json(name: str, value: Any, depth: int, left: int, most: int) -> int:
    # Each value takes a character at least. Counted down, a list that holds one list a hundred times, and that one
    # another a hundred times, ends here and not after a hundred to the sixteenth.
    if left <= 0:
        raise TooLargeError(
            f"{name} holds more than {most} values; at most {most} characters of JSON are taken.", limit=most
        )
    left -= 1
    if depth == 0:
        raise TooLargeError(f"{name} is nested more than {MAX_DEPTH} deep.", limit=MAX_DEPTH)
    if value is None or type(value) is bool:
        return left
    if type(value) is int:
        if value.bit_length() > 4096:
            raise TooLargeError(f"{name} holds a number of more than 4096 bits.", limit=4096)
    elif type(value) is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidRequestError(f"{name} holds a number that JSON does not have; pass finite ones.")
    elif type(value) is str:
        if not is_storable(value):
            raise InvalidRequestError(f"{name} holds a text with NUL or lone surrogates.")
    elif type(value) is list:
        for each in value:
            left = _check_json(name, each, depth - 1, left, most)
    elif type(value) is dict:
        for key, each in value.items():
            if type(key) is not str or not is_storable(key):
                raise InvalidRequestError(f"{name} holds a key that is no text, or one with NUL or lone surrogates.")
            left = _check_json(name, each, depth - 1, left, most)
    else:
        raise InvalidRequestError(
            f"{name} holds a {type(value).__name__}; pass texts, numbers, true, false, None, lists and dicts."
        )
    return left
