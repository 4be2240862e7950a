"""What a server keeps: the answers to requests that may be sent again, and the keys that it made for itself."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, PrimaryKeyConstraint, Table, Text

from muxi_identity.storage.tables.base import metadata

# Requests that carried an idempotency key. ``key`` and ``fingerprint`` are keyed hashes, and ``answer`` is encrypted
# under the idempotency key itself, which is not kept: nobody but who sent the request can have it read again, and what
# it says of a person who is deleted meanwhile is gone with the key.
requests = Table(
    "muxi_requests",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    # Who is doing it, and until when it is believed to be at it.
    Column("claim", Text, nullable=False),
    Column("claimed_until", BigInteger, nullable=False),
    # NULL while it is being done.
    Column("answer", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("formation_id", "key", name="pk_requests"),
    Index("ix_requests_created_at", "formation_id", "created_at"),
)

# Digests of the keys that were made and printed where the configuration named none. ``role``: "admin" or "client".
api_keys = Table(
    "muxi_api_keys",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("formation_id", "role", name="pk_api_keys"),
)
