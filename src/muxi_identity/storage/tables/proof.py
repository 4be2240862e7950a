"""Proof that two channels are one person's: codes asked for in one and typed in the other."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text, UniqueConstraint

from muxi_identity.storage.tables.base import metadata, owned_table

link_codes = owned_table(
    "link_codes",
    # A keyed hash: whoever reads the database cannot redeem what stands in it.
    Column("code_hash", LargeBinary, nullable=False),
    # The public id of the member that asked. Where the row went to another with a split, the code is void.
    Column("asked_as", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    # Who was shown in a conversation what the code would join, and the reply that asked for a yes: only a yes that
    # directly follows it counts.
    Column("pending_identifier_pk", BigInteger),
    Column("pending_message_pk", BigInteger),
    Column("pending_until", BigInteger),
    UniqueConstraint("formation_id", "code_hash", name="uq_link_codes_hash"),
    UniqueConstraint("formation_id", "user_pk", "identifier_pk", name="uq_link_codes_identifier"),
)

# Wrong codes of late: one row an identifier, and one under key 0 for the whole formation. No foreign key: a row says
# nothing of anybody, and goes soon.
link_attempts = Table(
    "muxi_link_attempts",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("identifier_pk", BigInteger, nullable=False, autoincrement=False),
    Column("began_at", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    PrimaryKeyConstraint("formation_id", "identifier_pk", name="pk_link_attempts"),
)
