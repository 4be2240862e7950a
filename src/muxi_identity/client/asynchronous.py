"""The client, written by hand. ``synchronous.py`` is made from this file: run ``make generate`` after a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, overload

from muxi_identity.client.lifecycle import ConfigSource, Lifecycle, ephemeral_config, read_config
from muxi_identity.client.operations import Given, checked_channel, checked_flag, checked_mode, given_by_channel
from muxi_identity.config import FormationConfig
from muxi_identity.conversation.responder import Responder
from muxi_identity.identity.linking import OnConflict
from muxi_identity.identity.running import Caller
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


class AsyncFormationClient:
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

    def __init__(
        self, config: ConfigSource = None, *, actor: str = "embedded", responder: Responder | None = None
    ) -> None:
        self._actor = actor
        self._lifecycle = Lifecycle(read_config(config), responder=responder)

    @classmethod
    def ephemeral(
        cls,
        config: FormationConfig | None = None,
        *,
        actor: str = "embedded",
        responder: Responder | None = None,
    ) -> Self:
        """Return a client of a formation that is thrown away when the client is closed or collected.

        It is a real one, on SQLite in a temporary folder; ``config`` may set everything but the database.

        >>> async with AsyncFormationClient.ephemeral() as throw_away:
        ...     (await throw_away.list_users())["count"]
        0
        """
        client = cls.__new__(cls)
        client._actor = actor
        config, folder = ephemeral_config(config)
        client._lifecycle = Lifecycle(config, responder=responder, folder=folder)
        return client

    async def __aenter__(self) -> Self:
        await self._lifecycle.formation()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the formation's connections; closing twice is harmless.

        >>> await formation.close()
        """
        await self._lifecycle.close()

    @property
    def formation_id(self) -> str:
        """The formation's id.

        >>> formation.formation_id
        'default'
        """
        return self._lifecycle.config.id

    @property
    def cache_info(self) -> Mapping[str, int]:
        """Counters of the resolution cache: ``hits``, ``misses``, and ``identifiers`` and ``members`` held.

        >>> made = await formation.resolve_user("alice@email.com", create_user=True)
        >>> formation.cache_info["identifiers"]
        1
        """
        formation = self._lifecycle.open_formation
        return {} if formation is None else formation.cache.info()

    def channel(self, type: str, *, scope: str | None = None) -> AsyncChannel:
        """Return a view of the formation that types every bare ``user_id``.

        ``scope`` tells apart equal ids of several issuers: the Slack workspace, the OAuth issuer.

        >>> slack = formation.channel("slack", scope="T012AB3CD")
        >>> reply = await slack.chat("Hello!", user_id="U98765ABC")
        >>> known = await formation.get_user_identifiers(reply.user_id, detailed=True)
        >>> known[0]["type"], known[0]["scope"]
        ('slack', 'T012AB3CD')
        """
        return AsyncChannel(self, type, scope)

    def _caller(self, source: str | None = None, reason: str | None = None) -> Caller:
        return Caller(self._actor, source, reason)

    def _cached(self, identifier: object) -> ResolvedUser | None:
        """Answer from the cache alone, or None. Never blocks; any thread may call it."""
        if type(identifier) is str:
            shown = identifier
        elif (
            type(identifier) is tuple
            and len(identifier) == 2
            and type(identifier[0]) is str
            and type(identifier[1]) is str
        ):
            shown = identifier[0]
        else:
            return None  # 1 and True are one key to a cache, and a dict is none: these are parsed
        formation = self._lifecycle.open_formation
        if formation is None:
            return None
        user_id = formation.cache.public_id(identifier)
        if user_id is None:
            return None
        return {"identifier": shown, "muxi_user_id": user_id, "created": False}

    async def resolve_user(self, identifier: Given, create_user: bool = False) -> ResolvedUser:
        """Return who an identifier means, and make a user for an unknown one only if ``create_user``.

        Race-free: however many calls meet an unknown identifier at once, one makes the user and all get it. A
        cached answer comes without awaiting.

        Raises:
            UserNotFoundError: Nobody has it, and ``create_user`` is false; or it is a secret, which must be linked
                before it is used.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = await formation.resolve_user("new@email.com", create_user=True)
        >>> made["created"], (await formation.resolve_user("New@Email.com"))["created"]
        (True, False)
        """
        cached = self._cached(identifier)
        if cached is not None:
            return cached
        formation = await self._lifecycle.formation()
        return await formation.resolve(
            formation.parse(identifier),
            create=checked_flag("create_user", create_user),
            caller=self._caller("resolve_user"),
        )

    async def find_user(self, identifier: Given) -> ResolvedUser | None:
        """Return who an identifier means, None where nobody does. Writes nothing.

        Raises:
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> await formation.find_user("nobody@email.com") is None
        True
        """
        cached = self._cached(identifier)
        if cached is not None:
            return cached
        formation = await self._lifecycle.formation()
        return await formation.find(formation.parse(identifier))

    async def create_user(
        self, user_id: str | None = None, *, source: str | None = None, reason: str | None = None
    ) -> UserRecord:
        """Make a user without identifiers, whom no automatic rule will merge away.

        ``user_id`` chooses the public id (``usr_`` and up to 64 letters, digits, ``_`` or ``-``).

        Raises:
            UserExistsError: The id is taken.

        >>> (await formation.create_user("usr_alice"))["muxi_user_id"]
        'usr_alice'
        """
        formation = await self._lifecycle.formation()
        return await formation.create_user(user_id, self._caller(source, reason))

    async def get_user(self, user_id: Given) -> UserRecord:
        """Return the record of a person, by public id or any identifier.

        The id of a user that was merged away answers with its root, named in ``merged_into``.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = await formation.create_user("usr_alice")
        >>> (await formation.get_user("usr_alice"))["established"]
        True
        """
        formation = await self._lifecycle.formation()
        return await formation.get_user(formation.parse(user_id))

    async def list_users(self, *, limit: int = 50, cursor: str | None = None) -> UserPage:
        """Return a page of people, oldest first, ``limit`` (1 to 500) at a time.

        Pass ``next_cursor`` of one page as ``cursor`` for the next: people who come meanwhile neither shift nor
        repeat it.

        Raises:
            InvalidRequestError: The limit is out of range or the cursor is none of ours.

        >>> made = await formation.create_user("usr_alice")
        >>> [user["muxi_user_id"] for user in (await formation.list_users())["users"]]
        ['usr_alice']
        """
        formation = await self._lifecycle.formation()
        return await formation.list_users(limit, cursor)

    async def delete_user(
        self,
        user_id: Given,
        *,
        include_merged: bool = False,
        source: str | None = None,
        reason: str | None = None,
    ) -> DeleteResult:
        """Delete a person: the user, its identifiers and everything that was recorded for them.

        Where other users were merged into it, all of them go, and ``include_merged=True`` must say so. The keys
        (secret identifiers) of a deleted person stay revoked.

        Raises:
            UserNotFoundError: Nobody has it.
            MergeConflictError: Others were merged into it and ``include_merged`` is false.

        >>> made = await formation.create_user("usr_alice")
        >>> (await formation.delete_user("usr_alice"))["muxi_user_id"]
        'usr_alice'
        """
        formation = await self._lifecycle.formation()
        return await formation.delete_user(
            formation.parse(user_id),
            include_merged=checked_flag("include_merged", include_merged),
            caller=self._caller(source, reason),
        )

    async def associate_user_identifiers(
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

        >>> linked = await formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> linked["created"], linked["new_identifiers"]
        (True, ['alice@email.com', 'U98765ABC'])
        """
        formation = await self._lifecycle.formation()
        return await formation.associate(
            identifiers,
            user_id,
            on_conflict=checked_mode(on_conflict),
            verified=checked_flag("verified", verified),
            idempotency_key=idempotency_key,
            caller=self._caller(source, reason),
        )

    @overload
    async def get_user_identifiers(self, user_id: Given, *, detailed: Literal[False] = False) -> list[str]: ...

    @overload
    async def get_user_identifiers(self, user_id: Given, *, detailed: Literal[True]) -> list[IdentifierRecord]: ...

    @overload
    async def get_user_identifiers(self, user_id: Given, *, detailed: bool) -> list[str] | list[IdentifierRecord]: ...

    async def get_user_identifiers(
        self, user_id: Given, *, detailed: bool = False
    ) -> list[str] | list[IdentifierRecord]:
        """Return a person's identifiers as they were spelt when they were linked, in linking order.

        Secrets are shown by a hint. ``detailed`` brings records with type, scope, proof, expiry and times.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> linked = await formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> await formation.get_user_identifiers(("U98765ABC", "slack"))
        ['alice@email.com', 'U98765ABC']
        """
        formation = await self._lifecycle.formation()
        records = await formation.identifiers_of(formation.parse(user_id))
        return records if detailed else [record["identifier"] for record in records]

    async def unlink_user_identifier(
        self, identifier: Given, *, force: bool = False, source: str | None = None, reason: str | None = None
    ) -> UnlinkResult:
        """Unlink an identifier from whoever has it. What was recorded through it stays with the person.

        A secret that was unlinked is revoked for ever.

        Raises:
            IdentifierNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and stands for several identifiers: pass the type.
            LastIdentifierError: It is the person's last one; ``force=True`` unlinks it all the same.

        >>> linked = await formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> (await formation.unlink_user_identifier("alice@email.com"))["identifier"]
        'alice@email.com'
        """
        formation = await self._lifecycle.formation()
        return await formation.unlink(
            identifier, force=checked_flag("force", force), caller=self._caller(source, reason)
        )

    async def chat(self, message: str, user_id: Given, *, session_id: str | None = None) -> ChatReply:
        """Answer one message of a person, known by any identifier, and remember the turn.

        An identifier that nobody has makes first contact: a new user. Without ``session_id`` the identifier goes on
        with its current session, or begins one after a day without a word. Sessions are never shared between
        identifiers; what the person said of themselves is.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The message is blank or over 100,000 characters, or ``session_id`` is no text.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was recorded.

        >>> told = await formation.chat("My budget is $5,000", user_id="user_123")
        >>> print(await formation.chat("What's my budget?", user_id="user_123"))
        Your budget is $5,000.
        """
        formation = await self._lifecycle.formation()
        return await formation.chat(message, formation.parse(user_id), session_id, self._caller("chat"))

    async def get_session_messages(self, session_id: str, user_id: Given) -> SessionMessages:
        """Return the messages of one session of an identifier, oldest first.

        A session belongs to the identifier that it was held under: asked for under another one, also of the same
        person, it does not exist.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SessionNotFoundError: It has no such session.

        >>> reply = await formation.chat("Hello!", user_id="user_123")
        >>> (await formation.get_session_messages(reply.session_id, "user_123"))["count"]
        2
        """
        formation = await self._lifecycle.formation()
        return await formation.session_messages(formation.parse(user_id), session_id)


class AsyncChannel:
    """A formation as one channel sees it: every bare ``user_id`` has the channel's type and scope.

    A public id (``usr_...``) and an identifier with a type of its own are taken as they are; in a channel of secrets
    (``api_key``) a public id is refused.
    """

    def __init__(self, client: AsyncFormationClient, type: str, scope: str | None = None) -> None:
        self._client = client
        # A wrong type or scope is told here, not at the first message.
        self._type, self._scope = checked_channel(type, scope)
        self._secret = client._lifecycle.config.identity.rules.rule(self._type).secret

    def _given(self, value: Given) -> Given:
        return given_by_channel(value, self._type, self._scope, secret=self._secret)

    async def resolve_user(self, user_id: Given, create_user: bool = False) -> ResolvedUser:
        """Return who ``user_id`` is in this channel; see :meth:`AsyncFormationClient.resolve_user`.

        >>> slack = formation.channel("slack")
        >>> (await slack.resolve_user("U98765ABC", create_user=True))["created"]
        True
        """
        return await self._client.resolve_user(self._given(user_id), create_user)

    async def find_user(self, user_id: Given) -> ResolvedUser | None:
        """Return who ``user_id`` is in this channel, or None; see :meth:`AsyncFormationClient.find_user`.

        >>> slack = formation.channel("slack")
        >>> await slack.find_user("U98765ABC") is None
        True
        """
        return await self._client.find_user(self._given(user_id))

    async def get_user(self, user_id: Given) -> UserRecord:
        """Return the record of a person; see :meth:`AsyncFormationClient.get_user`.

        >>> slack = formation.channel("slack")
        >>> reply = await slack.chat("Hello!", user_id="U98765ABC")
        >>> (await slack.get_user("U98765ABC"))["established"]
        False
        """
        return await self._client.get_user(self._given(user_id))

    async def get_user_identifiers(self, user_id: Given) -> list[str]:
        """Return a person's identifiers; see :meth:`AsyncFormationClient.get_user_identifiers`.

        >>> slack = formation.channel("slack")
        >>> reply = await slack.chat("Hello!", user_id="U98765ABC")
        >>> await slack.get_user_identifiers("U98765ABC")
        ['U98765ABC']
        """
        return await self._client.get_user_identifiers(self._given(user_id))

    async def unlink_user_identifier(self, user_id: Given, *, force: bool = False) -> UnlinkResult:
        """Unlink ``user_id``; see :meth:`AsyncFormationClient.unlink_user_identifier`.

        >>> slack = formation.channel("slack")
        >>> reply = await slack.chat("Hello!", user_id="U98765ABC")
        >>> (await slack.unlink_user_identifier("U98765ABC", force=True))["identifier"]
        'U98765ABC'
        """
        return await self._client.unlink_user_identifier(self._given(user_id), force=force)

    async def chat(self, message: str, user_id: Given, *, session_id: str | None = None) -> ChatReply:
        """Answer a message that came in this channel; see :meth:`AsyncFormationClient.chat`.

        >>> slack = formation.channel("slack")
        >>> told = await slack.chat("My budget is $5,000", user_id="U98765ABC")
        >>> print(await slack.chat("What's my budget?", user_id="U98765ABC"))
        Your budget is $5,000.
        """
        return await self._client.chat(message, self._given(user_id), session_id=session_id)

    async def get_session_messages(self, session_id: str, user_id: Given) -> SessionMessages:
        """Return the messages of a session; see :meth:`AsyncFormationClient.get_session_messages`.

        >>> slack = formation.channel("slack")
        >>> reply = await slack.chat("Hello!", user_id="U98765ABC")
        >>> (await slack.get_session_messages(reply.session_id, "U98765ABC"))["count"]
        2
        """
        return await self._client.get_session_messages(session_id, self._given(user_id))


__all__ = ["AsyncChannel", "AsyncFormationClient"]
