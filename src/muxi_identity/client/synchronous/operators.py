"""What operators do with people: join them, take them apart, and ask why.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from collections.abc import Sequence

from muxi_identity.client.asynchronous.operators import AsyncOperatorCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import Explanation, HistoryPage, MergeResult, ReplaceResult, SplitResult, UnmergeResult


class OperatorCalls(BlockingCalls):
    """Calls about whole people: merge, unmerge, split, succession, history, explanation."""

    _async: AsyncOperatorCalls

    def merge_users(
        self,
        primary: Given,
        secondary: Given,
        *,
        dry_run: bool = False,
        reason: str | None = None,
        source: str | None = None,
    ) -> MergeResult:
        """Make one person of two; ``primary`` answers for both from now on.

        Nothing is moved or overwritten: :meth:`unmerge_users` gives each side back what is its own, and what came
        through its identifiers meanwhile. It takes the same time however much there is. The same two again are
        answered with the same ``merge_id``. Two that somebody took apart before are merged all the same, since this
        call is never automatic; ``separated_at`` says so.

        ``dry_run`` writes nothing and brings a ``preview``: what there is on each side, the keys that both hold and
        which value would be read, and the limits that would be passed.

        Raises:
            UserNotFoundError: One of them means nobody.
            AmbiguousIdentifierError: One has no type and several people are known by it: pass the type.
            MergeConflictError: Both mean one and the same user.
            IdentifierLimitError: The person would have more identifiers than the formation allows.
            IdentityChangedError: Others kept changing the same people; call again.

        >>> alice = formation.create_user("usr_alice")
        >>> told = formation.chat("My budget is $5,000", user_id=("U98765ABC", "slack"))
        >>> merged = formation.merge_users("usr_alice", ("U98765ABC", "slack"))
        >>> print(formation.chat("What's my budget?", user_id="usr_alice"))
        Your budget is $5,000.
        """
        return self._run(self._async.merge_users(primary, secondary, dry_run=dry_run, reason=reason, source=source))

    def unmerge_users(
        self, merge_id: str, *, dry_run: bool = False, reason: str | None = None, source: str | None = None
    ) -> UnmergeResult:
        """Undo one merge, whatever was merged before or since.

        Each side has what it had, and what was written since is with the side whose identifier it came through. No
        link merges the two again, in whatever mode; only :meth:`merge_users` does. Undoing it again is answered with
        ``already_undone``. ``dry_run`` writes nothing and brings a ``preview`` of both sides.

        Raises:
            MergeNotFoundError: There is no such merge, or one of its users was deleted.
            IdentityChangedError: Others kept changing the same people; call again.

        >>> alice, bob = formation.create_user("usr_alice"), formation.create_user("usr_bob")
        >>> merged = formation.merge_users("usr_alice", "usr_bob")
        >>> undone = formation.unmerge_users(merged["merge_id"], reason="two people after all")
        >>> formation.get_user("usr_bob")["merged_into"] is None
        True
        """
        return self._run(self._async.unmerge_users(merge_id, dry_run=dry_run, reason=reason, source=source))

    def split_user(
        self,
        user_id: Given,
        identifiers: Sequence[Given],
        *,
        dry_run: bool = False,
        reason: str | None = None,
        source: str | None = None,
    ) -> SplitResult:
        """Give identifiers that were linked by mistake to a new user, with all that was recorded through them.

        Sessions, memories, preferences, credentials and tasks go with the identifier that they came through; what
        came through the public id or through other identifiers stays. No link merges the two again. To take apart
        what a merge joined, undo the merge. ``dry_run`` writes nothing and counts what would go.

        Raises:
            UserNotFoundError: ``user_id`` means nobody.
            IdentifierNotFoundError: Nobody has one of the identifiers.
            IdentifierConflictError: Some are another person's; ``error.conflicts`` names them with their owners.
            AmbiguousIdentifierError: One has no type and stands for several identifiers: pass the type.
            LastIdentifierError: They are all that the person has.
            InvalidRequestError: ``identifiers`` is no list, empty, or over 1,000.
            IdentityChangedError: Others kept changing the same person; call again.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> told = formation.chat("My budget is $5,000", user_id=("U98765ABC", "slack"))
        >>> split = formation.split_user("alice@email.com", [("U98765ABC", "slack")])
        >>> split["rows"]["memories"], split["rows"]["messages"]
        (1, 2)
        """
        return self._run(self._async.split_user(user_id, identifiers, dry_run=dry_run, reason=reason, source=source))

    def replace_identifier(
        self, old: Given, new: Given, *, verified: bool = False, reason: str | None = None, source: str | None = None
    ) -> ReplaceResult:
        """Let one identifier take the place of another: a changed phone number, a migrated Slack id.

        The old one means nobody from now on. The new one, of the same type and scope where it is given bare, goes on
        with its sessions and tasks. Proof of the old one is no proof of the new one: ``verified`` says that there is.
        Where the person has the new one already, the old one is only retired. Sent again, the call is answered with
        ``already_replaced``.

        Raises:
            IdentifierNotFoundError: Nobody has the old one.
            AmbiguousIdentifierError: The old one has no type and stands for several identifiers: pass the type.
            IdentifierConflictError: The new one is another person's.
            IdentifierLimitError: The person would have too many of the new one's type.
            InvalidRequestError: Both are the same, or one is a secret.
            IdentityChangedError: Others kept changing the same person; call again.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> replaced = formation.replace_identifier(("U98765ABC", "slack"), "W98765ABC")
        >>> formation.get_user_identifiers("alice@email.com")
        ['alice@email.com', 'W98765ABC']
        """
        return self._run(self._async.replace_identifier(old, new, verified=verified, reason=reason, source=source))

    def rotate_identifier(
        self, old_secret: Given, new_secret: Given, *, reason: str | None = None, source: str | None = None
    ) -> ReplaceResult:
        """Let a new secret take the place of an old one, which is revoked for ever.

        The new one has the type of the old one where it is given bare, and an expiry of its own. Neither is kept in
        clear, nor in the result. Sent again, the call is answered with ``already_replaced``.

        Raises:
            IdentifierNotFoundError: Nobody has the old one, or it has expired.
            IdentifierConflictError: The new one is another person's.
            InvalidIdentifierError: The new one cannot be a secret, or was revoked.
            InvalidRequestError: Both are the same, or one is no secret.
            IdentityChangedError: Others kept changing the same person; call again.

        >>> keys = [("key_4f9d2b7c81e6", "api_key")]
        >>> linked = formation.associate_user_identifiers(["alice@email.com", *keys])
        >>> rotated = formation.rotate_identifier("key_4f9d2b7c81e6", "key_a1c35e0897d2")
        >>> formation.find_user("key_4f9d2b7c81e6") is None
        True
        """
        return self._run(self._async.rotate_identifier(old_secret, new_secret, reason=reason, source=source))

    def get_user_history(self, user_id: Given, *, limit: int = 50, cursor: str | None = None) -> HistoryPage:
        """Return a page of what happened to a person and its identifiers, newest first, ``limit`` (1 to 500) at a
        time.

        Merges and splits are told from both sides. Pass ``next_cursor`` of one page as ``cursor`` for the next.

        Raises:
            UserNotFoundError: ``user_id`` means nobody.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The limit is out of range or the cursor is none of ours.

        >>> made = formation.create_user("usr_alice", reason="signed a contract")
        >>> [(event["event"], event["reason"]) for event in formation.get_user_history("usr_alice")["events"]]
        [('user:create', 'signed a contract')]
        """
        return self._run(self._async.get_user_history(user_id, limit=limit, cursor=cursor))

    def explain(self, a: Given, b: Given) -> Explanation:
        """Say why two identifiers, or public ids, mean one person, or why they do not and whether they once did.

        ``steps`` are dated events in order, and ``text`` is all of it to be read out. An identifier that was unlinked
        can be asked for, too.

        Raises:
            UserNotFoundError: One of them never meant anybody.
            AmbiguousIdentifierError: One has no type and several people are known by it: pass the type.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> why = formation.explain("alice@email.com", "U98765ABC")
        >>> why["same"], why["text"].startswith("alice@email.com and U98765ABC are one person, usr_")
        (True, True)
        """
        return self._run(self._async.explain(a, b))
