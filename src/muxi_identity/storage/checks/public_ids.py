"""What a public id looks like, in the SQL of each database."""

from __future__ import annotations


def is_none(column: str, dialect: str) -> str:
    """Return the condition that ``column`` holds something that is no public id; it is not true of NULL."""
    if dialect == "postgresql":
        return f"{column} !~ '^usr_[A-Za-z0-9_-]{{1,64}}$'"
    rest = f"substr({column}, 5)"
    return (
        f"({column} NOT GLOB 'usr_*' OR {rest} GLOB '*[^A-Za-z0-9_-]*' OR length({rest}) NOT BETWEEN 1 AND 64"
        f" OR length({column}) <> length(CAST({column} AS BLOB)))"
    )
