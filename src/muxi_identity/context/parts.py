"""The parts of the one-trip load, as selects that begin from what the caller gave: from an identifier's bucket, or from
a public id.

Who is meant is derived in the statement itself, so that no cache can make it wrong. Of several rows in a bucket the
likeliest is taken; whether it is the one that the rules choose is for the caller to see (:mod:`..identity.matching`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import (
    CTE,
    BigInteger,
    BindParameter,
    LargeBinary,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.memories.search import IS_FACT, IS_SHAREABLE, matching_memories, newest_memories
from muxi_identity.context.preferences.rows import folded_preferences
from muxi_identity.context.sessions.rows import spoken_through
from muxi_identity.context.working.rows import live_items
from muxi_identity.storage.gathering import Gathering
from muxi_identity.storage.rows import BucketRow
from muxi_identity.storage.tables import (
    credentials,
    identifiers,
    messages,
    owner_apart,
    sessions,
    synopses,
    tasks,
    users,
)

FORMATION = bindparam("formation_id", type_=Text)
BUCKET = bindparam("bucket", type_=LargeBinary)
TYPE = bindparam("type", type_=Text)
SCOPE = bindparam("scope", type_=Text)
VALUE = bindparam("value", type_=Text)
PUBLIC_ID = bindparam("public_id", type_=Text)
IDENTIFIER = bindparam("identifier_pk", type_=BigInteger)
NOW = bindparam("now", type_=BigInteger)
SESSION = bindparam("session_id", type_=Text)
TERMS = bindparam("terms", type_=Text)
AUDIENCE = bindparam("audience", type_=Text)
IDLE_SINCE = bindparam("idle_since", type_=BigInteger)

MAX_TASKS = 50
MAX_CREDENTIALS = 200

Start = Literal["bucket", "row", "public_id"]


# JSON has no bytes, and which bucket it is the caller knows.
BUCKET_COLUMNS = tuple(name for name in BucketRow._fields if name != "bucket")


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the text of a load; everything else is a parameter.

    ``start``: a bucket of which the likeliest row is taken, a bucket of which the row is known by now, or a public id.
    ``session``: it was named. ``searching``: there is a query. ``shared``: others read along.
    """

    dialect: str
    start: Start
    session: bool
    searching: bool
    shared: bool


@lru_cache(maxsize=128)
def gathering(shape: Shape) -> Gathering:
    """Return the selects of a load of this shape."""
    parts: dict[str, Select[Any]] = {}
    if shape.start == "public_id":
        caller = _cte(shape, _by_public_id(), "caller")
    else:
        bucket = _cte(shape, _bucket(), "bucket")
        parts["bucket"] = select(*(bucket.c[name] for name in BUCKET_COLUMNS)).order_by(bucket.c.slot)
        caller = _cte(shape, _likeliest(bucket, shape), "caller")
    of_root = and_(users.c.formation_id == FORMATION, users.c.root_pk == caller.c.root_pk)
    members = _cte(shape, select(users.c.pk).select_from(caller.join(users, of_root)), "members")
    session = _cte(shape, _session(caller, shape), "session")
    parts["caller"] = select(caller.c.identifier_pk, caller.c.member_pk, caller.c.root_pk, caller.c.public_id)
    parts["session"] = select(session.c.session_id, session.c.audience, session.c.context)
    parts["messages"] = _messages(session)
    parts["preferences"] = _preferences(members, shape)
    seen = [IS_SHAREABLE] if shape.shared else []
    parts["memories"] = newest_memories(shape.dialect, FORMATION, members, limit("memory_limit"), *seen)
    parts["facts"] = newest_memories(shape.dialect, FORMATION, members, limit("fact_limit"), IS_FACT, *seen)
    if shape.searching:
        parts["hits"] = matching_memories(shape.dialect, FORMATION, members, TERMS, *seen)
    parts["working"] = live_items(members, FORMATION, NOW, limit("item_limit"), shared=shape.shared)
    if not shape.shared:
        parts["credentials"] = _credentials(members)
        parts["tasks"] = _tasks(members)
        parts["synopses"] = _synopses(members)
    return Gathering(parts)


def limit(name: str) -> BindParameter[int]:
    """Return the parameter for how many rows a part may bring."""
    return bindparam(name, type_=BigInteger)


def _cte(shape: Shape, statement: Select[Any], name: str) -> CTE:
    # SQLite runs each part on its own, and makes better use of its indexes where it may look through.
    made = statement.cte(name)
    return made.prefix_with("MATERIALIZED") if shape.dialect == "postgresql" else made


