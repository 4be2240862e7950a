"""What a formation's own keys and configuration can tell of its rows: the part of a check that needs them.

The rest, for which nobody needs to know a key, is :mod:`muxi_identity.storage.checks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, text

from muxi_identity.config import FormationConfig
from muxi_identity.context.credentials.vault import Place, Vault
from muxi_identity.context.tasks.rows import schedule_of
from muxi_identity.context.tasks.schedules import next_run
from muxi_identity.errors import CredentialUnreadableError, InvalidScheduleError
from muxi_identity.identifiers import fold
from muxi_identity.identity.keys import BucketKey
from muxi_identity.secret import Secret
from muxi_identity.storage.checks import NOTICE, UNLINK, Finding, Rule, ask_rules
from muxi_identity.storage.checks.rule import quoted

WRONG_KEY = "formation-key"
_WRONG_KEY = (
    "MUXI_SECRET_KEY is not the key that the formation was made with: everybody would be a stranger.",
    "Give back the key that was backed up with this database.",
)


def inspect_formation(connection: Connection, config: FormationConfig, secret: str, now: int) -> list[Finding]:
    """Return what is wrong with the rows of the formation of ``config``, whose secret key is ``secret``.

    ``now`` in microseconds since 1970.
    """
    key = BucketKey(secret, config.id)
    kept = connection.execute(
        text("SELECT key_check FROM muxi_formations WHERE formation_id = :formation_id"), {"formation_id": config.id}
    ).one_or_none()
    if kept is None:
        return []
    if kept.key_check != key.check:
        return [Finding(config.id, WRONG_KEY, 1, *_WRONG_KEY)]
    vault = Vault([*config.credential_keys, Secret(secret)], config.id)
    rules = [_buckets(key), *_secret_types(config), *_credentials(vault), _schedules(now), _limits(config)]
    return ask_rules(connection, rules, now, config.id)


def _buckets(key: BucketKey) -> Rule:
    def elsewhere(row: Row[Any]) -> bool:
        return bytes(row.bucket) != key(fold(row.value))

    return Rule(
        "identifier-bucket",
        "SELECT formation_id, pk, bucket, value FROM muxi_identifiers WHERE value <> ''",
        "Identifiers lie in another bucket than their spelling leads to: nobody finds them.",
        "Rows of another key or formation were restored among these, or values changed by hand: restore the rows. "
        "Where that cannot be, erase and unlink them, and link the identifiers again.",
        (
            *UNLINK,
            "UPDATE muxi_identifiers SET value = '', spelling = '', metadata = NULL, source = NULL WHERE {those}",
        ),
        broken=elsewhere,
    )


def _secret_types(config: FormationConfig) -> Iterator[Rule]:
    types = ", ".join(quoted(kind) for kind, rule in config.identity.rules.types.items() if rule.secret)
    yield Rule(
        "identifier-secret-type",
        # Of API keys, another rule tells without a configuration.
        f"SELECT formation_id, pk FROM muxi_identifiers WHERE type IN ({types}) AND type <> 'api_key'"  # noqa: S608 (quoted)
        " AND value <> ''",
        "Identifiers of a type that is declared secret are kept in clear: they were linked before it was.",
        "Take the clear text off: they are found as before. What others could read is to be rotated.",
        ("UPDATE muxi_identifiers SET secret = true, value = '', spelling = '...' WHERE {those}",),
    )
    yield Rule(
        "identifier-secret-undeclared",
        f"SELECT formation_id, pk FROM muxi_identifiers WHERE secret AND type NOT IN ({types})",  # noqa: S608 (quoted)
        "Secrets have a type that is not declared secret: named by the type that they were linked under they are not "
        "found, and others of this type are kept in clear.",
        "Declare the type secret (identity.types). Where the rows were changed by hand, give them back their type.",
        ("UPDATE muxi_identifiers SET type = 'api_key' WHERE {those}",),
    )


def _credentials(vault: Vault) -> Iterator[Rule]:
    def is_closed(row: Row[Any]) -> bool:
        if not vault.has(row.key_id):
            return False
        try:
            vault.open(Place(row.credential_id, row.service, row.name), row.key_id, bytes(row.ciphertext))
        except CredentialUnreadableError:
            return True
        return False

    every = "SELECT formation_id, pk, credential_id, service, name, key_id, ciphertext FROM muxi_credentials"
    yield Rule(
        "credential-unreadable",
        every,
        "Credentials do not open with the key that they name: they were changed, or moved from another row.",
        "Restore them from a back-up, or delete them and have their owners set them again.",
        ("DELETE FROM muxi_credentials WHERE {those}",),
        broken=is_closed,
    )
    yield Rule(
        "credential-key-unknown",
        every,
        "Credentials are encrypted with a key that is not configured. Nothing is lost.",
        "Put that key back into MUXI_CREDENTIAL_KEYS, behind the newest.",
        broken=lambda row: not vault.has(row.key_id),
        level=NOTICE,
    )


def _schedules(now: int) -> Rule:
    def is_unreadable(row: Row[Any]) -> bool:
        try:
            next_run(*schedule_of(row), now)
        except InvalidScheduleError:
            return True
        return False

    return Rule(
        "task-schedule",
        "SELECT formation_id, pk, kind, schedule, timezone FROM muxi_tasks WHERE status = 'active'",
        "The schedule of an active task cannot be read: after its next run it ends.",
        "Set it anew: update_task(task_id, cron=...). Of a time zone that is unknown here, a newer tzdata may know. Or "
        "let it pause until then.",
        (
            "UPDATE muxi_tasks SET status = 'paused', next_run_at = NULL, attempts = 0 WHERE {those} AND claim IS NULL",
            "UPDATE muxi_tasks SET status = 'paused' WHERE {those} AND claim IS NOT NULL",
        ),
        broken=is_unreadable,
    )


def _limits(config: FormationConfig) -> Rule:
    rules = config.identity.rules
    caps = {kind: rule.max_per_user for kind, rule in rules.types.items() if rule.max_per_user is not None}
    of_types = "".join(
        f" OR sum(CASE i.type WHEN {quoted(kind)} THEN 1 ELSE 0 END) > {cap}" for kind, cap in caps.items()
    )
    return Rule(
        "person-over-limit",
        f"""
        SELECT u.formation_id, u.root_pk AS pk FROM muxi_users u
          JOIN muxi_identifiers i ON i.formation_id = u.formation_id AND i.user_pk = u.pk
         WHERE i.unlinked_at IS NULL AND (i.expires_at IS NULL OR i.expires_at > :now)
         GROUP BY u.formation_id, u.root_pk
        HAVING count(*) > {rules.max_per_user}{of_types}""",  # noqa: S608 (numbers, and names that are quoted)
        "People have more identifiers than the configuration allows: it was lowered since.",
        "Nothing must be done: they keep what they have and are given no more.",
        level=NOTICE,
    )
