"""What a formation's own keys and configuration can tell of its rows: the part of a check that needs them.

The rest, for which nobody needs to know a key, is :mod:`muxi_identity.storage.checks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from muxi_identity.config import FormationConfig
from muxi_identity.context.credentials.vault import Place, Vault
from muxi_identity.context.tasks.rows import ACTIVE, schedule_of
from muxi_identity.context.tasks.schedules import next_run
from muxi_identity.errors import CredentialUnreadableError, InvalidScheduleError
from muxi_identity.identifiers import fold
from muxi_identity.identity.keys import BucketKey
from muxi_identity.secret import Secret
from muxi_identity.storage.checks import BROKEN, NOTICE, Finding
from muxi_identity.storage.tables import credentials, formations, identifiers, tasks, users

_AT_ONCE = 1_000
WRONG_KEY = "formation-key"


def inspect_formation(connection: Connection, config: FormationConfig, secret: str, now: int) -> list[Finding]:
    """Return what is wrong with the rows of the formation of ``config``, whose secret key is ``secret``.

    ``now`` in microseconds since 1970.
    """
    key = BucketKey(secret, config.id)
    kept = connection.execute(
        select(formations.c.key_check).where(formations.c.formation_id == config.id)
    ).scalar_one_or_none()
    if kept is None:
        return []
    if bytes(kept) != key.check:
        meaning = "MUXI_SECRET_KEY is not the key that the formation was made with: everybody would be a stranger."
        return [_finding(config, WRONG_KEY, 1, meaning, "Give back the key that was backed up with this database.")]
    found = [
        _buckets(connection, config, key),
        _secret_types(connection, config),
        *_credentials(connection, config, secret),
        _schedules(connection, config, now),
        *_limits(connection, config, now),
    ]
    return [finding for finding in found if finding.rows]


def _buckets(connection: Connection, config: FormationConfig, key: BucketKey) -> Finding:
    wanted = select(identifiers.c.bucket, identifiers.c.value).where(
        identifiers.c.formation_id == config.id, identifiers.c.value != ""
    )
    return _finding(
        config,
        "identifier-bucket",
        _count(connection, wanted, lambda row: bytes(row.bucket) != key(fold(row.value))),
        "Identifiers lie in another bucket than their spelling leads to: nobody finds them.",
        "Rows of another key or formation were restored among these, or values changed by hand: restore the rows.",
    )


def _secret_types(connection: Connection, config: FormationConfig) -> Finding:
    secret_types = [kind for kind, rule in config.identity.rules.types.items() if rule.secret]
    wanted = select(func.count()).where(
        identifiers.c.formation_id == config.id,
        identifiers.c.type.in_(secret_types),
        identifiers.c.value != "",
    )
    return _finding(
        config,
        "identifier-secret-type",
        connection.execute(wanted).scalar_one(),
        "Identifiers of a type that is declared secret are kept in clear: they were linked before it was.",
        "Unlink them and link others of that type; see then that value and spelling of the old rows are set to ''.",
    )


def _credentials(connection: Connection, config: FormationConfig, secret: str) -> list[Finding]:
    vault = Vault([*config.credential_keys, Secret(secret)], config.id)
    wanted = select(credentials).where(credentials.c.formation_id == config.id)

    def closed(row: Row[Any]) -> bool:
        if not vault.has(row.key_id):
            return False
        try:
            vault.open(Place(row.credential_id, row.service, row.name), row.key_id, bytes(row.ciphertext))
        except CredentialUnreadableError:
            return True
        return False

    unknown = _count(connection, wanted, lambda row: not vault.has(row.key_id))
    return [
        _finding(
            config,
            "credential-unreadable",
            _count(connection, wanted, closed),
            "Credentials do not open with the key that they name: they were changed, or moved from another row.",
            "Restore them from a back-up, or have their owners set them again.",
        ),
        _finding(
            config,
            "credential-key-unknown",
            unknown,
            "Credentials are encrypted with a key that is not configured. Nothing is lost.",
            "Put that key back into MUXI_CREDENTIAL_KEYS, behind the newest.",
            level=NOTICE,
        ),
    ]


def _schedules(connection: Connection, config: FormationConfig, now: int) -> Finding:
    wanted = select(tasks).where(tasks.c.formation_id == config.id, tasks.c.status == ACTIVE)

    def unreadable(row: Row[Any]) -> bool:
        try:
            next_run(*schedule_of(row), now)
        except InvalidScheduleError:
            return True
        return False

    return _finding(
        config,
        "task-schedule",
        _count(connection, wanted, unreadable),
        "The schedule of an active task cannot be read: after its next run it ends.",
        "Set it anew: update_task(task_id, cron=...). Of a time zone that is unknown here, a newer tzdata may know.",
    )


def _limits(connection: Connection, config: FormationConfig, now: int) -> list[Finding]:
    rules = config.identity.rules
    caps = {kind: rule.max_per_user for kind, rule in rules.types.items() if rule.max_per_user is not None}
    held = (
        select(users.c.root_pk, identifiers.c.type, func.count().label("number"))
        .join(identifiers, (identifiers.c.formation_id == users.c.formation_id) & (identifiers.c.user_pk == users.c.pk))
        .where(
            users.c.formation_id == config.id,
            identifiers.c.unlinked_at.is_(None),
            identifiers.c.expires_at.is_(None) | (identifiers.c.expires_at > now),
        )
        .group_by(users.c.root_pk, identifiers.c.type)
        .subquery()
    )
    people = select(held.c.root_pk).group_by(held.c.root_pk).having(func.sum(held.c.number) > rules.max_per_user)
    passed = connection.execute(select(func.count()).select_from(people.subquery())).scalar_one()
    for kind, cap in caps.items():
        over = select(func.count()).select_from(held).where(held.c.type == kind, held.c.number > cap)
        passed += connection.execute(over).scalar_one()
    meaning = "People have more identifiers than the configuration allows: it was lowered since."
    mend = "Nothing must be done: they keep what they have and are given no more."
    return [_finding(config, "person-over-limit", passed, meaning, mend, level=NOTICE)]


def _count(connection: Connection, wanted: Select[Any], broken: Callable[[Row[Any]], bool]) -> int:
    return sum(broken(row) for row in connection.execute(wanted.execution_options(yield_per=_AT_ONCE)))


def _finding(config: FormationConfig, rule: str, rows: int, meaning: str, mend: str, *, level: str = BROKEN) -> Finding:
    return Finding(config.id, rule, rows, meaning, mend, level)
