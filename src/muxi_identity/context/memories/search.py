"""Which memories a reader sees: one of each kind and key, the newest; the newest of all, or those that match.

Statements in Core over ``members``, a selectable with a column ``pk``: the members of one person (a common table
expression, since it is read twice). Their columns are :data:`COLUMNS`. PostgreSQL and SQLite each get the form that
their indexes answer member by member, without sorting all that a person has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    and_,
    exists,
    func,
    literal_column,
    select,
    text,
    true,
    tuple_,
    union_all,
)

from muxi_identity.storage.tables import memories, owner_apart
from muxi_identity.storage.text_search import Value, matching

RANKED = 500
"""How many memories of a person that have a word are ranked by their words: the newest."""
CANDIDATES = 200
"""How many hits of a search are looked at: the best by their words alone."""
COLUMNS = (
    "pk",
    "memory_id",
    "type",
    "key",
    "content",
    "value",
    "metadata",
    "shareable",
    "created_at",
    "updated_at",
)
IS_FACT = memories.c.value.is_not(None)
"""What says something of an attribute: a memory with a key and a value."""
IS_SHAREABLE = memories.c.shareable
_ONE: ColumnElement[int] = literal_column("1")


def newest_memories(
    dialect: str,
    formation_id: Value[str],
    members: FromClause,
    limit: Value[int],
    *conditions: ColumnElement[bool],
    after: tuple[int, int] | None = None,
) -> Select[Any]:
    """Return the statement for the newest memories that meet ``conditions`` (on ``memories``), newest first.

    ``after`` is the time and the key of the last one of the page before.
    """
    meets = list(conditions)
    if after is not None:
        meets.append(tuple_(memories.c.updated_at, memories.c.pk) < tuple_(*after))
    newest = _newest_postgres if dialect == "postgresql" else _newest_sqlite
    return newest(formation_id, members, limit, meets)


def _newest_sqlite(
    formation_id: Value[str], members: FromClause, limit: Value[int], meets: Sequence[ColumnElement[bool]]
) -> Select[Any]:
    # The members' memories merged by time, each read when it is wanted: a recursive query takes the first of its queue,
    # and puts what follows it with that member into the queue. It stops when there are enough.
    line = _newest_of_one(formation_id, members, members.c.pk, meets).cte(recursive=True)
    # Without the type of a column: else SQLite seeks by the time alone, and goes through all of the same time.
    last = tuple_(func.abs(line.c.updated_at), func.abs(line.c.pk))
    older = tuple_(memories.c.updated_at, memories.c.pk) < last
    following = _newest_of_one(formation_id, line, line.c.owner, [*meets, older])
    line = line.union_all(following.suffix_with(text("ORDER BY updated_at DESC, pk DESC")))
    rival, member = memories.alias(), members.alias()
    superseded = exists().where(
        owner_apart(rival).in_(select(func.abs(member.c.pk))),
        *_same_name(formation_id, rival, line),
        tuple_(rival.c.updated_at, rival.c.pk) > tuple_(line.c.updated_at, line.c.pk),
    )
    return select(*_columns(line)).where(~superseded.correlate(line)).limit(limit)


def _newest_of_one(
    formation_id: Value[str], owners: FromClause, owner: ColumnElement[int], meets: Sequence[ColumnElement[bool]]
) -> Select[Any]:
    key = (
        select(memories.c.pk)
        .where(memories.c.formation_id == formation_id, memories.c.user_pk == owner, *meets)
        .order_by(memories.c.updated_at.desc(), memories.c.pk.desc())
        .limit(_ONE)
        .correlate(owners)
        .scalar_subquery()
    )
    row = memories.alias()
    is_newest = and_(row.c.formation_id == formation_id, row.c.pk == key)
    return select(owner.label("owner"), *_columns(row)).select_from(owners.join(row, is_newest))


def _newest_postgres(
    formation_id: Value[str], members: FromClause, limit: Value[int], meets: Sequence[ColumnElement[bool]]
) -> Select[Any]:
    said = _newest_of_each(formation_id, members, members.c.pk, limit, *meets)
    # What lies behind a newer one of the same name is out without being asked about. Of the rest, the newest are asked
    # about until there are enough: a condition with a subquery is not moved into what is sorted.
    newest_first = (said.c.updated_at.desc(), said.c.pk.desc())
    placed = select(
        said,
        func.row_number().over(partition_by=(said.c.type, said.c.key), order_by=newest_first).label("place"),
        func.row_number().over(partition_by=said.c.owner, order_by=newest_first).label("nth"),
    ).cte()
    first = (
        select(placed)
        .where(placed.c.place == _ONE)
        .order_by(placed.c.updated_at.desc(), placed.c.pk.desc())
        .subquery("first")
    )
    standing = (
        select(*_columns(first))
        .where(first.c.pk == winner_of("postgresql", formation_id, members, first))
        .order_by(first.c.updated_at.desc(), first.c.pk.desc())
        .limit(limit)
        .cte()
    )
    # Nothing older than this is wanted; anything is where there are not enough yet.
    oldest = func.coalesce(
        select(func.min(standing.c.updated_at)).having(func.count() >= limit).scalar_subquery(), literal_column("0")
    )
    # Of whom the last that was read is not older, there may be more: what lies behind it is read one by one.
    cut = (
        select(placed.c.owner, placed.c.updated_at, placed.c.pk)
        .where(placed.c.nth == limit, placed.c.updated_at >= oldest)
        .cte()
    )
    behind = [
        memories.c.updated_at >= oldest,
        tuple_(memories.c.updated_at, memories.c.pk) < tuple_(cut.c.updated_at, cut.c.pk),
        memories.c.pk == winner_of("postgresql", formation_id, members, memories),
    ]
    more = _newest_of_each(formation_id, cut, cut.c.owner, limit, *meets, *behind)
    found = union_all(select(*_columns(standing)), select(*_columns(more))).subquery()
    return select(*_columns(found)).order_by(found.c.updated_at.desc(), found.c.pk.desc()).limit(limit)


def _newest_of_each(
    formation_id: Value[str],
    owners: FromClause,
    owner: ColumnElement[int],
    limit: Value[int],
    *conditions: ColumnElement[bool],
) -> FromClause:
    of_one = (
        select(*_columns(memories))
        .where(memories.c.formation_id == formation_id, memories.c.user_pk == owner, *conditions)
        .order_by(memories.c.updated_at.desc(), memories.c.pk.desc())
        .limit(limit)
        .correlate(owners)
        .lateral()
    )
    return select(owner.label("owner"), *_columns(of_one)).select_from(owners.join(of_one, true())).subquery()


def matching_memories(
    dialect: str,
    formation_id: Value[str],
    members: FromClause,
    terms: Value[str],
    *conditions: ColumnElement[bool],
) -> Select[Any]:
    """Return the statement for the memories that ``terms`` find, with a column ``rank``: the best first.

    A memory that a newer one of its kind and key supersedes is not found, though it has the word and the newer one
    has not. At most :data:`CANDIDATES` are. ``terms`` are those of
    :func:`muxi_identity.storage.text_search.query_terms` for :func:`muxi_identity.words.query_words`.
    """
    hits = matching(dialect, formation_id, members, terms, RANKED, *conditions).subquery("hits")
    newest_first = (hits.c.updated_at.desc(), hits.c.pk.desc())
    place = func.row_number().over(partition_by=[hits.c.type, hits.c.key], order_by=newest_first)
    placed = select(hits, place.label("place")).subquery("placed")
    best = (
        select(placed.c.pk, placed.c.rank)
        .where(placed.c.place == 1)
        .order_by(placed.c.rank.desc(), placed.c.updated_at.desc(), placed.c.pk.desc())
        .limit(CANDIDATES)
        .subquery("best")
    )
    is_hit = [
        memories.c.formation_id == formation_id,
        memories.c.pk == best.c.pk,
        memories.c.pk == winner_of(dialect, formation_id, members, memories),
    ]
    shown: FromClause
    if dialect == "postgresql":
        # Read one by one: a join would be free to read all that there are for each.
        one = select(*_columns(memories)).where(*is_hit).limit(_ONE).correlate(best, members)
        shown = one.lateral("one")
        source = best.join(shown, true())
    else:
        shown = memories
        source = best.join(shown, and_(*is_hit))
    statement = select(*_columns(shown), best.c.rank).select_from(source)
    return statement.order_by(best.c.rank.desc(), shown.c.updated_at.desc(), shown.c.pk.desc())


def winner_of(dialect: str, formation_id: Value[str], members: FromClause, seen: FromClause) -> ScalarSelect[int]:
    """Return the key of the newest memory of the kind and key of a row of ``seen``: what that row is shown as.

    A scalar subquery, which no planner turns into a join over all that the person has.
    """
    rival, member = memories.alias("rival"), members.alias()
    same = _same_name(formation_id, rival, seen)
    newest_first = (rival.c.updated_at.desc(), rival.c.pk.desc())
    if dialect != "postgresql":
        # Both sides without the type of a column: else SQLite takes them for different, and no index for the key.
        theirs = owner_apart(rival).in_(select(func.abs(member.c.pk)))
        newest = select(rival.c.pk).where(theirs, *same).order_by(*newest_first).limit(_ONE)
        return newest.correlate(seen).scalar_subquery()
    of_one = (
        select(rival.c.pk, rival.c.updated_at)
        .where(owner_apart(rival) == member.c.pk, *same)
        .order_by(*newest_first)
        .limit(_ONE)
        .correlate(member, seen)
        .lateral("newest_of_one")
    )
    return (
        select(of_one.c.pk)
        .select_from(member.join(of_one, true()))
        .order_by(of_one.c.updated_at.desc(), of_one.c.pk.desc())
        .limit(_ONE)
        .correlate(seen)
        .scalar_subquery()
    )


def _same_name(formation_id: Value[str], rival: FromClause, seen: FromClause) -> list[ColumnElement[bool]]:
    return [rival.c.formation_id == formation_id, rival.c.type == seen.c.type, rival.c.key == seen.c.key]


def _columns(source: FromClause) -> list[ColumnElement[Any]]:
    return [source.c[name] for name in COLUMNS]
