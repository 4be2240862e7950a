"""A fact: one durable statement about a person."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """One durable statement about a person.

    ``key`` is the folded attribute that a later statement replaces (``"budget"``), ``value`` what was said of it
    (``"$5,000"``), ``content`` the statement as a sentence (``"My budget is $5,000"``). ``value=None`` retracts: what
    was said of the key is deleted.
    """

    key: str
    content: str
    value: str | None
