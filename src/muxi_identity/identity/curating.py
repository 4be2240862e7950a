"""What operators do with people: join them, take them apart, let identifiers succeed each other, and ask why."""

from __future__ import annotations

from muxi_identity.arguments import is_storable
from muxi_identity.errors import InvalidRequestError
from muxi_identity.identifiers import parse_identifier
from muxi_identity.identity.associating import parse_identifiers
from muxi_identity.identity.chronicle import read_history
from muxi_identity.identity.explaining import explain
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.merging import merge_users
from muxi_identity.identity.resolving import Resolver
from muxi_identity.identity.running import Caller, Runner
from muxi_identity.identity.splitting import split_user
from muxi_identity.identity.succession import Replaced, replace_identifier
from muxi_identity.identity.transaction import Transaction
from muxi_identity.identity.unmerging import unmerge_users
from muxi_identity.models import Explanation, HistoryPage, MergeResult, ReplaceResult, SplitResult, UnmergeResult

MAX_MERGE_ID = 64  # characters; ours are shorter


class Curator:
    """Joins and takes apart the people of one formation. A dry run reads one snapshot and locks nothing."""

    def __init__(self, runner: Runner, resolver: Resolver) -> None:
        self._runner = runner
        self._resolver = resolver

    async def merge(self, primary: Reference, secondary: Reference, *, dry_run: bool, caller: Caller) -> MergeResult:
        """Merge two people; see :func:`muxi_identity.identity.merging.merge_users`.

        Raises:
            UserNotFoundError: One of them means nobody.
            AmbiguousIdentifierError: One is untyped, and several people have it.
            MergeConflictError: Both mean one and the same user.
            IdentifierLimitError: The person would have too many identifiers.
        """
        self._runner.change_by(caller)
        hits = [await self._resolver.existing(primary), await self._resolver.existing(secondary)]
        if dry_run:
            return await self._runner.read(lambda tx: merge_users(tx, hits, dry_run=True))
        return await self._runner.change(lambda tx: merge_users(tx, hits, dry_run=False), caller)

    async def unmerge(self, merge_id: str, *, dry_run: bool, caller: Caller) -> UnmergeResult:
        """Undo a merge; see :func:`muxi_identity.identity.unmerging.unmerge_users`.

        Raises:
            MergeNotFoundError: There is none of this id.
            InvalidRequestError: ``merge_id`` cannot be one.
        """
        self._runner.change_by(caller)
        if not isinstance(merge_id, str) or not 0 < len(merge_id) <= MAX_MERGE_ID or not is_storable(merge_id):
            raise InvalidRequestError("merge_id must be the text that a merge returned: mrg_ and what follows it.")
        if dry_run:
            return await self._runner.read(lambda tx: unmerge_users(tx, merge_id, dry_run=True))
        return await self._runner.change(lambda tx: unmerge_users(tx, merge_id, dry_run=False), caller)

    async def split(self, person: Reference, identifiers: object, *, dry_run: bool, caller: Caller) -> SplitResult:
        """Give identifiers of a person to a new user; see :func:`muxi_identity.identity.splitting.split_user`.

        Raises:
            UserNotFoundError: ``person`` means nobody.
            IdentifierNotFoundError: Nobody has one of the identifiers.
            IdentifierConflictError: Some are another person's.
            AmbiguousIdentifierError: One stands for several.
            LastIdentifierError: They are all that the person has.
            InvalidRequestError: An argument has the wrong shape.
        """
        self._runner.change_by(caller)
        parsed = parse_identifiers(identifiers, self._runner.rules)
        hit = await self._resolver.existing(person)
        if dry_run:
            return await self._runner.read(lambda tx: split_user(tx, hit, parsed, dry_run=True))
        return await self._runner.change(lambda tx: split_user(tx, hit, parsed, dry_run=False), caller)

    async def replace(
        self, old: object, new: object, *, secrets: bool, verified: bool, caller: Caller
    ) -> ReplaceResult:
        """Let one identifier take the place of another; see :mod:`muxi_identity.identity.succession`.

        Raises:
            IdentifierNotFoundError: Nobody has the old one.
            AmbiguousIdentifierError: The old one stands for several identifiers.
            IdentifierConflictError: The new one is another person's.
            IdentifierLimitError: The person would have too many of the new one's type.
            InvalidIdentifierError: One of them can be nobody's, or the new one is a secret that was revoked.
            InvalidRequestError: Both are the same, or what must be a secret is none, or the other way round.
        """
        parsed = parse_identifier(old, self._runner.rules)

        def work(tx: Transaction) -> Replaced:
            return replace_identifier(tx, parsed, new, secrets=secrets, verified=verified)

        done = await self._runner.change(work, caller)
        if done.new.secret:
            self._runner.cache.forget(done.new.fold)  # it may have written in bare, when nobody knew it for a secret
        return done.result

    async def history(self, person: Reference, limit: int, cursor: str | None) -> HistoryPage:
        """Return a page of what happened to a person, newest first.

        Raises:
            UserNotFoundError: ``person`` means nobody.
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        hit = await self._resolver.existing(person)
        return await self._runner.read(lambda tx: read_history(tx, hit, limit, cursor))

    async def explain(self, a: Reference, b: Reference) -> Explanation:
        """Say why two identifiers mean one person, or why they do not.

        Raises:
            UserNotFoundError: One of them never meant anybody.
            AmbiguousIdentifierError: One is untyped, and several people have it.
        """
        return await self._runner.read(lambda tx: explain(tx, a, b))
