"""Client and admin keys: made, kept as digests, and compared in constant time."""

from __future__ import annotations

import enum
import hmac
import secrets
from collections.abc import Iterable

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from muxi_identity.errors import ConfigurationError
from muxi_identity.formation import Formation
from muxi_identity.server_config import ServerConfig, hash_key
from muxi_identity.storage.tables import api_keys


class Role(enum.StrEnum):
    """What somebody was let in as."""

    ADMIN = "admin"
    CLIENT = "client"
    TOKEN = "token"  # noqa: S105 - the name of a role


def new_key(role: Role) -> str:
    """Make a key: 256 random bits behind a prefix that says what it opens."""
    return f"muxi_{role.value}_{secrets.token_urlsafe(32)}"


class KeyRing:
    """The keys of one formation; several of each are good at once, so that they can be rotated."""

    def __init__(self, admin: Iterable[bytes], client: Iterable[bytes]) -> None:
        self._digests = {Role.ADMIN: tuple(admin), Role.CLIENT: tuple(client)}

    def opens(self, role: Role, key: str) -> bytes | None:
        """Return the digest of ``key`` where it is one of the role's, else None.

        Digests are compared, in constant time and all of them: how long it takes tells nothing of any key.
        """
        given = hash_key(key)
        found = False
        for digest in self._digests[role]:
            found |= hmac.compare_digest(given, digest)
        return given if found else None


async def ring_of(formation: Formation, config: ServerConfig, *, make: bool) -> tuple[KeyRing, dict[Role, str]]:
    """Return a formation's keys, and in clear those that were made just now because it had none.

    What is made is kept as a digest in the database: this is the one time that it can be shown, and it is good for
    every process and after every restart. Of processes that start at once, one makes it. Without ``make`` nothing is
    made, since nobody would be shown it.

    Raises:
        ConfigurationError: A key is missing and may not be made.
    """
    configured = {Role.ADMIN: config.admin_keys, Role.CLIENT: config.client_keys}
    missing = [role for role, digests in configured.items() if not digests]
    made: dict[Role, str] = {}
    if missing:
        drafts = {role: new_key(role) for role in missing} if make else {}

        def keep(connection: Connection) -> dict[str, bytes]:
            return _keep(connection, formation, drafts)

        kept = await formation.database.transact(keep)
        for role in missing:
            digest = kept.get(role.value)
            if digest is None:
                raise _no_key(role)
            configured[role] = (digest,)
            if make and hmac.compare_digest(digest, hash_key(drafts[role])):
                made[role] = drafts[role]
    return KeyRing(configured[Role.ADMIN], configured[Role.CLIENT]), made


def _no_key(role: Role) -> ConfigurationError:
    return ConfigurationError(
        f"there is no {role.value} key, and one that the server made would be shown to nobody. `muxi keys new "
        f"{role.value}` makes one for server.api_keys.{role.value}_key; `muxi serve --print-keys` prints what it makes."
    )


async def forget_made_keys(formation: Formation) -> int:
    """Forget the keys that the server made: it makes others when it starts next. Return how many there were."""

    def work(connection: Connection) -> int:
        return connection.execute(delete(api_keys).where(api_keys.c.formation_id == formation.config.id)).rowcount

    return await formation.database.transact(work)


def _keep(connection: Connection, formation: Formation, drafts: dict[Role, str]) -> dict[str, bytes]:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    for role, key in drafts.items():
        row = {
            "formation_id": formation.config.id,
            "role": role.value,
            "digest": hash_key(key),
            "created_at": formation.now,
        }
        connection.execute(dialect.insert(api_keys).values(row).on_conflict_do_nothing())
    found = connection.execute(
        select(api_keys.c.role, api_keys.c.digest).where(api_keys.c.formation_id == formation.config.id)
    )
    return {role: bytes(digest) for role, digest in found}
