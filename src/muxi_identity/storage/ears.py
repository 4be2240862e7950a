"""The connection that a process listens on: outside every pool, for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muxi_identity.errors import StorageUnavailableError
from muxi_identity.storage.connecting import DRIVER_ERRORS, Connector, ServerConnection, say_farewell
from muxi_identity.storage.errors import translate

Heard = Callable[[str, str], None]


class PostgresEars:
    """Listens on ``channels``, and calls ``heard`` with the channel and the payload of each notification, in order.

    ``lost`` is called once it hears nothing any more, and is told so: a connection that only went silent is not
    noticed here. No statement is run on it but LISTEN.
    """

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    @classmethod
    async def open(
        cls, connector: Connector, channels: Sequence[str], heard: Heard, lost: Callable[[], None], *, timeout: float
    ) -> PostgresEars:
        """Connect and listen. ``timeout`` in seconds, for each statement.

        Raises:
            StorageUnavailableError: The server cannot be reached, or does not let this user listen.
        """
        try:
            connection = await connector.connect(command_timeout=timeout)
        except (ValueError, *DRIVER_ERRORS) as error:
            raise refused(error, "listen") from None
        ears = cls(connection)
        try:
            connection.add_termination_listener(lambda _: lost())
            for channel in channels:
                await connection.add_listener(channel, lambda _, __, name, payload: heard(name, payload))
        except DRIVER_ERRORS as error:
            ears.cut()
            raise refused(error, "listen") from None
        except BaseException:
            ears.cut()
            raise
        return ears

    async def close(self) -> None:
        """Say farewell and close."""
        await say_farewell(self._connection)

    def cut(self) -> None:
        """End the connection without a word, and without waiting."""
        self._connection.cut_off()


def refused(error: BaseException, what: str) -> StorageUnavailableError:
    """Return the error for a server that does not let this process listen or notify, or cannot be reached."""
    translated = translate(error)
    if isinstance(translated, StorageUnavailableError):
        return translated
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    why = type(error).__name__ if state is None else f"SQLSTATE {state}"
    return StorageUnavailableError(f"The database does not let this process {what} ({why}).")
