"""What taking people apart needs: pairs that are not the same person, and a history that is found from every side."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of pairs, and the column and indexes of the history."""
    op.create_table(
        "muxi_separations",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("one_pk", sa.BigInteger(), nullable=False),
        sa.Column("other_pk", sa.BigInteger(), nullable=False),
        sa.Column("separated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("one_pk < other_pk", name="ck_separations_order"),
        sa.ForeignKeyConstraint(
            ["formation_id", "one_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_separations_one",
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "other_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_separations_other",
        ),
        sa.PrimaryKeyConstraint("formation_id", "one_pk", "other_pk", name="pk_separations"),
    )
    op.create_index("ix_separations_other", "muxi_separations", ["formation_id", "other_pk"], unique=False)
    op.add_column("muxi_history", sa.Column("other_identifier_pk", sa.BigInteger(), nullable=True))
    _create_partial("ix_history_other_user", ["formation_id", "other_user_id", "at", "pk"], "other_user_id")
    _create_partial("ix_history_identifier", ["formation_id", "identifier_pk"], "identifier_pk")


def _create_partial(name: str, columns: list[str], there: str) -> None:
    where = sa.text(f"{there} IS NOT NULL")
    op.create_index(name, "muxi_history", columns, unique=False, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Drop it; which pairs were taken apart is forgotten."""
    op.drop_index("ix_history_identifier", table_name="muxi_history")
    op.drop_index("ix_history_other_user", table_name="muxi_history")
    op.drop_column("muxi_history", "other_identifier_pk")
    op.drop_table("muxi_separations")
