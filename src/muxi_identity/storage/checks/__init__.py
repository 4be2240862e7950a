"""What must be true of a database at any time, asked of the database itself.

The schema's own constraints keep much of it. This is for operators (after a restore, after work by hand, when in
doubt) and for tests. All rules of one run are asked in one snapshot, set by set: it takes time, not memory, and no
writer waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from muxi_identity.storage.checks.belongings import BELONGING_RULES
from muxi_identity.storage.checks.cells import CELLS, cell_findings, reading_anything
from muxi_identity.storage.checks.constraints import constraint_rules
from muxi_identity.storage.checks.engine import READ_FIRST, engine_findings
from muxi_identity.storage.checks.history import HISTORY_RULES
from muxi_identity.storage.checks.identifiers import IDENTIFIER_RULES, UNLINK
from muxi_identity.storage.checks.keys import key_rules
from muxi_identity.storage.checks.ledger import LEDGER_RULES
from muxi_identity.storage.checks.memories import MEMORY_RULES
from muxi_identity.storage.checks.rule import BROKEN, NOTICE, Finding, Rule
from muxi_identity.storage.checks.schema import MISSING
from muxi_identity.storage.checks.serving import SERVING_RULES
from muxi_identity.storage.checks.sessions import SESSION_RULES
from muxi_identity.storage.checks.tasks import TASK_RULES
from muxi_identity.storage.checks.times import time_rules
from muxi_identity.storage.checks.users import USER_RULES

RULES = (
    *USER_RULES,
    *IDENTIFIER_RULES,
    *LEDGER_RULES,
    *HISTORY_RULES,
    *SESSION_RULES,
    *MEMORY_RULES,
    *BELONGING_RULES,
    *TASK_RULES,
    *SERVING_RULES,
    *time_rules(),
    *key_rules(),
    *constraint_rules(),
)
"""Every rule about rows, of both databases."""

__all__ = [
    "BROKEN",
    "NOTICE",
    "RULES",
    "UNLINK",
    "Finding",
    "Rule",
    "ask_rules",
    "check",
    "check_rows",
    "rows_can_be_asked",
    "rules_for",
]


def check(connection: Connection, now: int) -> list[Finding]:
    """Return all that is broken, in the order in which it is mended: what rows are found by, the rows of every
    formation, and the rest of the database as such, which refuses rows that are broken.

    ``now`` in microseconds since 1970.
    """
    with reading_anything(connection):
        found = engine_findings(connection)
        if not rows_can_be_asked(found):
            return found
        first = [finding for finding in found if finding.rule in READ_FIRST]
        return [*first, *check_rows(connection, now), *(finding for finding in found if finding not in first)]


def rows_can_be_asked(found: list[Finding]) -> bool:
    """Tell whether, by what was ``found`` of the database, every table and column that rules speak of is there."""
    return all(finding.rule != MISSING for finding in found)


def check_rows(
    connection: Connection, now: int, formation_id: str | None = None, *, constraints: bool = True
) -> list[Finding]:
    """Return the rules that rows break: of all formations, or of one.

    ``constraints=False`` leaves out what a constraint of the schema keeps.
    """
    rules = [rule for rule in rules_for(connection.dialect.name) if constraints or not rule.kept_by_schema]
    cells = partial(cell_findings, connection, formation_id)
    return [*_ask(connection, [(CELLS, cells)]), *ask_rules(connection, rules, now, formation_id)]


def ask_rules(
    connection: Connection, rules: Iterable[Rule], now: int, formation_id: str | None = None
) -> list[Finding]:
    """Return which of ``rules`` the rows break. One that cannot be asked keeps no other from it."""
    return _ask(connection, [(rule.name, partial(rule.findings, connection, now, formation_id)) for rule in rules])


def _ask(connection: Connection, questions: Iterable[tuple[str, Callable[[], list[Finding]]]]) -> list[Finding]:
    found: list[Finding] = []
    refused: list[str] = []
    with reading_anything(connection):
        for name, question in questions:
            try:
                with connection.begin_nested():
                    found += question()
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                refused.append(name)
    return found if not refused else [*found, _refused(refused)]


def _refused(rules: list[str]) -> Finding:
    return Finding(
        None,
        "rule-not-asked",
        len(rules),
        "The database refused these rules, or could not read the rows for them.",
        "Mend what the other findings name, and check again. Where it stays (on PostgreSQL the server's log says why), "
        "restore the database from a back-up.",
        about=", ".join(rules),
    )


def rules_for(dialect: str) -> Iterator[Rule]:
    """Return the rules that hold on one of the databases."""
    return (rule for rule in RULES if rule.dialect in (None, dialect))
