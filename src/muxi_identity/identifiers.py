"""Identifiers: parse, normalise, refuse. Pure: no clock, no database, no key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What a formation says of one identifier type."""

    secret: bool = False
    max_per_user: int | None = None


@dataclass(frozen=True, slots=True)
class IdentifierRules:
    """What a formation says of identifiers. ``types`` is complete: built-in rules with the formation's own over them."""

    types: Mapping[str, TypeRule] = field(default_factory=dict)
    refuse: frozenset[str] = frozenset()
    allow: frozenset[str] = frozenset()
    max_per_user: int = 100


@dataclass(frozen=True, slots=True)
class PublicId:
    """A user named by its public id, ``usr_...``."""

    user_id: str


@dataclass(frozen=True, slots=True)
class Identifier:
    """One identifier, parsed and normalised."""

    spelling: str
    value: str
    fold: str
    type: str | None = None
    scope: str | None = None
    secret: bool = False
    verified: bool = False
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None
