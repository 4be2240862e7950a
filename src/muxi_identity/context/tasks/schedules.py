"""When a task runs: by a cron expression, or once at a time. Pure: the time of day is an argument.

Local times are read in a time zone, whose clocks are set forward and back:

- A time that the clocks skip means the moment at which they skip it: ``30 2 * * *`` runs at 03:00 that day.
- A time that they repeat means its first occurrence: no run is doubled.
- Where the minute or the hour begins with ``*`` the expression names a rhythm, not a time: it runs whenever the clock
  shows what it says, so that ``*/15 * * * *`` neither pauses nor doubles up, and ``0 * * * *`` runs every hour.

That is what cron does on Debian. ``cronsim`` reads the expressions and walks over plain local times; what these mean is
settled here, also where clocks are set by half an hour.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from muxi_identity.errors import InvalidScheduleError
from muxi_identity.models.times import iso, microseconds

CRON, ONCE = "cron", "once"
MOST_MISSED = 1_000  # missed runs are counted up to this
_MAX_CRON = 200  # characters
_MAX_TIME = 64
_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_EXAMPLE = "'0 9 * * MON-FRI' is 09:00 from Monday to Friday"
_AT_EXAMPLE = "'2030-01-31T09:00' in the task's time zone, or '2030-01-31T09:00+01:00'"
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_NO_PLACES = {"localtime", "Factory"}  # names of whatever this machine is set to, and of nothing
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = 60_000_000
_SHIFT = timedelta(hours=3)  # no clock is set by more


class Schedule(NamedTuple):
    """When a task runs: ``kind`` is ``"cron"`` or ``"once"``, ``text`` the expression or the time as it is kept."""

    kind: str
    text: str
    timezone: str


def read_schedule(cron: object, at: object, timezone: object, now: int) -> Schedule:
    """Return the schedule that a caller asks for, by a cron expression or by the time of a single run.

    ``at`` is an ISO 8601 text or a datetime; without an offset it is read in ``timezone``.

    Raises:
        InvalidScheduleError: Not exactly one of both is given, one cannot be read, or no run lies after ``now``.
    """
    if (cron is None) == (at is None):
        raise InvalidScheduleError(f"Pass either cron or at: cron={_EXAMPLE}; at={_AT_EXAMPLE}.")
    zone = check_timezone(timezone)
    schedule = Schedule(ONCE, _read_at(at, zone), zone) if cron is None else Schedule(CRON, _read_cron(cron), zone)
    if next_run(*schedule, now) is None:
        raise _no_run(schedule, now)
    return schedule


def next_run(kind: str, schedule: str, timezone: str, after: int) -> int | None:
    """Return when the first run after ``after`` is due (both in microseconds since 1970), None where there is none.

    Raises:
        InvalidScheduleError: The schedule or the time zone cannot be read.
    """
    return next(_runs(Schedule(kind, schedule, timezone), after), None)


def next_shown(kind: str, schedule: str, timezone: str, after: int) -> int | None:
    """Do as :func:`next_run` for whoever only shows it: None also where the schedule cannot be read any more."""
    try:
        return next_run(kind, schedule, timezone, after)
    except InvalidScheduleError:
        return None


def last_due(schedule: Schedule, first: int, until: int) -> tuple[int, int]:
    """Return the last run that is due by ``until``, and how many were due from ``first``, itself due, until that one.

    What is missed is counted up to ``MOST_MISSED``.

    Raises:
        InvalidScheduleError: The schedule or the time zone cannot be read.
    """
    last, missed = first, 0
    for at in islice(_runs(schedule, first), MOST_MISSED):
        if at > until:
            return last, missed
        last, missed = at, missed + 1
    high = until  # between two runs there is a minute or more
    while high - last >= _MINUTE:
        middle = (last + high) // 2
        following = next_run(*schedule, middle)
        if following is None or following > until:
            high = middle
        else:
            last = following
    return last, missed


def check_timezone(timezone: object) -> str:
    """Return the name of a time zone as the time zone database spells it.

    Raises:
        InvalidScheduleError: There is none of that name.
    """
    if not isinstance(timezone, str):
        raise InvalidScheduleError("timezone must be the name of a time zone, such as 'Europe/Berlin' or 'UTC'.")
    zones = _zones()
    name = zones.get(_folded(timezone[:_MAX_TIME]))
    if name is None:
        near = _near(_folded(timezone[:_MAX_TIME]), zones)
        mend = f"did you mean {' or '.join(near)}?" if near else "pass a name such as 'Europe/Berlin' or 'UTC'."
        raise InvalidScheduleError(f"timezone: there is no time zone {timezone[:_MAX_TIME]!r}; {mend}")
    return name


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    return {_folded(name): name for name in sorted(available_timezones() - _NO_PLACES)}


def _folded(name: str) -> str:
    return name.strip().replace(" ", "_").casefold()


def _near(asked: str, zones: dict[str, str]) -> list[str]:
    cities = [name for folded, name in zones.items() if folded.rpartition("/")[2] == asked.rpartition("/")[2]]
    return cities[:3] or [zones[near] for near in difflib.get_close_matches(asked, zones, 3, 0.75)]


def _read_cron(cron: object) -> str:
    if not isinstance(cron, str) or len(cron) > _MAX_CRON:
        raise InvalidScheduleError(f"cron must be a text of at most {_MAX_CRON} characters: {_EXAMPLE}.")
    fields = _NAMED.get(cron.strip().lower(), cron).split()
    if len(fields) != len(_FIELDS):
        raise InvalidScheduleError(
            f"cron has {len(fields)} fields and takes five ({', '.join(_FIELDS)}): {_EXAMPLE}; "
            f"or one of {', '.join(_NAMED)}."
        )
    text = " ".join(fields)
    try:
        CronSim(text, datetime(2000, 1, 1))
    except CronSimError as error:
        raise _bad_field(fields, str(error)) from None
    return text


def _bad_field(fields: list[str], problem: str) -> InvalidScheduleError:
    number = next((place for place, name in enumerate(_FIELDS) if problem.endswith(name)), 0)
    try:
        CronSim(" ".join([*fields[:3], "*", *fields[4:]]), datetime(2000, 1, 1))
    except CronSimError:
        return InvalidScheduleError(f"cron: the {_FIELDS[number]} field {fields[number]!r} cannot be read: {_EXAMPLE}.")
    if _FIELDS[number] == "month":
        return InvalidScheduleError(f"cron: the month field {fields[3]!r} cannot be read: {_EXAMPLE}.")
    return InvalidScheduleError(f"cron: {' '.join(fields)!r} never comes: no such month has day {fields[2]}.")


def _read_at(at: object, timezone: str) -> str:
    if isinstance(at, str) and len(at) <= _MAX_TIME:
        at = _parse_time(at.strip())
    if not isinstance(at, datetime):
        raise InvalidScheduleError(f"at must be an ISO 8601 text or a datetime: {_AT_EXAMPLE}.")
    if at.utcoffset() is None:
        at = at.replace(tzinfo=ZoneInfo(timezone) if at.fold else None)  # a text has no fold: it gets the offset
    try:
        at.astimezone(UTC)
        return at.isoformat()
    except (OverflowError, ValueError):
        raise InvalidScheduleError(f"at is no time that can come: {_AT_EXAMPLE}.") from None


def _parse_time(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidScheduleError(f"at: {text!r} is no time in ISO 8601: {_AT_EXAMPLE}.") from None
    try:
        date.fromisoformat(text)
    except ValueError:
        return parsed
    raise InvalidScheduleError(f"at: {text!r} is a day without a time: {_AT_EXAMPLE}.")


def _no_run(schedule: Schedule, now: int) -> InvalidScheduleError:
    if schedule.kind == CRON:
        return InvalidScheduleError(f"cron: {schedule.text!r} never comes: no day is all that it says.")
    shown = f"at: {schedule.text!r}" + ("" if _has_offset(schedule.text) else f" in {schedule.timezone}")
    return InvalidScheduleError(f"{shown} lies in the past: it is {iso(now)} now.")


def _has_offset(text: str) -> bool:
    return datetime.fromisoformat(text).utcoffset() is not None


def _runs(schedule: Schedule, after: int) -> Iterator[int]:
    try:
        zone = ZoneInfo(schedule.timezone)
    except (OSError, ValueError, KeyError):  # kept by a machine that had another time zone database
        raise InvalidScheduleError(f"timezone: there is no time zone {schedule.timezone!r} on this machine.") from None
    try:
        if schedule.kind == ONCE:
            at = microseconds(_instant(datetime.fromisoformat(schedule.text), zone))
            if at > after:
                yield at
            return
        rhythm = any(field.startswith("*") for field in schedule.text.split()[:2])
        for moment in (_rhythm if rhythm else _times)(schedule.text, zone, _EPOCH + timedelta(microseconds=after)):
            yield microseconds(moment)
    except (CronSimError, ValueError):
        raise InvalidScheduleError(f"The schedule {schedule.text!r} cannot be read: {_EXAMPLE}.") from None
    except OverflowError:  # the end of the calendar
        return


def _times(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Give the moments of an expression that names times of day."""
    for wall in CronSim(cron, _local(after, zone)):
        moment = _instant(wall, zone)
        if moment > after:  # else a repeated time, or two that were skipped together
            yield moment
            after = moment


