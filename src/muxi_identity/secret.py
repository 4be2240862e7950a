"""Secrets: a wrapper that shows nothing, and the places that ``${{ secrets.NAME }}`` is looked up in."""

from __future__ import annotations

import hmac
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from dotenv import dotenv_values

from muxi_identity.errors import ConfigurationError

REFERENCE: Final = re.compile(r"\$\{\{\s*secrets\.([A-Za-z_][A-Za-z0-9_-]*)\s*\}\}")


class Secret:
    """A value that logs, messages and pickles never show; ``reveal()`` gives it."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the value itself. Keep it out of messages."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled; hand on what reveal() gives, deliberately")


@dataclass(frozen=True, slots=True)
class SecretSources:
    """The environment, then ``.env``, then a folder of files; an empty value counts as unset.

    ``base`` is the folder of the configuration file; without a file, the working directory stands for it.
    """

    base: Path | None

    @property
    def mend(self) -> str:
        """What to do about a secret that no place has."""
        beside = "beside the file" if self.base else "in the working directory"
        return f"set it in the environment, in .env {beside} or as a file in the secrets directory"

    def find(self, name: str) -> str | None:
        """Return the secret, or None if no place has it.

        Raises:
            ConfigurationError: a place that should be read cannot be.
        """
        # In order, and no further than needed: an unreadable .env matters only to those who need it.
        return os.environ.get(name) or self._in_dotenv(name) or self._in_folder(name)

    def _folder(self) -> Path:
        return self.base or Path.cwd()

    def _in_dotenv(self, name: str) -> str | None:
        path = self._folder() / ".env"
        try:
            if not path.is_file():
                return None
            # No interpolation: a password may hold "${". os.environ is left alone.
            return dotenv_values(path, interpolate=False).get(name)
        except (OSError, UnicodeDecodeError):
            unreadable = path
        raise _unreadable(unreadable, name)

    def _in_folder(self, name: str) -> str | None:
        folder = os.environ.get("MUXI_SECRETS_DIR")
        path = (Path(os.path.expanduser(folder)) if folder else self._folder() / "secrets") / name
        try:
            if not path.is_file():
                return None
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            unreadable = path
        raise _unreadable(unreadable, name)


def _unreadable(path: Path, name: str) -> ConfigurationError:
    # Raised outside the handler: a decoding error carries the bytes that it failed on.
    return ConfigurationError(
        f"{path}: cannot be read as UTF-8 text when looking for the secret {name}; "
        "mend its permissions or its encoding",
        file=str(path),
        key=name,
    )
