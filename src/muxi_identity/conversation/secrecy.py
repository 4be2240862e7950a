"""What is never remembered, whoever answers: keys and passwords."""

from __future__ import annotations

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.redaction import find_secret

REFUSED = "I don't keep keys or passwords in memory."


def may_keep(statement: str) -> bool:
    """Tell whether a statement may be remembered."""
    return find_secret(statement) is None


def may_keep_fact(fact: Fact) -> bool:
    """Tell whether a fact may be remembered: neither a part of it looks like a secret, nor key and value together."""
    parts = (fact.content, fact.key, fact.value or "", f"{fact.key}: {fact.value}")
    return all(map(may_keep, parts))
