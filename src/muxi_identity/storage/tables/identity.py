"""Who is who: formations, users, identifiers, and the record of what changed."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from muxi_identity.storage.tables.base import metadata

formations = Table(
    "muxi_formations",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # An HMAC of a constant under the formation's secret key: a wrong key is noticed when the formation is opened,
    # instead of making everybody a stranger.
    Column("key_check", LargeBinary, nullable=False),
    # SQLite only: raised by each change that can make a cached answer wrong; other processes watch it.
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("next_key", BigInteger, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("formation_id", name="pk_formations"),
)

users = Table(
    "muxi_users",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("pk", BigInteger, nullable=False, autoincrement=False),
    Column("public_id", Text, nullable=False),
    Column("parent_pk", BigInteger),
    Column("root_pk", BigInteger, nullable=False),
    Column("established_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    # Raised on the root by every change of who belongs to the person; lets a one-statement link notice that what it
    # read is no longer so.
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("formation_id", "pk", name="pk_users"),
    UniqueConstraint("formation_id", "public_id", name="uq_users_public_id"),
    ForeignKeyConstraint(
        ["formation_id", "parent_pk"],
        ["muxi_users.formation_id", "muxi_users.pk"],
        name="fk_users_parent",
        deferrable=True,
        initially="IMMEDIATE",
    ),
    ForeignKeyConstraint(
        ["formation_id", "root_pk"],
        ["muxi_users.formation_id", "muxi_users.pk"],
        name="fk_users_root",
        deferrable=True,
        initially="IMMEDIATE",
    ),
    CheckConstraint("parent_pk <> pk", name="ck_users_not_own_parent"),
    CheckConstraint("(parent_pk IS NULL) = (root_pk = pk)", name="ck_users_root_has_no_parent"),
    Index("ix_users_root", "formation_id", "root_pk"),
)

identifiers = Table(
    "muxi_identifiers",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("pk", BigInteger, nullable=False, autoincrement=False),
    # NULL only on the tombstone of a secret whose user was deleted: the key must stay revoked for ever.
    Column("user_pk", BigInteger),
    # Keyed hash of the folded spelling, alike for every type: (bucket, slot) is what makes creation race-free.
    Column("bucket", LargeBinary, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("type", Text),
    Column("scope", Text),
    # The normal form for the type; empty for a secret, of which only the bucket and a hint are kept.
    Column("value", Text, nullable=False),
    Column("spelling", Text, nullable=False),
    Column("secret", Boolean(create_constraint=True, name="ck_identifiers_secret"), nullable=False),
    Column("metadata", Text),
    Column("source", Text),
    Column("linked_at", BigInteger, nullable=False),
    Column("verified_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("unlinked_at", BigInteger),
    PrimaryKeyConstraint("formation_id", "pk", name="pk_identifiers"),
    UniqueConstraint("formation_id", "bucket", "slot", name="uq_identifiers_bucket_slot"),
    # The target of the guard on every user-owned row.
    UniqueConstraint("formation_id", "user_pk", "pk", name="uq_identifiers_user_pk"),
    ForeignKeyConstraint(
        ["formation_id", "user_pk"],
        ["muxi_users.formation_id", "muxi_users.pk"],
        name="fk_identifiers_user",
        deferrable=True,
        initially="IMMEDIATE",
    ),
    CheckConstraint("user_pk IS NOT NULL OR (secret AND unlinked_at IS NOT NULL)", name="ck_identifiers_owned"),
    CheckConstraint("scope IS NULL OR type IS NOT NULL", name="ck_identifiers_scope_has_type"),
    CheckConstraint("NOT secret OR value = ''", name="ck_identifiers_secret_not_kept"),
)
# Lists of people: oldest first, and by the beginning of an identifier.
Index(
    "ix_users_created_at",
    users.c.formation_id,
    users.c.created_at,
    users.c.pk,
    postgresql_where=users.c.parent_pk.is_(None),
    sqlite_where=users.c.parent_pk.is_(None),
)
Index(
    "ix_identifiers_value",
    identifiers.c.formation_id,
    identifiers.c.value,
    postgresql_ops={"value": "text_pattern_ops"},
    postgresql_where=identifiers.c.unlinked_at.is_(None),
    sqlite_where=identifiers.c.unlinked_at.is_(None),
)

merges = Table(
    "muxi_merges",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("merge_id", Text, nullable=False),
    # The root that stayed and the root that became its member.
    Column("primary_pk", BigInteger, nullable=False),
    Column("secondary_pk", BigInteger, nullable=False),
    Column("merged_at", BigInteger, nullable=False),
    Column("undone_at", BigInteger),
    Column("mode", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("source", Text),
    Column("reason", Text),
    PrimaryKeyConstraint("formation_id", "merge_id", name="pk_merges"),
    ForeignKeyConstraint(
        ["formation_id", "primary_pk"], ["muxi_users.formation_id", "muxi_users.pk"], name="fk_merges_primary"
    ),
    ForeignKeyConstraint(
        ["formation_id", "secondary_pk"],
        ["muxi_users.formation_id", "muxi_users.pk"],
        name="fk_merges_secondary",
    ),
    Index("ix_merges_primary", "formation_id", "primary_pk"),
    Index("ix_merges_secondary", "formation_id", "secondary_pk"),
)

# Two users that somebody took apart, by undoing a merge or by a split: no automatic rule merges their people again.
# Whoever merges them by hand may; the pair stays, for when that turns out to be a mistake too.
separations = Table(
    "muxi_separations",
    metadata,
    Column("formation_id", Text, nullable=False),
    # The lower key first, so that a pair has one row.
    Column("one_pk", BigInteger, nullable=False),
    Column("other_pk", BigInteger, nullable=False),
    Column("separated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("formation_id", "one_pk", "other_pk", name="pk_separations"),
    ForeignKeyConstraint(
        ["formation_id", "one_pk"], ["muxi_users.formation_id", "muxi_users.pk"], name="fk_separations_one"
    ),
    ForeignKeyConstraint(
        ["formation_id", "other_pk"], ["muxi_users.formation_id", "muxi_users.pk"], name="fk_separations_other"
    ),
    CheckConstraint("one_pk < other_pk", name="ck_separations_order"),
    Index("ix_separations_other", "formation_id", "other_pk"),
)

# Append-only. Holds ids, never identifier values, and no foreign key: it outlives the people it speaks of.
history = Table(
    "muxi_history",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("pk", BigInteger, nullable=False, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("other_user_id", Text),
    Column("identifier_pk", BigInteger),
    Column("merge_id", Text),
    Column("actor", Text, nullable=False),
    Column("source", Text),
    Column("reason", Text),
    # What else there is to say, as a JSON object of ids and numbers: the receipt of a deletion.
    Column("details", Text),
    # The identifier that identifier_pk took the place of.
    Column("other_identifier_pk", BigInteger),
    PrimaryKeyConstraint("formation_id", "pk", name="pk_history"),
    Index("ix_history_user", "formation_id", "user_id", "at", "pk"),
    Index("ix_history_at", "formation_id", "at", "pk"),
)
# Most events name neither: they take no room in these.
Index(
    "ix_history_other_user",
    history.c.formation_id,
    history.c.other_user_id,
    history.c.at,
    history.c.pk,
    postgresql_where=history.c.other_user_id.is_not(None),
    sqlite_where=history.c.other_user_id.is_not(None),
)
Index(
    "ix_history_identifier",
    history.c.formation_id,
    history.c.identifier_pk,
    postgresql_where=history.c.identifier_pk.is_not(None),
    sqlite_where=history.c.identifier_pk.is_not(None),
)

# Answers of calls that carried an idempotency key, stored with what they did. Ids only, for the same reason.
idempotency = Table(
    "muxi_idempotency",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("formation_id", "key", name="pk_idempotency"),
    Index("ix_idempotency_created_at", "formation_id", "created_at"),
)