def _rhythm(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Give the moments of an expression that names a rhythm: all at which the clock shows what it says."""
    while True:
        moment = _next_shown(cron, zone, after)
        if moment is None:
            return
        yield moment
        after = moment


def _next_shown(cron: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    wall = _local(after, zone)
    around = [(after + shift).astimezone(zone).utcoffset() for shift in (-_SHIFT, _SHIFT)]
    if around[0] == around[1]:  # no clock is set nearby: later on the clock is later in time
        return next((moment for shown in CronSim(cron, wall) for moment in _moments(shown, zone)), None)
    first: tuple[datetime, datetime] | None = None
    for shown in CronSim(cron, wall - _SHIFT):
        if first is not None and shown > first[1] + _SHIFT:
            break
        for moment in _moments(shown, zone):
            if moment > after and (first is None or moment < first[0]):
                first = (moment, shown)
    return None if first is None else first[0]


def _instant(at: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment that a time means: the first if it is repeated, the end of the gap if it is skipped."""
    if at.utcoffset() is not None:
        return at.astimezone(UTC)
    moments = _moments(at, zone)
    if moments:
        return moments[0]
    # Read with the offset after the gap it lies before it, and the other way round: between the two the clocks are set.
    before, end = (at.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    offset = before.astimezone(zone).utcoffset()
    while end - before > timedelta(seconds=1):
        middle = (before + (end - before) / 2).replace(microsecond=0)
        if middle <= before:
            break
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            end = middle
    return end.replace(microsecond=0)


def _moments(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the moments at which the clocks of a zone show a time: none, one or two."""
    found: list[datetime] = []
    for fold in (0, 1):
        moment = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if moment not in found and _local(moment, zone) == wall:
            found.append(moment)
    return found


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)
