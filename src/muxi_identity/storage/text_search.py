"""Full-text search over memories: one statement for each database, by the index that the schema keeps of their words.

What is searched for are plain words (:mod:`muxi_identity.words`): letters and digits, so that nothing of what somebody
typed is ever an operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    BindParameter,
    Float,
    FromClause,
    Select,
    Text,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    table,
    true,
)
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.sql import ColumnElement

from muxi_identity.storage.tables import memories

T = TypeVar("T")
Value: TypeAlias = T | BindParameter[T]
"""Something that a statement is told, now or each time that it is run."""

MIN_PREFIX = 3
"""Letters that a word must have to be taken for the beginning of a longer one."""

_SHOWN = (memories.c.pk, memories.c.type, memories.c.key, memories.c.updated_at)
_LEXEMES: ColumnElement[Any] = literal_column("muxi_memories.lexemes", TSVECTOR)
_ENGLISH: ColumnElement[Any] = literal_column("'pg_catalog.english'::regconfig")
_INDEX = table("muxi_memory_words", column("muxi_memory_words"), column("rowid"), column("pk"))


def query_terms(dialect: str, words: Sequence[str]) -> str:
    """Return the search for any of ``words``, in the database's own language; ``words`` are not empty.

    The last word may be the beginning of one: whoever types may not have ended it.
    """
    prefixes = [word for word in words[-1:] if len(word) >= MIN_PREFIX]
    if dialect == "postgresql":
        return " | ".join([*(f"'{word}'" for word in words), *(f"'{prefix}':*" for prefix in prefixes)])
    return " OR ".join([*(f'"{word}"' for word in words), *(f'"{prefix}" *' for prefix in prefixes)])


def matching(
    dialect: str, formation_id: Value[str], members: FromClause, terms: Value[str], most: Value[int], *conditions: Any
) -> Select[Any]:
    """Return the statement that finds memories of ``members`` by ``terms`` (:func:`query_terms`), in no order.

    ``members`` has a column ``pk``; ``conditions`` are on ``memories``. The columns are the memory's ``pk``, ``type``,
    ``key`` and ``updated_at``, and its ``rank``: the greater, the better, within this statement. Where more than
    ``most`` match, these are the newest: on SQLite those whose words were changed last.
    """
    if dialect == "postgresql":
        return _matching_postgres(formation_id, members, terms, most, conditions)
    theirs = [memories.c.formation_id == formation_id, memories.c.user_pk == members.c.pk, *conditions]
    return _matching_sqlite(formation_id, members, terms, most, theirs)


def _matching_postgres(
    formation_id: Value[str], members: FromClause, terms: Value[str], most: Value[int], conditions: Sequence[Any]
) -> Select[Any]:
    # The owner is a lexeme of each memory: one look into the index says which of a member's memories have a word.
    # Columns that are reckoned with are in no other index: the planner, which takes everybody for an average person,
    # would go through all that somebody with very many has.
    theirs = [
        memories.c.formation_id.concat("") == formation_id,
        memories.c.user_pk + literal_column("0") == members.c.pk,
        *conditions,
    ]
    wanted = func.to_tsquery(_ENGLISH, terms, type_=TSQUERY)
    owner = cast(func.concat("'@", members.c.pk, "'"), TSQUERY)
    of_one = (
        select(*_SHOWN, _LEXEMES.label("lexemes"))
        .where(*theirs, _LEXEMES.op("@@")(owner.op("&&")(wanted)))
        .order_by(memories.c.updated_at.desc(), memories.c.pk.desc())
        .limit(most)
        .correlate(members)
        .lateral("of_one")
    )
    newest = (
        select(of_one)
        .select_from(members.join(of_one, true()))
        .order_by(of_one.c.updated_at.desc(), of_one.c.pk.desc())
        .limit(most)
        .subquery("newest")
    )
    # 1: divided by the logarithm of the length, so that long memories do not win by having more words.
    rank = func.ts_rank(newest.c.lexemes, wanted, 1)
    return select(*(newest.c[column.name] for column in _SHOWN), rank.label("rank"))


def _matching_sqlite(
    formation_id: Value[str], members: FromClause, terms: Value[str], most: Value[int], theirs: Sequence[Any]
) -> Select[Any]:
    formation = func.lower(func.hex(formation_id), type_=Text)
    owner = literal('"').concat(formation).concat("u").concat(members.c.pk).concat('"')
    owners = select(func.group_concat(owner, " OR ", type_=Text)).correlate(None).scalar_subquery()
    wanted = literal("owner : (").concat(owners).concat(") AND words : (").concat(terms).concat(")")
    # A negative number: the lower, the better. The owner counts nothing.
    rank = -func.bm25(_INDEX.c.muxi_memory_words, 0.0, 0.0, 1.0, type_=Float)
    return (
        select(*_SHOWN, rank.label("rank"))
        .select_from(_INDEX.join(memories, memories.c.pk == _INDEX.c.pk).join(members, literal_column("1")))
        .where(_INDEX.c.muxi_memory_words.op("MATCH")(wanted), *theirs)
        # Rows are added as memories change: the last come first without being sorted.
        .order_by(_INDEX.c.rowid.desc())
        .limit(most)
    )
