"""Rows as an import links them: parsed, with their buckets; or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from muxi_identity.errors import InvalidRequestError, MuxiError
from muxi_identity.identifiers import Identifier, IdentifierRules, PublicId, parse_reference
from muxi_identity.identity.associating import parse_identifiers
from muxi_identity.identity.deciding import OnConflict
from muxi_identity.identity.keys import BucketKey
from muxi_identity.identity.lookup import Reference
from muxi_identity.importing.entries import Entry
from muxi_identity.importing.slack import entry_of, is_member
from muxi_identity.refusals import parse_metadata, quote

KEYS = ("user_id", "identifiers", "verified", "metadata", "external_id")
EXTERNAL = "internal"
"""The type of ``external_id``: the host's own id of the person."""

SKIPPED = {
    "bot": "A bot is nobody.",
    "deleted": "The member was deactivated.",
    "slackbot": "Slackbot is nobody.",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How an import is to be done, the same for each of its rows."""

    on_conflict: OnConflict = "raise"
    verified: bool = False
    create_users: bool = False
    scoped: bool = True


@dataclass(slots=True)
class Note:
    """A row that was not taken."""

    line: int
    kind: Literal["refused", "skipped"]
    code: str
    message: str
    raw: bytes = b""


@dataclass(slots=True)
class Row:
    """One row: whom it names and by what, or the note that is all there is to say of it. ``position`` counts from 0."""

    position: int
    line: int
    raw: bytes
    identifiers: list[Identifier] = field(default_factory=list)
    buckets: list[bytes] = field(default_factory=list)
    user: Reference | None = None
    user_bucket: bytes | None = None
    verified: bool = False
    note: Note | None = None
    begins: int | None = None


class RowParser:
    """Parses the entries of one import."""

    def __init__(self, rules: IdentifierRules, bucket: BucketKey, options: Options) -> None:
        self._rules = rules
        self._bucket = bucket
        self._options = options

    def parse(self, entry: Entry, position: int) -> Row:
        """Return the row of an entry; one that cannot be taken carries a note.

        Raises:
            ConfigurationError: It has a phone number, and the extra ``phone`` is not installed.
        """
        row = Row(position, entry.line, entry.raw, begins=entry.begins)
        try:
            given = {} if entry.skip is not None else entry.read()
            if is_member(given):  # a line of JSON that nobody has looked at yet
                entry = entry_of(entry.line, given, scoped=self._options.scoped, raw=entry.raw)
                given = entry.row or {}
            if entry.skip is None:
                self._fill(row, given)
            else:
                row.note = Note(entry.line, "skipped", entry.skip, SKIPPED[entry.skip])
        except InvalidRequestError as error:
            row.note = refusal(row, error)
        return row

    def _fill(self, row: Row, given: Mapping[str, Any]) -> None:
        if given.get("ok") is False:
            why = given.get("error")
            told = quote(why) if isinstance(why, str) else "no reason given"
            raise InvalidRequestError(f"This is no page of members: Slack has refused to give it ({told}).")
        for key in given:
            if key not in KEYS:
                named = quote(key) if isinstance(key, str) else "that"
                raise InvalidRequestError(f"A row has no {named}; its keys are {', '.join(KEYS)}.")
        row.verified = self._verified(given.get("verified"))
        user = given.get("user_id")
        row.user = None if user in (None, "") else parse_reference(user, self._rules)
        if isinstance(row.user, Identifier):
            row.user_bucket = self._bucket(row.user.fold)
        identifiers = given.get("identifiers")
        external = given.get("external_id")
        if external not in (None, ""):
            identifiers = [*(identifiers if isinstance(identifiers, list | tuple) else []), (external, EXTERNAL)]
        alone = self._options.create_users and isinstance(row.user, PublicId) and identifiers in (None, [], ())
        row.identifiers = [] if alone else parse_identifiers(identifiers, self._rules)
        metadata = given.get("metadata")
        if metadata is not None:
            parsed = parse_metadata(metadata)
            row.identifiers = [
                each if each.metadata is not None else each._replace(metadata=parsed) for each in row.identifiers
            ]
        row.buckets = [self._bucket(each.fold) for each in row.identifiers]

    def _verified(self, given: object) -> bool:
        if given is None:
            return self._options.verified
        if not isinstance(given, bool):
            raise InvalidRequestError("verified must be true or false.")
        return given


def refusal(row: Row, error: MuxiError) -> Note:
    """Return the note of a row that ``error`` refuses."""
    where = "" if row.begins is None else f" (line {row.begins} of the file)"
    return Note(row.line, "refused", error.code, error.message + where, row.raw)
