"""Settings: a YAML file or a mapping, read key by key, with every mistake one line that names its place.

No message repeats a value: it may be, or hold, a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import yaml

from muxi_identity.errors import ConfigurationError
from muxi_identity.secret import REFERENCE, SecretSources

_LONGEST_SECONDS = 100 * 366 * 86400
_LARGEST_COUNT = 2**31 - 1


class Section:
    """One mapping of the configuration, and where it stands. Without ``known``, its keys are free."""

    def __init__(self, file: str, path: str, values: Any, sources: SecretSources, known: tuple[str, ...]) -> None:
        self._file, self._path, self._sources = file, path, sources
        if values is None and path:
            values = {}  # "memory:" with everything below it commented out
        if not isinstance(values, Mapping):
            self.fail("", "expected a mapping of keys to values")
        self._values: Mapping[Any, Any] = values
        for key in values:
            if known and key not in known:
                near = get_close_matches(str(key), known, n=1)
                hint = f'did you mean "{near[0]}"?' if near else f"the keys here are {', '.join(known)}"
                self.fail(str(key), f"unknown key; {hint}")

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise ConfigurationError for one key of this section, or for the section itself."""
        path = ".".join(part for part in (self._path, _printable(key)) if part)
        message = f"{self._file}: {path}: {problem}" if path else f"{self._file}: {problem}"
        raise ConfigurationError(message, file=self._file, key=path or None)

    def section(self, key: str, *known: str) -> Section:
        """Go down to the mapping under ``key``; an absent one is empty."""
        path = f"{self._path}.{key}" if self._path else key
        return Section(self._file, path, self._values.get(key), self._sources, known)

    def sections(self, key: str, *known: str) -> list[Section]:
        """Go down to each mapping of the list under ``key``; an absent one is empty."""
        values = self._values.get(key)
        if values is None:
            return []
        if not isinstance(values, list | tuple):
            self.fail(key, "expected a list of mappings")
        path = f"{self._path}.{key}" if self._path else key
        return [
            Section(self._file, f"{path}[{number}]", {} if each is None else each, self._sources, known)
            for number, each in enumerate(values)
        ]

    def names(self) -> list[str]:
        """Return the keys of a section whose keys are free."""
        for key in self._values:
            if not isinstance(key, str):
                self.fail(str(key), "expected a name; put it in quotes")
        return list(self._values)

    def has(self, key: str) -> bool:
        """Tell whether the key is there."""
        return key in self._values

    def text(self, key: str, default: str) -> str:
        """Return text with its secrets filled in."""
        value = self._values.get(key, default)
        if not isinstance(value, str):
            self.fail(key, "expected text; put it in quotes")
        return self._expand(key, value)

    def choice(self, key: str, default: str, *choices: str) -> str:
        """Return one of ``choices``."""
        value = self._values.get(key, default)
        if not isinstance(value, str) or (chosen := self._expand(key, value)) not in choices:
            self.fail(key, f"expected one of {', '.join(choices)}")
        return chosen

    def count(self, key: str, default: int) -> int:
        """Return a whole number of at least 1."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_COUNT:
            self.fail(key, f"expected a whole number from 1 to {_LARGEST_COUNT}")
        return value

    def optional_count(self, key: str, default: int | None) -> int | None:
        """Return a whole number of at least 1, or the default, which may be None."""
        return self.count(key, 1) if key in self._values else default

    def seconds(self, key: str, default: float) -> float:
        """Return a time span in seconds, above 0."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_SECONDS:
            self.fail(key, "expected a number of seconds above 0 and at most 100 years")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false; nothing else counts as either."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            self.fail(key, "expected true or false")
        return value

    def words(self, key: str) -> frozenset[str]:
        """Return a list of words as a set; absent, it is empty."""
        value = self._values.get(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(word, str) and word.strip() for word in value):
            self.fail(key, 'expected a list of words; put words such as "null" and "no" in quotes')
        return frozenset(self._expand(key, word) for word in value)

    def texts(self, key: str) -> list[str]:
        """Return one text or a list of them, with their secrets filled in, as a list; absent, it is empty."""
        value = self._values.get(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(each, str) and each.strip() for each in values):
            self.fail(key, "expected a text, or a list of texts, none of them blank")
        return [self._expand(key, each).strip() for each in values]

    def _expand(self, key: str, value: str) -> str:
        if "${{" in REFERENCE.sub("", value):
            self.fail(key, "expected secrets to be written as ${{ secrets.NAME }}")

        def look_up(match: re.Match[str]) -> str:
            found = self._sources.find(match[1])
            if found is None:
                self.fail(key, f"secret {match[1]} is not set; {self._sources.mend}")
            return found

        return REFERENCE.sub(look_up, value)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if (key_node.tag, key_node.value) in seen:
                problem = f"the key {_printable(key_node.value)} stands here twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add((key_node.tag, key_node.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read one YAML document, of plain values only.

    Raises:
        ConfigurationError: the file cannot be read, is not YAML or names a key twice in one mapping.
    """
    where, problem = "", ""
    try:
        with path.open("rb") as stream:
            return yaml.load(stream, _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); name a YAML file"
    except yaml.MarkedYAMLError as error:
        if error.problem_mark:
            where = f"line {error.problem_mark.line + 1}: "
        # What the file holds is left out, but for punctuation: an unquoted password may look like an alias.
        reason = re.sub(r"(['\"])(.{4,}?)\1", "...", error.problem or "")
        problem = f"not valid YAML: {' '.join(reason.split())}"
    except (yaml.YAMLError, ValueError, RecursionError):
        problem = "not valid YAML: expected UTF-8 text with keys and values"
    raise ConfigurationError(f"{path}: {where}{problem}", file=str(path), key=None)


def is_url(text: str) -> bool:
    """Tell whether ``text`` can be an address."""
    try:
        # The port is parsed when asked for; its error would quote what may be a password.
        return text.isprintable() and " " not in text and urlsplit(text).port != 0
    except ValueError:
        return False


def _printable(key: str) -> str:
    shown = key if len(key) <= 64 else f"{key[:64]}..."
    return shown if shown.isprintable() else ascii(shown)
