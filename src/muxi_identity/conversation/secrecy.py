"""What is never remembered, whoever answers: keys and passwords."""

from __future__ import annotations

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.redaction import find_secret

REFUSED = "I don't keep keys or passwords in memory."


def may_keep(statement: str) -> bool:
    """Tell whether a statement may be remembered."""
    return find_secret(statement) is None


def may_keep_fact(fact: Fact) -> bool:
    """Tell whether a fact may be remembered: neither its sentence nor its value looks like a secret."""
    return may_keep(fact.content) and may_keep(fact.value or "")
