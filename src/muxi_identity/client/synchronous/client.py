"""The client: opening and closing, and the calls that name several people or none.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from collections.abc import Sequence

from muxi_identity.client.asynchronous.client import AsyncFormationClient
from muxi_identity.client.blocking import BlockingClient
from muxi_identity.client.operations import Given
from muxi_identity.client.synchronous.channel import Channel
from muxi_identity.client.synchronous.operators import OperatorCalls
from muxi_identity.client.synchronous.person import PersonCalls
from muxi_identity.identity.deciding import OnConflict
from muxi_identity.models import DeleteResult, LinkResult, UserPage, UserRecord


class FormationClient(BlockingClient, PersonCalls, OperatorCalls):
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

    _async: AsyncFormationClient

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
