"""What webhooks are to be told: one row an event and webhook, written with what happened, gone when it was delivered.

Holds public ids alone, and no foreign key: that somebody was deleted is told as well.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
)

from muxi_identity.storage.tables.base import metadata

# One at a time, unlike the keys: what is drawn later is higher, whichever connection draws it. SQLite has one writer,
# whose keys do for this.
outbox_positions = Sequence("muxi_outbox_positions", metadata=metadata, data_type=BigInteger)

outbox = Table(
    "muxi_outbox",
    metadata,
    Column("formation_id", Text, nullable=False),
    # The order of the events of one user.
    Column("position", BigInteger, nullable=False, autoincrement=False),
    Column("event_id", Text, nullable=False),
    # Which webhook: a digest of its address, which may hold a secret.
    Column("endpoint", Text, nullable=False),
    Column("type", Text, nullable=False),
    # The public ids of whom it is about: nothing later about either is told before it.
    Column("user_id", Text, nullable=False),
    Column("other_user_id", Text),
    # As it is sent, to the byte: it is signed.
    Column("body", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    # Who delivers it now, and until when nobody else may.
    Column("claim", Text),
    Column("claimed_until", BigInteger),
    # Why the last attempt failed, in a few words.
    Column("error", Text),
    # When it was given up; NULL while it is to be delivered.
    Column("failed_at", BigInteger),
    PrimaryKeyConstraint("formation_id", "position", name="pk_outbox"),
    UniqueConstraint("formation_id", "event_id", "endpoint", name="uq_outbox_event"),
    Index("ix_outbox_due", "formation_id", "due_at"),
    Index("ix_outbox_failed", "formation_id", "failed_at", "position"),
    Index("ix_outbox_user", "formation_id", "endpoint", "user_id", "position"),
    Index("ix_outbox_other_user", "formation_id", "endpoint", "other_user_id", "position"),
)
