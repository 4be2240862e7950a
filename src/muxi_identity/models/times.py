"""Times as they are shown: ISO 8601 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(at: int) -> str:
    """Return microseconds since 1970 as ISO 8601 in UTC, always with six decimals."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def iso_or_none(at: int | None) -> str | None:
    """Return :func:`iso` of ``at``, None where there is none."""
    return None if at is None else iso(at)


def microseconds(at: datetime) -> int:
    """Return an aware time as microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)
