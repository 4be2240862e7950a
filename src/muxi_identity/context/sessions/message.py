"""A message of a session."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``role`` is ``"user"`` or ``"assistant"``; ``at`` is in microseconds, None while it is new."""

    role: str
    content: str
    at: int | None = None
