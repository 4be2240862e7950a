"""The synchronous client. Made by scripts/generate_sync.py from asynchronous.py: change that, then `make generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from muxi_identity.client.asynchronous import AsyncChannel
from muxi_identity.client.blocking import BlockingClient
from muxi_identity.client.operations import Given
from muxi_identity.identity.linking import OnConflict
from muxi_identity.models import (
    ChatReply,
    DeleteResult,
    IdentifierRecord,
    LinkResult,
    ResolvedUser,
    SessionMessages,
    UnlinkResult,
    UserPage,
    UserRecord,
)


class FormationClient(BlockingClient):
    """One formation, embedded in this process.

    ``config`` is the path of a ``formation.yaml``, a mapping of the same shape, a :class:`FormationConfig`, or
    nothing for the default formation on SQLite. ``actor`` is who the history will name as having done what is done
    through this client. The formation is opened by the first call.

    Everywhere an identifier is taken it may be ``"value"``, ``("value", "type")`` or ``{"identifier": "value",
    "type": ..., "scope": ...}``; where a user is named, a public id ``"usr_..."`` as well.

    Any call raises ConfigurationError where the formation cannot be opened as configured, StorageUnavailableError
    (retryable) where the database does not answer, InvalidIdentifierError for a value that can be nobody's
    identifier, and ClientClosedError after :meth:`close`.
    """

    def channel(self, type: str, *, scope: str | None = None) -> Channel:
        """Return a view of the formation that types every bare ``user_id``.

        ``scope`` tells apart equal ids of several issuers: the Slack workspace, the OAuth issuer.

        >>> slack = formation.channel("slack", scope="T012AB3CD")
        >>> reply = slack.chat("Hello!", user_id="U98765ABC")
        >>> known = formation.get_user_identifiers(reply.user_id, detailed=True)
        >>> known[0]["type"], known[0]["scope"]
        ('slack', 'T012AB3CD')
        """
        return Channel(self, type, scope)

    def resolve_user(self, identifier: Given, create_user: bool = False) -> ResolvedUser:
        """Return who an identifier means, and make a user for an unknown one only if ``create_user``.

        Race-free: however many calls meet an unknown identifier at once, one makes the user and all get it. A
        cached answer comes without another thread.

        Raises:
            UserNotFoundError: Nobody has it, and ``create_user`` is false; or it is a secret, which must be linked
                before it is used.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = formation.resolve_user("new@email.com", create_user=True)
        >>> made["created"], formation.resolve_user("New@Email.com")["created"]
        (True, False)
        """
        cached = self._async._cached(identifier)
        if cached is not None:
            return cached
        return self._run(self._async.resolve_user(identifier, create_user))

    def find_user(self, identifier: Given) -> ResolvedUser | None:
        """Return who an identifier means, None where nobody does. Writes nothing.

        Raises:
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> formation.find_user("nobody@email.com") is None
        True
        """
        cached = self._async._cached(identifier)
        if cached is not None:
            return cached
        return self._run(self._async.find_user(identifier))

    def create_user(
        self, user_id: str | None = None, *, source: str | None = None, reason: str | None = None
    ) -> UserRecord:
        """Make a user without identifiers, whom no automatic rule will merge away.

        ``user_id`` chooses the public id (``usr_`` and up to 64 letters, digits, ``_`` or ``-``).

        Raises:
            UserExistsError: The id is taken.

        >>> formation.create_user("usr_alice")["muxi_user_id"]
        'usr_alice'
        """
        return self._run(self._async.create_user(user_id, source=source, reason=reason))

    def get_user(self, user_id: Given) -> UserRecord:
        """Return the record of a person, by public id or any identifier.

        The id of a user that was merged away answers with its root, named in ``merged_into``.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = formation.create_user("usr_alice")
        >>> formation.get_user("usr_alice")["established"]
        True
        """
        return self._run(self._async.get_user(user_id))

    def list_users(self, *, limit: int = 50, cursor: str | None = None) -> UserPage:
        """Return a page of people, oldest first, ``limit`` (1 to 500) at a time.

        Pass ``next_cursor`` of one page as ``cursor`` for the next: people who come meanwhile neither shift nor
        repeat it.

        Raises:
            InvalidRequestError: The limit is out of range or the cursor is none of ours.

        >>> made = formation.create_user("usr_alice")
        >>> [user["muxi_user_id"] for user in formation.list_users()["users"]]
        ['usr_alice']
        """
        return self._run(self._async.list_users(limit=limit, cursor=cursor))

    def delete_user(
        self, user_id: Given, *, include_merged: bool = False, source: str | None = None, reason: str | None = None
    ) -> DeleteResult:
        """Delete a person: the user, its identifiers and everything that was recorded for them.

        Where other users were merged into it, all of them go, and ``include_merged=True`` must say so. The keys
        (secret identifiers) of a deleted person stay revoked.

        Raises:
            UserNotFoundError: Nobody has it.
            MergeConflictError: Others were merged into it and ``include_merged`` is false.

        >>> made = formation.create_user("usr_alice")
        >>> formation.delete_user("usr_alice")["muxi_user_id"]
        'usr_alice'
        """
        return self._run(self._async.delete_user(user_id, include_merged=include_merged, source=source, reason=reason))

    def associate_user_identifiers(
        self,
        identifiers: Sequence[Given],
        user_id: Given | None = None,
        *,
        on_conflict: OnConflict = "raise",
        verified: bool = False,
        source: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> LinkResult:
        """Link identifiers to one person, all or none, in one transaction.

        With ``user_id``, to that user. Without, to whoever has one of them already, or else to a new user.
        Linking again changes nothing, except that it may add a type, proof or an expiry.

        ``on_conflict`` says what to do where identifiers belong to different users: ``"raise"``; ``"absorb"``
        merges users that only first contact has made (somebody wrote in before anybody linked them) and raises for
        others; ``"merge"`` merges any. ``verified`` says that the caller has proof that the identifiers are this
        person's; ``source`` and ``reason`` go to the history. A call repeated with its ``idempotency_key`` within a
        day is answered from what it did the first time.

        Raises:
            IdentifierConflictError: Some belong to other users and ``on_conflict`` does not settle it;
                ``error.conflicts`` names all of them with their owners.
            IdentifierLimitError: The person would have more than the formation allows.
            UserNotFoundError: ``user_id`` names nobody.
            AmbiguousIdentifierError: One has no type and several people are known by it.
            InvalidRequestError: An argument has the wrong shape, or the idempotency key was used for another call.
            IdentityChangedError: Others kept changing the same people; call again.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> linked["created"], linked["new_identifiers"]
        (True, ['alice@email.com', 'U98765ABC'])
        """
        return self._run(
            self._async.associate_user_identifiers(
                identifiers,
                user_id,
                on_conflict=on_conflict,
                verified=verified,
                source=source,
                reason=reason,
                idempotency_key=idempotency_key,
            )
        )

    @overload
    def get_user_identifiers(self, user_id: Given, *, detailed: Literal[False] = False) -> list[str]: ...

    @overload
    def get_user_identifiers(self, user_id: Given, *, detailed: Literal[True]) -> list[IdentifierRecord]: ...

    @overload
    def get_user_identifiers(self, user_id: Given, *, detailed: bool) -> list[str] | list[IdentifierRecord]: ...

    def get_user_identifiers(self, user_id: Given, *, detailed: bool = False) -> list[str] | list[IdentifierRecord]:
        """Return a person's identifiers as they were spelt when they were linked, in linking order.

        Secrets are shown by a hint. ``detailed`` brings records with type, scope, proof, expiry and times.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> formation.get_user_identifiers(("U98765ABC", "slack"))
        ['alice@email.com', 'U98765ABC']
        """
        return self._run(self._async.get_user_identifiers(user_id, detailed=detailed))

    def unlink_user_identifier(
        self, identifier: Given, *, force: bool = False, source: str | None = None, reason: str | None = None
    ) -> UnlinkResult:
        """Unlink an identifier from whoever has it. What was recorded through it stays with the person.

        A secret that was unlinked is revoked for ever.

        Raises:
            IdentifierNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and stands for several identifiers: pass the type.
            LastIdentifierError: It is the person's last one; ``force=True`` unlinks it all the same.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> formation.unlink_user_identifier("alice@email.com")["identifier"]
        'alice@email.com'
        """
        return self._run(self._async.unlink_user_identifier(identifier, force=force, source=source, reason=reason))

    def chat(self, message: str, user_id: Given, *, session_id: str | None = None) -> ChatReply:
        """Answer one message of a person, known by any identifier, and remember the turn.

        An identifier that nobody has makes first contact: a new user. Without ``session_id`` the identifier goes on
        with its current session, or begins one after a day without a word. Sessions are never shared between
        identifiers; what the person said of themselves is.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The message is blank or over 100,000 characters, or ``session_id`` is no text.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was recorded.

        >>> told = formation.chat("My budget is $5,000", user_id="user_123")
        >>> print(formation.chat("What's my budget?", user_id="user_123"))
        Your budget is $5,000.
        """
        return self._run(self._async.chat(message, user_id, session_id=session_id))

    def get_session_messages(self, session_id: str, user_id: Given) -> SessionMessages:
        """Return the messages of one session of an identifier, oldest first.

        A session belongs to the identifier that it was held under: asked for under another one, also of the same
        person, it does not exist.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SessionNotFoundError: It has no such session.

        >>> reply = formation.chat("Hello!", user_id="user_123")
        >>> formation.get_session_messages(reply.session_id, "user_123")["count"]
        2
        """
        return self._run(self._async.get_session_messages(session_id, user_id))


class Channel:
    """A formation as one channel sees it: every bare ``user_id`` has the channel's type and scope.

    A public id (``usr_...``) and an identifier with a type of its own are taken as they are; in a channel of secrets
    (``api_key``) a public id is refused.
    """

    def __init__(self, client: FormationClient, type: str, scope: str | None = None) -> None:
        self._client = client
        self._async = AsyncChannel(client._async, type, scope)

    def resolve_user(self, user_id: Given, create_user: bool = False) -> ResolvedUser:
        """Return who ``user_id`` is in this channel; see :meth:`FormationClient.resolve_user`.

        >>> slack = formation.channel("slack")
        >>> slack.resolve_user("U98765ABC", create_user=True)["created"]
        True
        """
        return self._client._run(self._async.resolve_user(user_id, create_user))

    def find_user(self, user_id: Given) -> ResolvedUser | None:
        """Return who ``user_id`` is in this channel, or None; see :meth:`FormationClient.find_user`.

        >>> slack = formation.channel("slack")
        >>> slack.find_user("U98765ABC") is None
        True
        """
        return self._client._run(self._async.find_user(user_id))

    def get_user(self, user_id: Given) -> UserRecord:
        """Return the record of a person; see :meth:`FormationClient.get_user`.

        >>> slack = formation.channel("slack")
        >>> reply = slack.chat("Hello!", user_id="U98765ABC")
        >>> slack.get_user("U98765ABC")["established"]
        False
        """
        return self._client._run(self._async.get_user(user_id))

    def get_user_identifiers(self, user_id: Given) -> list[str]:
        """Return a person's identifiers; see :meth:`FormationClient.get_user_identifiers`.

        >>> slack = formation.channel("slack")
        >>> reply = slack.chat("Hello!", user_id="U98765ABC")
        >>> slack.get_user_identifiers("U98765ABC")
        ['U98765ABC']
        """
        return self._client._run(self._async.get_user_identifiers(user_id))

    def unlink_user_identifier(self, user_id: Given, *, force: bool = False) -> UnlinkResult:
        """Unlink ``user_id``; see :meth:`FormationClient.unlink_user_identifier`.

        >>> slack = formation.channel("slack")
        >>> reply = slack.chat("Hello!", user_id="U98765ABC")
        >>> slack.unlink_user_identifier("U98765ABC", force=True)["identifier"]
        'U98765ABC'
        """
        return self._client._run(self._async.unlink_user_identifier(user_id, force=force))

    def chat(self, message: str, user_id: Given, *, session_id: str | None = None) -> ChatReply:
        """Answer a message that came in this channel; see :meth:`FormationClient.chat`.

        >>> slack = formation.channel("slack")
        >>> told = slack.chat("My budget is $5,000", user_id="U98765ABC")
        >>> print(slack.chat("What's my budget?", user_id="U98765ABC"))
        Your budget is $5,000.
        """
        return self._client._run(self._async.chat(message, user_id, session_id=session_id))

    def get_session_messages(self, session_id: str, user_id: Given) -> SessionMessages:
        """Return the messages of a session; see :meth:`FormationClient.get_session_messages`.

        >>> slack = formation.channel("slack")
        >>> reply = slack.chat("Hello!", user_id="U98765ABC")
        >>> slack.get_session_messages(reply.session_id, "U98765ABC")["count"]
        2
        """
        return self._client._run(self._async.get_session_messages(session_id, user_id))


__all__ = ["Channel", "FormationClient"]
