"""The schema: one for SQLite and PostgreSQL.

Every primary, unique and foreign key begins with ``formation_id``, so that a row cannot point into another
formation even where the code is wrong, and so that the schema can be distributed by formation.

Times are whole microseconds since 1970 in UTC, the same on both databases. A ``..._pk`` is internal and never
leaves the engine. JSON is kept as text: nothing is searched inside it. The
names carry a prefix because the tables may lie in a host application's own database.

A table that holds what belongs to a person (a *user-owned* table) is made by :func:`owned_table`. It names the
member that the row belongs to and the identifier that it was recorded through, under a foreign key on both
together: a write through an identifier that meanwhile left the member breaks that key. This is what keeps a stale
cache from putting one person's words into another's memory.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    FromClause,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
)

metadata = MetaData()

# Keys are never given twice, also after the row with the highest one is gone: a cache elsewhere may still know it.
# PostgreSQL draws them from this sequence, SQLite from formations.next_key.
key_sequence = Sequence("muxi_keys", metadata=metadata, data_type=BigInteger, cache=32)


def owned_table(name: str, *columns: Column[object] | UniqueConstraint | ForeignKeyConstraint | Index) -> Table:
    """Make a user-owned table: rows under a member, with the identifier they were recorded through.

    ``identifier_pk`` is NULL where the call named the user by public id; the key on ``user_pk`` alone then guards.
    """
    return Table(
        f"muxi_{name}",
        metadata,
        Column("formation_id", Text, nullable=False),
        Column("pk", BigInteger, nullable=False, autoincrement=False),
        Column("user_pk", BigInteger, nullable=False),
        Column("identifier_pk", BigInteger),
        PrimaryKeyConstraint("formation_id", "pk", name=f"pk_{name}"),
        ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name=f"fk_{name}_user",
            deferrable=True,
            initially="IMMEDIATE",
        ),
        ForeignKeyConstraint(
            ["formation_id", "user_pk", "identifier_pk"],
            ["muxi_identifiers.formation_id", "muxi_identifiers.user_pk", "muxi_identifiers.pk"],
            name=f"fk_{name}_provenance",
            deferrable=True,
            initially="IMMEDIATE",
        ),
        *columns,
    )


def own_key(table: Table, *names: str, apart: bool = False) -> Index:
    """Make the unique key of a user-owned table: one row for a member, an identifier and what ``names`` say.

    The identifier is part of the key, so that what two channels wrote lies side by side and is folded when it is read:
    a channel that leaves the person takes its own row with it. It comes last, so that the rows of one name are found
    together, whoever wrote them.

    ``apart``: it is used only where it is asked for, by :func:`owner_apart`. Before a table has statistics, PostgreSQL
    takes any index with the same first columns for as good: it then reads all that a person has for each name.
    """
    return Index(
        f"uq_{table.name.removeprefix('muxi_')}_key",
        table.c.formation_id,
        owner_apart(table) if apart else table.c.user_pk,
        *(table.c[name] for name in names),
        func.coalesce(table.c.identifier_pk, 0),
        unique=True,
    )


def owner_apart(table: FromClause) -> ColumnElement[int]:
    """Return the owner of a row of ``table`` as only the indexes made ``apart`` have it."""
    return func.abs(table.c.user_pk)  # keys are positive
