"""When tasks run: cron, single runs, time zones whose clocks are set, and everything that cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxi_identity.context.tasks import schedules
from muxi_identity.context.tasks.schedules import MOST_MISSED, Schedule, last_due, next_run, read_schedule
from muxi_identity.context.tasks.task import MAX_TASK_MESSAGE, new_task
from muxi_identity.errors import InvalidScheduleError, SecretRefusedError, TooLargeError
from muxi_identity.models import microseconds

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
# Each zone with the days around both changes of 2026.
CHANGES = [
    (BERLIN, datetime(2026, 3, 28), datetime(2026, 3, 31)),
    (BERLIN, datetime(2026, 10, 24), datetime(2026, 10, 27)),
    (NEW_YORK, datetime(2026, 3, 7), datetime(2026, 3, 10)),
    (NEW_YORK, datetime(2026, 10, 31), datetime(2026, 11, 3)),
    (LORD_HOWE, datetime(2026, 10, 3), datetime(2026, 10, 6)),
    (LORD_HOWE, datetime(2026, 4, 4), datetime(2026, 4, 7)),
]
NOW = microseconds(datetime(2026, 6, 1, 12, tzinfo=UTC))


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return microseconds(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold))


def runs(cron: str, zone: str, after: str, number: int) -> list[str]:
    """The next runs as the clocks of the zone show them, with the offset in hours."""
    found, last = [], at(after, zone)
    for _ in range(number):
        following = next_run("cron", cron, zone, last)
        assert following is not None
        assert following > last
        last = following
        shown = datetime.fromtimestamp(last / 1e6, ZoneInfo(zone))
        offset = shown.utcoffset()
        assert offset is not None
        found.append(f"{shown:%m-%d %H:%M} {offset / timedelta(hours=1):+g}")
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # The clocks skip 02:00 to 03:00.
        ("30 2 * * *", BERLIN, "2026-03-28T03:00", ["03-29 03:00 +2", "03-30 02:30 +2"]),
        ("0,30 2,3 * * *", BERLIN, "2026-03-28T04:00", ["03-29 03:00 +2", "03-29 03:30 +2", "03-30 02:00 +2"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28T03:00", ["03-30 02:00 +2", "03-30 02:30 +2"]),
        ("*/30 * * * *", BERLIN, "2026-03-29T01:00", ["03-29 01:30 +1", "03-29 03:00 +2", "03-29 03:30 +2"]),
        ("30 2 8 3 *", NEW_YORK, "2026-03-01T00:00", ["03-08 03:00 -4", "03-08 02:30 -5"]),
        # They repeat 02:00 to 03:00, in New York 01:00 to 02:00.
        ("30 2 * * *", BERLIN, "2026-10-24T03:00", ["10-25 02:30 +2", "10-26 02:30 +1"]),
        ("0,30 * * * *", BERLIN, "2026-10-25T02:00", ["10-25 02:30 +2", "10-25 02:00 +1", "10-25 02:30 +1"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T02:00", ["11-01 01:30 -4", "11-02 01:30 -5"]),
        ("0 * * * *", NEW_YORK, "2026-11-01T00:30", ["11-01 01:00 -4", "11-01 01:00 -5", "11-01 02:00 -5"]),
        # They are set by half an hour, at 02:00.
        ("10 2 * * *", LORD_HOWE, "2026-10-03T03:00", ["10-04 02:30 +11", "10-05 02:10 +11"]),
        ("*/15 2 * * *", LORD_HOWE, "2026-10-03T03:00", ["10-04 02:30 +11", "10-04 02:45 +11", "10-05 02:00 +11"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T03:00", ["04-05 01:45 +11", "04-06 01:45 +10.5"]),
        ("*/15 2 * * *", LORD_HOWE, "2026-04-04T03:00", ["04-05 02:00 +10.5", "04-05 02:15 +10.5"]),
        ("*/30 * * * *", LORD_HOWE, "2026-04-05T01:00", ["04-05 01:30 +11", "04-05 01:30 +10.5", "04-05 02:00 +10.5"]),
    ],
)
def test_where_clocks_are_set(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert runs(cron, zone, after, len(expected)) == expected


def test_a_time_that_was_repeated_is_not_run_again_after_its_first_occurrence() -> None:
    """A look from within the second pass must not go back to the first one."""
    second_pass = at("2026-10-25T02:05", BERLIN, fold=1)
    assert next_run("cron", "15 2 * * *", BERLIN, second_pass) == at("2026-10-26T02:15", BERLIN)


MINUTES = st.sets(st.integers(0, 59), min_size=1, max_size=3)
HOURS = st.sets(st.integers(0, 4), min_size=1, max_size=3)


def shown_by_minute(zone: str, start: datetime, end: datetime) -> list[tuple[int, datetime, int]]:
    """Every minute as it passes, with what the clocks show, and the fold."""
    moment, found = start.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC), []
    while (local := moment.astimezone(ZoneInfo(zone))).replace(tzinfo=None) < end:
        found.append((microseconds(moment), local.replace(tzinfo=None, fold=0), local.fold))
        moment += timedelta(minutes=1)
    return found


@settings(max_examples=40, deadline=None)
@given(change=st.sampled_from(CHANGES), minutes=MINUTES)
def test_a_rhythm_is_what_a_watch_would_show(change: tuple[str, datetime, datetime], minutes: set[int]) -> None:
    zone, start, end = change
    fields = ",".join(map(str, sorted(minutes)))
    passing = shown_by_minute(zone, start, end)
    expected = [moment for moment, wall, _ in passing[1:] if wall.minute in minutes]
    schedule = Schedule("cron", f"{fields} * * * *", zone)
    assert list(islice(schedules._runs(schedule, passing[0][0]), len(expected))) == expected


@settings(max_examples=40, deadline=None)
@given(change=st.sampled_from(CHANGES), minutes=MINUTES, hours=HOURS)
def test_a_time_of_day_comes_once_a_day(
    change: tuple[str, datetime, datetime], minutes: set[int], hours: set[int]
) -> None:
    zone, start, end = change
    cron = f"{','.join(map(str, sorted(minutes)))} {','.join(map(str, sorted(hours)))} * * *"
    passing = shown_by_minute(zone, start, end)
    expected: list[int] = []
    for day in range(3):
        for hour in sorted(hours):
            for minute in sorted(minutes):
                wall = start + timedelta(days=day, hours=hour, minutes=minute)
                # The first minute that shows it, or else the first that shows a later time on that day.
                moment = next(moment for moment, shown, _ in passing if shown >= wall)
                if moment > passing[0][0] and moment not in expected:
                    expected.append(moment)
    found = list(islice(schedules._runs(Schedule("cron", cron, zone), passing[0][0]), len(expected)))
    assert found == sorted(expected)


@pytest.mark.parametrize("zone", ["UTC", BERLIN, LORD_HOWE, "Asia/Kathmandu", "America/St_Johns"])
def test_runs_lie_a_minute_apart_or_more(zone: str) -> None:
    for cron in ("* * * * *", "* 2 * * *", "59 1,2 * * *", "0,1 2,3 * * *"):
        found = list(islice(schedules._runs(Schedule("cron", cron, zone), at("2026-03-28T23:00", zone)), 400))
        assert all(later - sooner >= 60_000_000 for sooner, later in pairwise(found))


def test_the_syntax_of_cron() -> None:
    assert runs("0 9 * * MON-FRI", "UTC", "2026-06-05T10:00", 2) == ["06-08 09:00 +0", "06-09 09:00 +0"]
    assert runs("0 9 * * fri#2", "UTC", "2026-06-01T10:00", 2) == ["06-12 09:00 +0", "07-10 09:00 +0"]
    assert runs("0 9 L * *", "UTC", "2026-06-01T10:00", 2) == ["06-30 09:00 +0", "07-31 09:00 +0"]
    assert runs("0 0 29 feb *", "UTC", "2026-06-01T10:00", 2) == ["02-29 00:00 +0", "02-29 00:00 +0"]
    assert read_schedule(" @daily ", None, "UTC", NOW).text == "0 0 * * *"
    assert read_schedule("  0\t9  * * 1 ", None, "UTC", NOW) == Schedule("cron", "0 9 * * 1", "UTC")


@pytest.mark.parametrize(
    ("cron", "names"),
    [
        ("61 * * * *", "minute field '61'"),
        ("0 24 * * *", "hour field '24'"),
        ("0 0 0 * *", "day-of-month field '0'"),
        ("0 0 1 13 *", "month field '13'"),
        ("0 0 30 13 *", "month field '13'"),
        ("0 0 * * 8", "day-of-week field '8'"),
        ("0 0 * * MON#6", "day-of-week field"),
        ("*/0 * * * *", "minute field"),
        ("5-1 * * * *", "minute field"),
        ("１ * * * *", "minute field"),
        ("0 0 30 2 *", "never comes: no such month has day 30"),
        ("0 0 31 2,4,6,9,11 *", "never comes"),
        ("0 0 */20 2 1#5", "never comes"),
        ("* * * * * *", "has 6 fields and takes five"),
        ("* * * *", "has 4 fields and takes five"),
        ("@reboot", "or one of @hourly"),
        ("", "has 0 fields"),
        ("0 " * 200, "at most 200 characters"),
        (7, "must be a text"),
        (b"* * * * *", "must be a text"),
        (True, "must be a text"),
    ],
)
def test_what_is_no_cron(cron: object, names: str) -> None:
    with pytest.raises(InvalidScheduleError) as raised:
        read_schedule(cron, None, "UTC", NOW)
    assert names in str(raised.value)
    assert "09:00" in str(raised.value) or "never" in str(raised.value)  # an example


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789*/-,#LW @abMON\u0663\x00", max_size=30) | st.text(max_size=30))
def test_any_text_is_a_cron_or_a_clear_error(text: str) -> None:
    try:
        schedule = read_schedule(text, None, BERLIN, NOW)
    except InvalidScheduleError:
        return
    following = next_run(*schedule, NOW)
    assert following is not None
    assert following > NOW


@pytest.mark.parametrize(
    ("given_", "zone", "text", "moment"),
    [
        ("2026-07-01T09:00", BERLIN, "2026-07-01T09:00:00", "2026-07-01T07:00"),
        ("2026-07-01 09:00:30", "UTC", "2026-07-01T09:00:30", "2026-07-01T09:00:30"),
        ("2026-07-01T09:00Z", BERLIN, "2026-07-01T09:00:00+00:00", "2026-07-01T09:00"),
        ("20260701T0900-0500", BERLIN, "2026-07-01T09:00:00-05:00", "2026-07-01T14:00"),
        (datetime(2026, 7, 1, 9), NEW_YORK, "2026-07-01T09:00:00", "2026-07-01T13:00"),
        (datetime(2026, 7, 1, 9, tzinfo=ZoneInfo(BERLIN)), "UTC", "2026-07-01T09:00:00+02:00", "2026-07-01T07:00"),
        # Skipped: the moment at which it is. Repeated: the first, unless the datetime says the second.
        ("2027-03-28T02:30:15", BERLIN, "2027-03-28T02:30:15", "2027-03-28T01:00"),
        ("2026-10-04T02:10", LORD_HOWE, "2026-10-04T02:10:00", "2026-10-03T15:30"),
        ("2026-10-25T02:30", BERLIN, "2026-10-25T02:30:00", "2026-10-25T00:30"),
        (datetime(2026, 10, 25, 2, 30, fold=1), BERLIN, "2026-10-25T02:30:00+01:00", "2026-10-25T01:30"),
        ("9999-12-31T23:59:59.999999", "UTC", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"),
    ],
)
def test_a_single_run(given_: object, zone: str, text: str, moment: str) -> None:
    schedule = read_schedule(None, given_, zone, NOW)
    assert schedule == Schedule("once", text, zone)
    assert next_run(*schedule, NOW) == at(moment)
    assert next_run(*schedule, at(moment) - 1) == at(moment)
    assert next_run(*schedule, at(moment)) is None


@pytest.mark.parametrize(
    ("given_", "names"),
    [
        ("2026-06-01T12:00", "lies in the past: it is 2026-06-01T12:00:00.000000Z now"),
        ("2020-01-01T00:00+14:00", "lies in the past"),
        (datetime(2026, 6, 1, 11, 59, tzinfo=UTC), "lies in the past"),
        ("2026-07-01", "a day without a time"),
        ("2026-W27-2", "a day without a time"),
        ("tomorrow", "no time in ISO 8601"),
        ("", "no time in ISO 8601"),
        ("2026-02-30T09:00", "no time in ISO 8601"),
        ("2026-07-01T09:00" + " " * 100, "must be an ISO 8601 text"),
        ("9999-12-31T23:59:59-12:00", "no time that can come"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), "no time that can come"),
        (1_800_000_000, "must be an ISO 8601 text"),
        (datetime(2026, 7, 1).date(), "must be an ISO 8601 text"),
    ],
)
def test_what_is_no_time(given_: object, names: str) -> None:
    with pytest.raises(InvalidScheduleError) as raised:
        read_schedule(None, given_, "UTC", NOW)
    assert names in str(raised.value)


def test_exactly_one_of_cron_and_at() -> None:
    for cron, once in ((None, None), ("* * * * *", "2030-01-01T00:00")):
        with pytest.raises(InvalidScheduleError, match="either cron or at"):
            read_schedule(cron, once, "UTC", NOW)


@pytest.mark.parametrize(
    ("zone", "name"),
    [("europe/berlin", BERLIN), (" America/New York ", NEW_YORK), ("utc", "UTC"), ("Asia/Kolkata", "Asia/Kolkata")],
)
def test_time_zones_are_read_as_people_write_them(zone: str, name: str) -> None:
    assert read_schedule("0 9 * * *", None, zone, NOW).timezone == name


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ("Berlin", "did you mean Europe/Berlin?"),
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("Mars/Olympus_Mons", "pass a name such as"),
        ("localtime", "pass a name such as"),
        ("../../etc/passwd", "there is no time zone"),
        ("/etc/localtime", "there is no time zone"),
        ("UTC\x00", "there is no time zone"),
        ("", "there is no time zone"),
        ("x" * 5000, "there is no time zone"),
        (None, "must be the name"),
        (2, "must be the name"),
        (UTC, "must be the name"),
    ],
)
def test_unknown_time_zones(zone: object, says: str) -> None:
    with pytest.raises(InvalidScheduleError) as raised:
        read_schedule("0 9 * * *", None, zone, NOW)
    assert says in str(raised.value)
    assert len(str(raised.value)) < 300


def test_what_another_machine_kept_and_this_one_cannot_read() -> None:
    for schedule in (
        Schedule("cron", "0 9 * * *", "Mars/Olympus"),
        Schedule("cron", "x", "UTC"),
        Schedule("once", "x", "UTC"),
    ):
        with pytest.raises(InvalidScheduleError):
            next_run(*schedule, NOW)


# What was missed


@settings(max_examples=40, deadline=None)
@given(
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "0 3 * * *", "30 2 * * SUN", "0 0 1 * *"]),
    zone=st.sampled_from(["UTC", BERLIN, LORD_HOWE]),
    start=st.integers(0, 400),
    minutes=st.integers(0, 3 * 1440),
)
def test_the_last_of_those_due(cron: str, zone: str, start: int, minutes: int) -> None:
    first = next_run("cron", cron, zone, NOW + start * 86_400_000_000)
    assert first is not None
    until = first + minutes * 60_000_000 + 1
    due = [first]
    while (following := next_run("cron", cron, zone, due[-1])) is not None and following <= until:
        due.append(following)
        if len(due) > MOST_MISSED + 1 and cron == "* * * * *":  # a minute each: the rest is plain
            due += range(due[-1] + 60_000_000, until + 1, 60_000_000)
            break
    last, missed = last_due(Schedule("cron", cron, zone), first, until)
    assert last == due[-1]
    assert missed == min(len(due) - 1, MOST_MISSED)


def test_years_of_missed_minutes_are_found_quickly() -> None:
    first = at("2026-01-01T00:00")
    asked: list[int] = []
    original = schedules.next_run
    try:
        schedules.next_run = lambda *given: asked.append(1) or original(*given)  # type: ignore[func-returns-value, assignment]
        found = last_due(Schedule("cron", "* * * * *", BERLIN), first, at("2036-01-01T00:00") + 5)
    finally:
        schedules.next_run = original
    assert found == (at("2036-01-01T00:00"), MOST_MISSED)
    assert len(asked) < 64


# The task


def test_a_new_task() -> None:
    task = new_task("  What is due?  ", cron="0 9 * * *", timezone=BERLIN, now=NOW)
    assert task.message == "  What is due?  "
    assert task.next_run_at == at("2026-06-02T09:00", BERLIN)
    with pytest.raises(TooLargeError) as raised:
        new_task("x" * (MAX_TASK_MESSAGE + 1), cron="0 9 * * *", now=NOW)
    assert raised.value.limit == MAX_TASK_MESSAGE
    with pytest.raises(SecretRefusedError, match="set_credential") as refused:
        new_task("Use ghp_abcdefghijklmnopqrstuvwxyz0123456789", cron="0 9 * * *", now=NOW)
    assert "abcdefgh" not in str(refused.value)
