"""What must be true of a database at any time, asked of the database itself.

The schema's own constraints keep much of it. This is for operators (after a restore, after work by hand, when in
doubt) and for tests. All rules of one run are asked in one snapshot, set by set: it takes time, not memory, and no
writer waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from muxi_identity.storage.checks.constraints import constraint_rules
from muxi_identity.storage.checks.context import (
    JSON_RULES,
    MEMORY_RULES,
    OTHER_RULES,
    SESSION_RULES,
    TASK_RULES,
    WORKING_RULES,
)
from muxi_identity.storage.checks.engine import engine_findings
from muxi_identity.storage.checks.identity import HISTORY_RULES, IDENTIFIER_RULES, LEDGER_RULES, USER_RULES
from muxi_identity.storage.checks.keys import key_rules
from muxi_identity.storage.checks.rule import BROKEN, NOTICE, Finding, Rule
from muxi_identity.storage.checks.serving import SERVING_RULES

RULES = (
    *USER_RULES,
    *IDENTIFIER_RULES,
    *LEDGER_RULES,
    *HISTORY_RULES,
    *SESSION_RULES,
    *MEMORY_RULES,
    *WORKING_RULES,
    *TASK_RULES,
    *OTHER_RULES,
    *JSON_RULES,
    *SERVING_RULES,
    *key_rules(),
    *constraint_rules(),
)
"""Every rule about rows, of both databases."""

__all__ = ["BROKEN", "NOTICE", "RULES", "Finding", "Rule", "check", "check_rows", "rules_for"]


def check(connection: Connection, now: int) -> list[Finding]:
    """Return all that is broken: in the database as such, then in every formation.

    ``now`` in microseconds since 1970.
    """
    found = engine_findings(connection)
    if any(finding.rule in {"schema-parts", "file-integrity"} for finding in found):
        return found  # the rules could not be asked, or not be believed
    return [*found, *check_rows(connection, now)]


def check_rows(
    connection: Connection, now: int, formation_id: str | None = None, *, constraints: bool = True
) -> list[Finding]:
    """Return the rules that rows break: of all formations, or of one.

    ``constraints=False`` leaves out what a constraint of the schema keeps.
    """
    return [
        finding
        for rule in rules_for(connection.dialect.name)
        if constraints or not rule.kept_by_schema
        for finding in rule.findings(connection, now, formation_id)
    ]


def rules_for(dialect: str) -> Iterator[Rule]:
    """Return the rules that hold on one of the databases."""
    return (rule for rule in RULES if rule.dialect in (None, dialect))
