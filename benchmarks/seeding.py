"""People who are there before anything is measured, so that no table is empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, insert, text

from muxi_identity.client.operations import Given
from muxi_identity.formation import Formation
from muxi_identity.identifiers import parse_identifier
from muxi_identity.identity.slots import new_identifier
from muxi_identity.storage.tables import history, identifiers, users

_BATCH = 2000
_BEGAN = 1_700_000_000_000_000  # microseconds since 1970


def given(number: int) -> Given:
    """Return the identifier of a seeded user: a bare e-mail address or a typed Slack id."""
    return (f"U{number:09d}", "slack") if number % 2 else f"person{number}@example.com"


def public_id(number: int) -> str:
    """Return the public id of a seeded user."""
    return f"usr_seeded{number}"


async def seed(formation: Formation, number: int) -> None:
    """Insert ``number`` users with an identifier and two history rows each, and refresh the planner's statistics."""
    for first in range(0, number, _BATCH):
        wanted = range(first, min(number, first + _BATCH))
        await formation.database.transact(lambda connection, wanted=wanted: _insert(formation, connection, wanted))
    await formation.database.transact(lambda connection: connection.execute(text("ANALYZE")))


def _insert(formation: Formation, connection: Connection, wanted: Sequence[int]) -> None:
    keys = iter(formation.database.new_keys(connection, formation.config.id, 4 * len(wanted)))
    people: list[dict[str, object]] = []
    names: list[dict[str, object]] = []
    events: list[dict[str, object]] = []
    for number in wanted:
        who = {"formation_id": formation.config.id, "pk": next(keys)}
        people.append({**who, "public_id": public_id(number), "root_pk": who["pk"], "created_at": _BEGAN + number})
        names.append(_identifier(formation, number, next(keys), who["pk"]))
        events += _events(formation, number, keys, names[-1]["pk"])
    connection.execute(insert(users), people)
    connection.execute(insert(identifiers), names)
    connection.execute(insert(history), events)


def _identifier(formation: Formation, number: int, pk: int, user_pk: object) -> dict[str, object]:
    parsed = parse_identifier(given(number))
    row = new_identifier(parsed, formation._bucket(parsed.fold), _BEGAN + number, verified=False)
    owner = {"formation_id": formation.config.id, "pk": pk, "user_pk": user_pk, "slot": 0, "linked_at": _BEGAN + number}
    return owner | row._asdict()


def _events(formation: Formation, number: int, keys: Iterator[int], identifier_pk: object) -> list[dict[str, object]]:
    common = {
        "formation_id": formation.config.id,
        "at": _BEGAN + number,
        "user_id": public_id(number),
        "actor": "seed",
    }
    return [
        {**common, "pk": next(keys), "event": "user:create", "identifier_pk": None},
        {**common, "pk": next(keys), "event": "identifier:link", "identifier_pk": identifier_pk},
    ]
