"""What a person types to link their own channels: ``/link``, ``/link CODE``, and then ``yes`` or ``no``.

These never reach a responder, and nothing that a responder says or does comes here: only what the person typed does.
A yes counts only where the last message of this very session is the question that it answers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sqlalchemy import select

from muxi_identity.config import FormationConfig
from muxi_identity.context.guard import hold_theirs
from muxi_identity.context.sessions.message import Message
from muxi_identity.context.sessions.rows import append_messages, begin_or_join, current_session, new_session_id
from muxi_identity.errors import IdentifierLimitError, InvalidRequestError, LinkCodeLimitError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.link_codes import (
    SECONDS,
    Found,
    LinkCodes,
    ask,
    find_code,
    find_pending,
    join,
    preview,
    revoke,
    set_pending,
)
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import Audience, ChatReply, IdentifierHint, LinkRedemption
from muxi_identity.storage.tables import messages, sessions, users

_LINK = re.compile(r"/link(?:@\w+)?(?:\s+(?P<code>.{1,64}))?", re.IGNORECASE | re.DOTALL)
_ANSWER = re.compile(r"(yes|no)[.!]?", re.IGNORECASE)
_KEPT = "[code]"
_MINUTES = SECONDS // 60
_IN_PRIVATE = "Linking is between you and me: please ask me in a direct message."
_NO_LONGER = " The code that you typed here is void now, since others can read it."
_INVALID = "That code is not valid, or not any more. Type /link in the other channel for a new one."
_STOPPED = "Nothing was joined."


class Told(NamedTuple):
    """The reply to a command, and the two messages as they are kept: without the code."""

    text: str
    kept_message: str
    kept_text: str


class Commands:
    """Answers what people type to link their channels."""

    def __init__(self, links: LinkCodes, config: FormationConfig) -> None:
        self._links = links
        self._config = config

    async def answer_command(
        self,
        message: str,
        reference: Reference,
        session_id: str | None,
        caller: Caller,
        audience: Audience = "private",
    ) -> ChatReply | None:
        """Answer ``message`` if it is a command that somebody typed, or the answer to a question of ours; else None.

        The message and the session id have been checked.

        Not to be called for what a scheduled task says: nobody typed that.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: Untyped, and several people have it.
            AudienceMismatchError: The session was begun for another audience.
            IdentityChangedError: The identifier went from one to another again and again.
        """
        typed = message.strip()
        idle = self._config.session.idle_timeout
        link, answer = _LINK.fullmatch(typed), _ANSWER.fullmatch(typed)
        if link is None and (answer is None or audience == "shared"):
            return None

        def work(tx: Transaction, hit: Hit) -> ChatReply | None:
            current = session_id or current_session(tx, hit, idle)
            pending = None
            try:
                if link is not None and audience == "shared":
                    told = _in_public(tx, hit, link["code"])
                elif link is not None and link["code"] is None:
                    told = _asked(tx, hit)
                elif link is not None:
                    told, pending = _typed(tx, hit, link["code"])
                elif answer is not None:
                    answered = _answered(tx, hit, current, answer[1].lower() == "yes")
                    if answered is None:
                        return None
                    told = answered
            except (LinkCodeLimitError, IdentifierLimitError, InvalidRequestError) as error:
                # Raised before anything was written.
                told = Told(str(error), f"/link {_KEPT}" if link is not None else typed, str(error))
            session = current or new_session_id()
            if audience != "shared":
                # After the roots, which the codes lock: in that order everybody else locks too.
                hold_theirs(tx, hit, alone=current is None)
                begun = begin_or_join(tx, hit, session, invented=current is None, audience=audience, idle_seconds=idle)
                session = begun.session_id
                kept = [Message("user", told.kept_message), Message("assistant", told.kept_text)]
                append_messages(tx, hit, begun, kept, self._config.session.max_messages)
                if pending is not None:
                    set_pending(tx, pending, _newest_message(tx, hit, session) or 0)
            return ChatReply(
                message={"role": "assistant", "content": told.text},
                user_id=_public_id(tx, hit),
                session_id=session,
                request_id=caller.request_id,
            )

        return await self._links.with_identifier(reference, work, caller)


def _asked(tx: Transaction, hit: Hit) -> Told:
    code = ask(tx, hit)["code"]

    def text(shown: str) -> str:
        return (
            f"Type this to me in your other channel within {_MINUTES} minutes:\n\n/link {shown}\n\nI will show you "
            "what it joins, and ask you for a yes. Give the code to nobody: whoever types it can become you."
        )

    return Told(text(code), "/link", text(_KEPT))


def _typed(tx: Transaction, hit: Hit, code: str) -> tuple[Told, Found | None]:
    found = find_code(tx, hit, code)
    kept = f"/link {_KEPT}"
    if found is None:
        return Told(_INVALID, kept, _INVALID), None
    text = _question(preview(tx, found))
    return Told(text, kept, text), found


def _in_public(tx: Transaction, hit: Hit, code: str | None) -> Told:
    found = None if code is None else find_code(tx, hit, code)
    if found is None:
        return Told(_IN_PRIVATE, "", "")
    revoke(tx, found)
    return Told(_IN_PRIVATE + _NO_LONGER, "", "")


def _answered(tx: Transaction, hit: Hit, session_id: str | None, yes: bool) -> Told | None:
    message_pk = None if hit.identifier_pk is None or session_id is None else _newest_message(tx, hit, session_id)
    found = None if message_pk is None else find_pending(tx, hit, message_pk)
    if found is None:
        return None
    if yes:
        text = _joined(join(tx, found))
        return Told(text, "yes", text)
    revoke(tx, found)
    return Told(_STOPPED, "no", _STOPPED)


def _question(shown: LinkRedemption) -> str:
    if shown["already_one"]:
        return "These two channels are one already. Shall I record that both are yours? Answer yes or no."
    return (
        f"This joins what I know you by here ({_list(shown['yours'])}) with {_list(shown['theirs'])}. Whoever writes "
        "to me as one of them is then you: all of them see what I remember of you. Say yes only if you asked for this "
        "code yourself. Shall I join them? Answer yes or no."
    )


def _joined(result: LinkRedemption) -> str:
    if result["already_one"]:
        return "Recorded: both channels are yours."
    return "Done: your channels are one now. What you told me in one, I know in the other."


def _list(hints: list[IdentifierHint]) -> str:
    return ", ".join(f"{each['type']} {each['hint']}" if each["type"] else each["hint"] for each in hints)


def _newest_message(tx: Transaction, hit: Hit, session_id: str) -> int | None:
    return tx.connection.execute(
        select(messages.c.pk)
        .join(sessions, (sessions.c.formation_id == messages.c.formation_id) & (sessions.c.pk == messages.c.session_pk))
        .where(
            sessions.c.formation_id == tx.formation_id,
            sessions.c.user_pk == hit.member_pk,
            sessions.c.identifier_pk == hit.identifier_pk,
            sessions.c.session_id == session_id,
        )
        .order_by(messages.c.created_at.desc(), messages.c.pk.desc())
        .limit(1)
    ).scalar()


def _public_id(tx: Transaction, hit: Hit) -> str:
    root = users.alias("root")
    public_id: str = tx.connection.execute(
        select(root.c.public_id)
        .join(users, (users.c.formation_id == root.c.formation_id) & (users.c.root_pk == root.c.pk))
        .where(tx.users_where(users.c.pk == hit.member_pk))
    ).scalar_one()
    return public_id
