"""The sessions of the people of one formation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.sql import ColumnElement

from muxi_identity.arguments import (
    MAX_KEY,
    check_audience,
    check_named_session,
    read_messages,
    write_json,
)
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.redaction import find_secret_in, redact
from muxi_identity.context.sessions import reading
from muxi_identity.context.sessions.message import Message
from muxi_identity.context.sessions.rows import (
    begin_or_join,
    clear,
    find_session,
    merge_context,
    readable,
    replace_messages,
    session_is,
    write_context,
)
from muxi_identity.errors import InvalidRequestError, SecretRefusedError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import Audience, ClearResult, RestoreResult, SessionMessages, SessionPage, SessionRecord

MAX_CONTEXT = 16_384  # characters of JSON


class Sessions:
    """The sessions of the people of one formation.

    By an identifier, its own sessions. By a public id, what writes goes to the public id's own sessions, and what
    reads or clears over those of the whole person.
    """

    def __init__(self, access: Access, config: FormationConfig) -> None:
        self._access = access
        self._idle_seconds = config.session.idle_timeout
        self._most = config.session.max_messages

    async def list(self, reference: Reference, limit: int, cursor: str | None) -> SessionPage:
        """Return a page of sessions, the last active first.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        return await self._access.read(
            reference, lambda tx, hit: reading.list_sessions(tx, hit, self._idle_seconds, limit, cursor)
        )

    async def get(self, reference: Reference, session_id: str) -> SessionRecord:
        """Return one session.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
            SessionNotFoundError: It has no such session.
            InvalidRequestError: It is a public id, and several identifiers of the person have such a session.
        """
        check_named_session(session_id)
        return await self._access.read(
            reference, lambda tx, hit: reading.get_session(tx, hit, self._idle_seconds, session_id)
        )

    async def messages(
        self, reference: Reference, session_id: str, limit: int = 100, cursor: str | None = None
    ) -> SessionMessages:
        """Return a page of a session's messages: the newest page first, each of them oldest first.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
            SessionNotFoundError: It has no such session.
            InvalidRequestError: The limit is out of range, the cursor is none of ours, or ``reference`` is a public
                id, and several identifiers of the person have such a session.
        """
        check_named_session(session_id)
        return await self._access.read(
            reference, lambda tx, hit: reading.get_messages(tx, hit, session_id, limit, cursor)
        )

    async def restore(
        self, reference: Reference, session_id: str, messages: object, audience: Audience, caller: Caller
    ) -> RestoreResult:
        """Put ``messages`` in place of a session's buffer; the last ones, where it keeps no more.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AudienceMismatchError: The session was begun for another audience.
            TooLargeError: There are too many, or one is too long.
            InvalidRequestError: They have another shape.
        """
        check_named_session(session_id)
        check_audience(audience)
        given = read_messages(messages)
        kept = [(role, redact(content), at) for role, content, at in given[-self._most :]]

        def work(tx: Transaction, hit: Hit) -> None:
            session = begin_or_join(
                tx, hit, session_id, invented=False, audience=audience, idle_seconds=self._idle_seconds
            )
            replace_messages(tx, hit, session, _in_order(kept, session.at))

        await self._access.write(reference, work, caller)
        dropped = len(given) - len(kept)
        told = f"{len(kept)} message(s) restored"
        return {
            "session_id": session_id,
            "messages_loaded": len(kept),
            "messages_dropped": dropped,
            "message": f"{told}; {dropped} older one(s) dropped, since a session keeps {self._most}."
            if dropped
            else f"{told}.",
        }

    async def clear(self, reference: Reference, session_id: str, caller: Caller) -> ClearResult:
        """Delete the messages and the context of one session.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
            SessionNotFoundError: It has no such session.
            InvalidRequestError: It is a public id, and several identifiers of the person have such a session.
        """
        check_named_session(session_id)
        return await self._clear(reference, lambda tx, hit: session_is(tx, find_session(tx, hit, session_id)), caller)

    async def clear_all(self, reference: Reference, caller: Caller) -> ClearResult:
        """Delete the messages and the contexts of all sessions.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
        """
        return await self._clear(reference, readable, caller)

    async def _clear(self, reference: Reference, which: Any, caller: Caller) -> ClearResult:
        def work(tx: Transaction, hit: Hit) -> ClearResult:
            condition: ColumnElement[bool] = which(tx, hit)
            gone, held = clear(tx, condition)
            return {"messages_cleared": gone, "sessions_cleared": held}

        return await self._access.write(reference, work, caller, create=False)

    async def set_context(
        self,
        reference: Reference,
        session_id: str,
        values: Mapping[str, Any],
        audience: Audience | None,
        caller: Caller,
    ) -> dict[str, Any]:
        """Merge ``values`` into a session's context and return all of it; None deletes a key.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AudienceMismatchError: The session was begun for another audience than the one given.
            SecretRefusedError: A value looks like a key or a password: the context enters prompts.
            TooLargeError: The context would be too large.
            InvalidRequestError: The values are not what JSON has.
        """
        check_named_session(session_id)
        if audience is not None:
            check_audience(audience)
        given = _read_values(values)

        def work(tx: Transaction, hit: Hit) -> dict[str, Any]:
            session = begin_or_join(
                tx, hit, session_id, invented=False, audience=audience, idle_seconds=self._idle_seconds
            )
            context = merge_context(tx, session, given)
            write_context(tx, session, write_json("the session's context", context, MAX_CONTEXT))
            return context

        return await self._access.write(reference, work, caller)


def _in_order(given: list[tuple[str, str, int | None]], now: int) -> list[Message]:
    """Give each message a time: its own, else that of the one before. None lies after ``now``: what is said next
    would be sorted before it."""
    first = next((at for _, _, at in given if at is not None), now)
    found = []
    for role, content, at in given:
        first = first if at is None else at
        found.append(Message(role, content, min(first, now)))
    return found


def _read_values(values: object) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InvalidRequestError("values must be a mapping of keys to what JSON has.")
    for key in values:
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not key.isprintable():
            raise InvalidRequestError(f"a key of a session's context is a printable text of 1 to {MAX_KEY} characters.")
    given = dict(values)
    write_json("values", given, MAX_CONTEXT)
    what = find_secret_in(given)
    if what is not None:
        raise SecretRefusedError(
            f"The session's context looks as if it held {what}; nothing was kept. Keep it as a credential: "
            "set_credential(user_id, service, credential)."
        )
    return given
