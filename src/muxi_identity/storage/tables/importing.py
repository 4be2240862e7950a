"""Imports: how far each has come, written with what it wrote, so that one that was cut off goes on where it stood.

Holds digests, counts and line numbers, never what a row said.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from muxi_identity.storage.tables.base import metadata

imports = Table(
    "muxi_imports",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("import_id", Text, nullable=False),
    # Keyed hashes: of how it is to be done, and of the rows that are done. Another file, or other rules, under the same
    # id is a mistake.
    Column("fingerprint", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    # How many rows were read and settled, but for those of the last batch that are still to be linked one by one:
    # ``pending`` holds their numbers as JSON, and ``pending_done`` how many of these are settled as well.
    Column("done", BigInteger, nullable=False),
    Column("pending", Text, nullable=False),
    Column("pending_done", BigInteger, nullable=False),
    # What was done so far, as JSON.
    Column("counts", Text, nullable=False),
    # Who is at it. Whoever begins it anew takes it over.
    Column("claim", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    PrimaryKeyConstraint("formation_id", "import_id", name="pk_imports"),
    Index("ix_imports_updated_at", "formation_id", "updated_at"),
)

# The rows that were not taken, by line.
import_notes = Table(
    "muxi_import_notes",
    metadata,
    Column("formation_id", Text, nullable=False),
    Column("import_id", Text, nullable=False),
    Column("line", BigInteger, nullable=False, autoincrement=False),
    # "refused" with the code of the error, or "skipped" with a word for why.
    Column("kind", Text, nullable=False),
    Column("code", Text, nullable=False),
    PrimaryKeyConstraint("formation_id", "import_id", "line", name="pk_import_notes"),
    ForeignKeyConstraint(
        ["formation_id", "import_id"],
        ["muxi_imports.formation_id", "muxi_imports.import_id"],
        name="fk_import_notes_import",
    ),
)
