"""Imports: how far each has come, and which rows it did not take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "muxi_imports",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.Text(), nullable=False),
        sa.Column("pending_done", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("formation_id", "import_id", name="pk_imports"),
    )
    op.create_index("ix_imports_updated_at", "muxi_imports", ["formation_id", "updated_at"], unique=False)
    op.create_table(
        "muxi_import_notes",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["formation_id", "import_id"],
            ["muxi_imports.formation_id", "muxi_imports.import_id"],
            name="fk_import_notes_import",
        ),
        sa.PrimaryKeyConstraint("formation_id", "import_id", "line", name="pk_import_notes"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("muxi_import_notes")
    op.drop_index("ix_imports_updated_at", table_name="muxi_imports")
    op.drop_table("muxi_imports")
