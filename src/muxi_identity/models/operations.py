"""What joins people, takes them apart and says why: the operators' calls."""

from __future__ import annotations

from typing import TypedDict

from muxi_identity.models.identity import IdentifierName


class PersonSummary(TypedDict):
    """One side of a merge or of an unmerge.

    ``identifiers`` are the first hundred in linking order, ``identifier_count`` is all of them. ``rows`` counts what
    was recorded for this side, by kind (``"memories"``, ``"sessions"``, ...); kinds without any are left out.
    """

    muxi_user_id: str
    merged_users: list[str]
    established: bool
    created_at: str
    identifiers: list[IdentifierName]
    identifier_count: int
    rows: dict[str, int]


class KeyedValue(TypedDict):
    """What one side holds under a key. Of a credential ``value`` is the preview; of others at most 200 characters."""

    value: str
    updated_at: str


class EqualKey(TypedDict):
    """A key that both sides hold.

    ``kind`` is ``"preferences"``, ``"credentials"`` or ``"memories"``, ``key`` what identifies it there (a
    credential's service and name). ``wins`` is ``"primary"`` or ``"secondary"``: the newer one is what is read while
    the two are one person; the other one is kept.
    """

    kind: str
    key: list[str]
    wins: str
    primary: KeyedValue
    secondary: KeyedValue


class PassedLimit(TypedDict):
    """A limit that the merged person would pass: of one ``type``, or of all identifiers where that is None."""

    type: str | None
    limit: int
    count: int


class MergePreview(TypedDict):
    """What a merge would bring together. ``equal_keys`` are the first hundred, ``equal_key_count`` is all of them."""

    primary: PersonSummary
    secondary: PersonSummary
    equal_keys: list[EqualKey]
    equal_key_count: int
    passed_limits: list[PassedLimit]


class MergeResult(TypedDict):
    """What a merge did, or would do where ``dry_run`` is true.

    ``muxi_user_id`` answers for both from now on, ``merged_user_id`` is who became a part of it. ``already_merged``:
    the two were one person before the call, by the merge ``merge_id``. ``separated_at`` is set where somebody took
    the two apart before. ``merge_id``, ``merged_at`` and ``preview`` are None where there is none.
    """

    merge_id: str | None
    muxi_user_id: str
    merged_user_id: str
    already_merged: bool
    merged_at: str | None
    separated_at: str | None
    dry_run: bool
    preview: MergePreview | None


class UnmergePreview(TypedDict):
    """Who there would be after an unmerge."""

    primary: PersonSummary
    secondary: PersonSummary


class UnmergeResult(TypedDict):
    """What an unmerge did, or would do where ``dry_run`` is true.

    ``separated_user_id`` is a person again, with whoever was merged into it before; ``muxi_user_id`` is the person
    that it left. ``already_undone``: the merge was undone before the call, at ``undone_at``.
    """

    merge_id: str
    muxi_user_id: str
    separated_user_id: str
    already_undone: bool
    undone_at: str | None
    dry_run: bool
    preview: UnmergePreview | None


class SplitResult(TypedDict):
    """What a split did, or would do where ``dry_run`` is true.

    ``new_user_id`` has ``identifiers`` from now on (None in a dry run), with what was recorded through them:
    ``rows`` counts it by kind.
    """

    muxi_user_id: str
    new_user_id: str | None
    identifiers: list[IdentifierName]
    rows: dict[str, int]
    dry_run: bool


class ReplaceResult(TypedDict):
    """Which identifier took the place of which. ``already_replaced``: an earlier call did it."""

    muxi_user_id: str
    old: IdentifierName
    new: IdentifierName
    already_replaced: bool


class HistoryEvent(TypedDict):
    """One event of the identity log.

    ``event`` is ``"user:create"``, ``"user:delete"``, ``"user:merge"``, ``"user:unmerge"``, ``"user:split"``,
    ``"identifier:link"``, ``"identifier:update"``, ``"identifier:unlink"``, ``"identifier:move"`` (in a split) or
    ``"identifier:replace"``. The log itself holds no identifiers: ``identifier`` is read from the person it belongs
    to, and is None where that one was deleted.
    """

    event: str
    at: str
    muxi_user_id: str
    other_user_id: str | None
    identifier: IdentifierName | None
    merge_id: str | None
    actor: str
    source: str | None
    reason: str | None


class HistoryPage(TypedDict):
    """A page of the identity log, newest first. Pass ``next_cursor`` for the next one; None ends the list."""

    events: list[HistoryEvent]
    count: int
    next_cursor: str | None


class ExplainedStep(TypedDict):
    """One dated step of an explanation; ``text`` says it as a sentence."""

    event: str
    at: str
    muxi_user_id: str
    other_user_id: str | None
    identifier: str | None
    merge_id: str | None
    actor: str | None
    source: str | None
    reason: str | None
    text: str


class Explanation(TypedDict):
    """Why two identifiers mean one person, or why they do not.

    ``same`` says which; ``were_same`` that they were one person once and are no more. ``a`` and ``b`` are the public
    ids of the persons that they mean now, None for an identifier that means nobody any more. ``steps`` are in the
    order in which they happened, and ``text`` is the whole to be read out.
    """

    same: bool
    were_same: bool
    a: str | None
    b: str | None
    steps: list[ExplainedStep]
    text: str
