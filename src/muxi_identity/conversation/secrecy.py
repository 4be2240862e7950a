"""What is never remembered, whoever answers: keys and passwords, and attributes that look like what has none."""

from __future__ import annotations

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.redaction import find_secret
from muxi_identity.storage.tables import DIGEST

REFUSED = "I don't keep keys or passwords in memory."


def may_keep(statement: str) -> bool:
    """Tell whether a statement may be remembered."""
    return find_secret(statement) is None


def may_keep_fact(fact: Fact) -> bool:
    """Tell whether a fact may be remembered: neither a part of it looks like a secret, nor key and value together.

    Nor does its key begin as those of memories do that are about nothing: it could not be asked for.
    """
    parts = (fact.content, fact.key, fact.value or "", f"{fact.key}: {fact.value}")
    return not fact.key.startswith(DIGEST) and all(map(may_keep, parts))
