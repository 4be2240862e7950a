"""Which memories a reader sees: one of each kind and key, the newest; the newest of all, or those that match.

Statements in Core over ``members``, a selectable with a column ``pk``: the members of one person (a common table
expression, since it is read twice). Their columns are :data:`COLUMNS`. PostgreSQL and SQLite each get the form that
their indexes answer member by member, without sorting all that a person has.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, ScalarSelect, Select, and_, func, literal_column, select, true, tuple_

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
    theirs = [memories.c.formation_id == formation_id, memories.c.user_pk == members.c.pk, *conditions]
    if after is not None:
        theirs.append(tuple_(memories.c.updated_at, memories.c.pk) < tuple_(*after))
    of_one = (
        select(*_columns(memories))
        .where(*theirs, memories.c.pk == winner_of(dialect, formation_id, members, memories))
        .order_by(memories.c.updated_at.desc(), memories.c.pk.desc())
        .limit(limit)
        .correlate(members)
    )
    shown: FromClause
    if dialect == "postgresql":
        shown = of_one.lateral("of_one")
        statement = select(*_columns(shown)).select_from(members.join(shown, true()))
    else:
        shown = memories.alias("shown")
        keys = of_one.with_only_columns(memories.c.pk)
        statement = (
            select(*_columns(shown))
            .select_from(members.join(shown, literal_column("1")))
            .where(shown.c.formation_id == formation_id, shown.c.pk.in_(keys))
        )
    return statement.order_by(shown.c.updated_at.desc(), shown.c.pk.desc()).limit(limit)


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
    same = [rival.c.formation_id == formation_id, rival.c.type == seen.c.type, rival.c.key == seen.c.key]
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


def _columns(source: FromClause) -> list[ColumnElement[Any]]:
    return [source.c[name] for name in COLUMNS]
