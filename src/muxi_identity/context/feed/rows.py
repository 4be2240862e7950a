"""What happened to a person lately, read from where it is kept anyway: nothing is written for those who listen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sqlalchemy import exists, func, or_, select
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.person import members_of
from muxi_identity.context.sessions.rows import readable
from muxi_identity.context.tasks.rows import list_finished_runs
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.naming import member_now
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import iso
from muxi_identity.storage.tables import messages, sessions, task_runs, users

MOST_AT_ONCE = 500
_ASSISTANT = "assistant"
_PEOPLE_AT_ONCE = 500  # a statement takes only so many parameters


class Happening(NamedTuple):
    """One thing that happened. ``at`` in microseconds; ``key`` tells it from all others of the person."""

    at: int
    key: tuple[object, ...]
    kind: Literal["turn", "job"]
    data: Mapping[str, Any]


def stirred(tx: Transaction, members: Mapping[int, int]) -> set[int]:
    """Return those of ``members``, each with a time, whose person was spoken with or had a task run since."""
    me, them = users.alias("me"), users.alias("them")
    found: set[int] = set()
    pks = sorted(members)
    for begin in range(0, len(pks), _PEOPLE_AT_ONCE):
        some = pks[begin : begin + _PEOPLE_AT_ONCE]
        since = min(members[pk] for pk in some)
        spoken = exists().where(
            sessions.c.formation_id == tx.formation_id,
            sessions.c.user_pk == them.c.pk,
            sessions.c.last_activity_at >= since,
        )
        run = exists().where(
            task_runs.c.formation_id == tx.formation_id,
            task_runs.c.user_pk == them.c.pk,
            task_runs.c.finished_at >= since,
        )
        found |= set(
            tx.connection.execute(
                select(me.c.pk)
                .distinct()
                .join(them, (them.c.formation_id == me.c.formation_id) & (them.c.root_pk == me.c.root_pk))
                .where(me.c.formation_id == tx.formation_id, me.c.pk.in_(some), or_(spoken, run))
            ).scalars()
        )
    return found


def list_happenings(tx: Transaction, hit: Hit, since: int, *, own: bool) -> tuple[str, list[Happening]]:
    """Return who the person is now, and what happened to them from ``since`` on, the oldest first, 500 at most.

    ``own``: of their turns, those alone in sessions that the caller's identifier may read.

    Raises:
        UserNotFoundError: The user was deleted or the identifier unlinked meanwhile.
    """
    member = member_now(tx, hit)
    user_id: str = tx.connection.execute(
        select(users.c.public_id).where(tx.users_where(users.c.pk == member.root_pk))
    ).scalar_one()
    mine = hit._replace(member_pk=member.pk)
    whose = readable(tx, mine) if own else sessions.c.user_pk.in_(members_of(tx, mine))
    found = [*_turns(tx, whose, user_id, since), *_jobs(tx, mine, since)]
    return user_id, sorted(found, key=lambda each: each.at)[:MOST_AT_ONCE]


def _turns(tx: Transaction, whose: ColumnElement[bool], user_id: str, since: int) -> list[Happening]:
    # What is said in one turn has one time in its session: of several messages, the last is the reply.
    replies = (
        select(func.max(messages.c.pk).label("pk"))
        .join(
            sessions,
            (sessions.c.formation_id == messages.c.formation_id) & (sessions.c.pk == messages.c.session_pk),
        )
        .where(
            sessions.c.formation_id == tx.formation_id,
            whose,
            sessions.c.last_activity_at >= since,
            messages.c.created_at >= since,
            messages.c.role == _ASSISTANT,
        )
        .group_by(messages.c.session_pk, messages.c.created_at)
        .order_by(messages.c.created_at, messages.c.session_pk)
        .limit(MOST_AT_ONCE)
        .subquery()
    )
    rows = tx.connection.execute(
        select(messages.c.session_pk, messages.c.created_at, messages.c.content, sessions.c.session_id)
        .join(replies, messages.c.pk == replies.c.pk)
        .join(
            sessions,
            (sessions.c.formation_id == messages.c.formation_id) & (sessions.c.pk == messages.c.session_pk),
        )
        .where(messages.c.formation_id == tx.formation_id)
        .order_by(messages.c.created_at, messages.c.session_pk)
    )
    return [
        Happening(
            row.created_at,
            ("turn", row.session_pk, row.created_at),
            "turn",
            {
                "message": {"role": _ASSISTANT, "content": row.content},
                "user_id": user_id,
                "session_id": row.session_id,
                "created_at": iso(row.created_at),
            },
        )
        for row in rows
    ]


def _jobs(tx: Transaction, hit: Hit, since: int) -> list[Happening]:
    finished = list_finished_runs(tx, hit, since, MOST_AT_ONCE)
    return [Happening(at, ("job", run["run_id"]), "job", run) for at, run in finished]
