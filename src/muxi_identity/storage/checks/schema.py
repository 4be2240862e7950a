"""The schema as the database has it, held against the schema as it must be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection

from muxi_identity.storage import migrate
from muxi_identity.storage.checks.catalogue import Catalogue, Kind, Part, there, wanted
from muxi_identity.storage.checks.remaking import copies, copy_of, remake
from muxi_identity.storage.checks.rule import BROKEN, NOTICE, Finding
from muxi_identity.storage.tables import metadata

MISSING = "schema-missing"
"""Tables or columns are missing: the rows cannot be asked."""
_MOST_NAMED = 20


def schema_findings(connection: Connection) -> list[Finding]:
    """Return where the schema is not as it must be. What a newer version has added is not spoken of."""
    dialect, is_, must = connection.dialect.name, there(connection), wanted(connection.dialect.name)
    missing = [part for part in must if part not in is_ and (part.kind is Kind.TABLE or _has_table(part, is_))]
    gone = [part for part in missing if part.kind in (Kind.TABLE, Kind.COLUMN)]
    if gone:
        return list(_told(MISSING, gone, remake(gone, dialect, is_), *_GONE))
    rest = [part for part in missing if not _is_there_otherwise(part, is_)]
    changed = [part for part in must if part not in rest and is_.get(part) != must[part]]
    copied = copies(connection) if dialect == "sqlite" else []
    found = [
        *_told("schema-parts", rest, remake(rest, dialect, is_, copied), *_PARTS),
        *_told("schema-changed", changed, remake(changed, dialect, is_, copied), *_CHANGED),
    ]
    made_anew = {part.table for part in (*rest, *changed)}
    if migrate.current(connection) == migrate.newest():
        added = [part for part in is_ if part not in must and _does_something(part, is_[part], must, made_anew)]
        found += _told("schema-added", added, (), *_ADDED, level=NOTICE)
    return found


_GONE = (
    "Tables or columns of the schema are missing, and with them what they held. The rows were not asked.",
    "Restore the database from a back-up, beside this one, and compare the two before you give this one up. Where the "
    "rows are of no use to anybody, make the parts again, empty.",
)
_BY_A_COPY = (
    "A table of SQLite is made anew beside itself first (as ..._new); where that is whole, the next check says how it "
    "takes the other's place."
)
_PARTS = (
    "Keys, indexes, triggers or sequences of the schema are missing: what they keep is kept no longer.",
    "Stop what uses the database. Mend the rows that break them first (other findings name those), and make them "
    f"again. {_BY_A_COPY}",
)
_CHANGED = (
    "Parts of the schema are there and are not what they must be: other columns, another type, another action, not "
    "unique any more. What they keep is kept no longer, or more is refused or deleted than should be.",
    "Stop what uses the database. Mend the rows that break them first (other findings name those), and make them "
    f"anew. {_BY_A_COPY}",
)
_ADDED = (
    "The tables have constraints, unique indexes or triggers that are not this program's: they may refuse what it "
    "writes, or write something else. Or there are copies of tables (..._new), which nobody erases anything from.",
    "Find out who made them. Where nobody needs them, drop them.",
)


def _told(
    rule: str, parts: Iterable[Part], statements: Iterable[str], meaning: str, mend: str, *, level: str = BROKEN
) -> Iterator[Finding]:
    named = [str(part) for part in parts]
    if named:
        shown = ", ".join(named[:_MOST_NAMED]) + (", ..." if len(named) > _MOST_NAMED else "")
        yield Finding(None, rule, len(named), meaning, mend, level, about=shown, statements=tuple(statements))


def _has_table(part: Part, is_: Catalogue) -> bool:
    return part.kind is Kind.SEQUENCE or Part(Kind.TABLE, part.table, part.table) in is_


def _is_there_otherwise(part: Part, is_: Catalogue) -> bool:
    """Tell whether a key is there as an index alone: under its name, and as nothing that must be so."""
    return Part(Kind.INDEX, part.table, part.name) in is_


def _does_something(part: Part, form: str, must: Catalogue, made_anew: set[str]) -> bool:
    if part.kind is Kind.TABLE:
        return any(part.name == copy_of(name) for name in metadata.tables if name not in made_anew)
    if part.table not in metadata.tables or Part(Kind.CONSTRAINT, part.table, part.name) in must:
        return False
    return part.kind in (Kind.CONSTRAINT, Kind.TRIGGER) or (part.kind is Kind.INDEX and form.startswith("unique"))