def _bucket() -> Select[Any]:
    member, root = users.alias("member"), users.alias("root")
    return (
        select(
            *(identifiers.c[name] for name in BUCKET_COLUMNS if name in identifiers.c),
            member.c.root_pk,
            root.c.public_id,
            identifiers.c.slot,
        )
        .select_from(
            identifiers.outerjoin(
                member, and_(member.c.formation_id == identifiers.c.formation_id, member.c.pk == identifiers.c.user_pk)
            ).outerjoin(root, and_(root.c.formation_id == member.c.formation_id, root.c.pk == member.c.root_pk))
        )
        .where(
            identifiers.c.formation_id == FORMATION,
            identifiers.c.bucket == BUCKET,
            or_(identifiers.c.unlinked_at.is_(None), identifiers.c.secret),
        )
    )


def _likeliest(bucket: CTE, shape: Shape) -> Select[Any]:
    live = and_(bucket.c.unlinked_at.is_(None), or_(bucket.c.expires_at.is_(None), bucket.c.expires_at > NOW))
    found = select(
        bucket.c.pk.label("identifier_pk"), bucket.c.user_pk.label("member_pk"), bucket.c.root_pk, bucket.c.public_id
    ).where(live)
    if shape.start == "row":
        return found.where(bucket.c.pk == IDENTIFIER)
    same_type = and_(bucket.c.type.is_not_distinct_from(TYPE), or_(bucket.c.value == VALUE, bucket.c.secret))
    rank = case((and_(same_type, bucket.c.scope.is_not_distinct_from(SCOPE)), 0), (same_type, 1), else_=2)
    return found.order_by(rank, bucket.c.slot).limit(literal_column("1"))


def _by_public_id() -> Select[Any]:
    root = users.alias("root")
    return (
        select(
            cast(IDENTIFIER, BigInteger).label("identifier_pk"),  # NULL but for what acts through an identifier
            users.c.pk.label("member_pk"),
            users.c.root_pk,
            root.c.public_id,
        )
        .join(root, and_(root.c.formation_id == users.c.formation_id, root.c.pk == users.c.root_pk))
        .where(users.c.formation_id == FORMATION, users.c.public_id == PUBLIC_ID)
    )


def _session(caller: CTE, shape: Shape) -> Select[Any]:
    # Of one caller, and said so: what is joined to several is sorted, all that there is of it.
    member, through = (select(column).scalar_subquery() for column in (caller.c.member_pk, caller.c.identifier_pk))
    found = select(sessions.c.pk, sessions.c.session_id, sessions.c.audience, sessions.c.context).where(
        sessions.c.formation_id == FORMATION, spoken_through(through)
    )
    if shape.session:
        return found.where(sessions.c.user_pk == member, sessions.c.session_id == SESSION)
    current = (sessions.c.audience == AUDIENCE, sessions.c.continued, sessions.c.last_activity_at > IDLE_SINCE)
    return (
        # Both sides without the type of a column: else SQLite takes them for different.
        found.where(owner_apart(sessions) == func.abs(member), *current)
        .order_by(sessions.c.last_activity_at.desc(), sessions.c.pk.desc())
        .limit(literal_column("1"))
    )


def _messages(session: CTE) -> Select[Any]:
    said = and_(messages.c.formation_id == FORMATION, messages.c.session_pk == session.c.pk)
    return (
        select(messages.c.role, messages.c.content, messages.c.created_at)
        .select_from(session.join(messages, said))
        .order_by(messages.c.created_at.desc(), messages.c.pk.desc())
        .limit(limit("message_limit"))
    )


def _preferences(members: CTE, shape: Shape) -> Select[Any]:
    folded = folded_preferences(FORMATION, select(members.c.pk), shareable_only=shape.shared).subquery("folded")
    return select(folded.c.key, folded.c.value)


def _credentials(members: CTE) -> Select[Any]:
    return (
        select(credentials.c.service, credentials.c.name)
        .distinct()
        .select_from(members.join(credentials, _theirs(credentials, members)))
        .limit(literal_column(str(MAX_CREDENTIALS)))
    )


def _tasks(members: CTE) -> Select[Any]:
    names = ("task_id", "kind", "schedule", "timezone", "message", "status", "next_run_at", "claim")
    return (
        select(*(tasks.c[name] for name in names), tasks.c.created_at, tasks.c.updated_at)
        .select_from(members.join(tasks, _theirs(tasks, members)))
        .where(tasks.c.status == literal_column("'active'"))
        .order_by(tasks.c.next_run_at, tasks.c.pk)
        .limit(literal_column(str(MAX_TASKS)))
    )


def _synopses(members: CTE) -> Select[Any]:
    return (
        select(members.c.pk, synopses.c.revision, synopses.c.text, synopses.c.basis)
        .select_from(members.outerjoin(synopses, _theirs(synopses, members)))
        .order_by(members.c.pk)
    )


def _theirs(table: Table, members: CTE) -> ColumnElement[bool]:
    return and_(table.c.formation_id == FORMATION, table.c.user_pk == members.c.pk)
