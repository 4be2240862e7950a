"""How many wrong link codes were typed of late: by one identifier, and in the whole formation.

Counted in the database, so that it holds across processes. The limit of an identifier keeps one person from guessing;
that of the formation keeps somebody who makes identifiers at will from it: a code has 40 bits, so that with 10,000
codes open, a thousand guesses in ten minutes find one with a chance of 1 in 100,000.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from muxi_identity.errors import LinkCodeLimitError
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import link_attempts

WINDOW_SECONDS = 600
MOST_BY_IDENTIFIER = 5
MOST_IN_FORMATION = 1_000
_FORMATION = 0


def check_attempts(tx: Transaction, identifier_pk: int) -> None:
    """Check that an identifier may try a code; until the transaction ends, nobody else's attempts are counted.

    Raises:
        LinkCodeLimitError: Too many were wrong in the last ten minutes.
    """
    statement = (
        select(link_attempts)
        .where(
            link_attempts.c.formation_id == tx.formation_id,
            link_attempts.c.identifier_pk.in_([_FORMATION, identifier_pk]),
        )
        .order_by(link_attempts.c.identifier_pk)
    )
    if tx.database.lock_rows:
        statement = statement.with_for_update()
    for row in tx.connection.execute(statement):
        most = MOST_IN_FORMATION if row.identifier_pk == _FORMATION else MOST_BY_IDENTIFIER
        ends = row.began_at + WINDOW_SECONDS * 1_000_000
        if row.failures >= most and tx.now < ends:
            seconds = -(-(ends - tx.now) // 1_000_000)
            raise LinkCodeLimitError(
                f"Too many wrong link codes were typed; no code is taken for {seconds} seconds.", retry_after=seconds
            )


def count_failure(tx: Transaction, identifier_pk: int) -> None:
    """Count a wrong code.

    Raises:
        RaceLost: The first two of a window came at the same time.
    """
    begin = tx.now - WINDOW_SECONDS * 1_000_000
    tx.connection.execute(
        delete(link_attempts).where(
            link_attempts.c.formation_id == tx.formation_id,
            link_attempts.c.began_at <= begin,
        )
    )
    for key in (_FORMATION, identifier_pk):
        counted = tx.connection.execute(
            update(link_attempts)
            .where(link_attempts.c.formation_id == tx.formation_id, link_attempts.c.identifier_pk == key)
            .values(failures=link_attempts.c.failures + 1)
        )
        if not counted.rowcount:
            tx.connection.execute(
                insert(link_attempts).values(
                    formation_id=tx.formation_id, identifier_pk=key, began_at=tx.now, failures=1
                )
            )
