"""Definitions of the schema's parts in a form in which those of a database and ours can be compared. Pure.

Databases write a definition down in words of their own: with casts, with parentheses that change nothing, with
defaults left out or said. What remains here is what makes a difference.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

# What is so where nothing is said, and what other rules ask about.
_SAID_ANYWAY = re.compile(
    r"\s+(initially immediate|match simple|on (delete|update) no action|using btree|not valid|(?<!on )not deferrable)\b"
)
_CAST = re.compile(r"::\w+( varying| precision)?(\[\])?")
_CONSTRAINT = re.compile(r"constraint (\w+) (.*)")
_INDEX = re.compile(
    r"create (?P<unique>unique )?index \w+ on (only )?(\w+\.)?(?P<table>\w+)( using (?P<method>\w+))?"
    r" ?\((?P<keys>.*?)\)(?P<options>( include ?\(.*?\)| nulls not distinct| with ?\(.*?\)| tablespace \w+)*)$"
)
_TABLE_LEVEL = ("primary key", "unique", "foreign key", "check", "exclude")


def expression(sql: str) -> str:
    """Return the form of an expression: as Python's parser reads it, which knows the same precedence."""
    text = _CAST.sub("", _plain(sql)).replace("pg_catalog.", "")
    text = re.sub(r"'(\d+)'", r"\1", text)
    text = re.sub(r"\bis not null\b", "is not None", re.sub(r"\bis null\b", "is None", text))
    text = re.sub(r"(?<![<>!=])=(?!=)", "==", text.replace("<>", "!=")).replace("||", "+")
    try:
        return ast.dump(ast.parse(text.strip(), mode="eval"))
    except SyntaxError:
        return text


def index(sql: str) -> str:
    """Return the form of an index, as CREATE INDEX makes it."""
    text, _, where = _plain(sql).partition(" where ")
    found = _INDEX.fullmatch(text)
    if found is None:
        return text
    keys = ", ".join(_index_key(key) for key in split(found["keys"]))
    method = found["method"] or "btree"
    options = re.sub(r"['() ]", "", found["options"]).replace("fastupdate=false", "fastupdate=off")
    condition = f" where {expression(where)}" if where else ""
    return f"{'unique ' if found['unique'] else ''}{method} on {found['table']} ({keys}) {options}{condition}"


def _index_key(key: str) -> str:
    order = re.fullmatch(r"(?P<of>.*?)(?P<how>( \w+_ops)?( asc| desc)?( nulls (first|last))?)", key)
    assert order is not None  # all of it may be missing
    return expression(order["of"]) + order["how"].replace(" asc", "")


def constraint(sql: str) -> str:
    """Return the form of a constraint without its name."""
    text = _SAID_ANYWAY.sub("", _plain(sql))
    if text.startswith("check"):
        return f"check {expression(text.removeprefix('check'))}"
    return re.sub(r" ?([(),]) ?", r"\1", text)


def column(sql: str) -> str:
    """Return the form of a column: its type, whether it may be NULL, its default."""
    text = _plain(sql)
    required = " not null" in text
    text = re.sub(r" (not )?null\b", "", text)
    kind, _, default = text.partition(" default ")
    kind, _, generated = kind.partition(" generated always as ")
    made = f" generated {expression(generated.removesuffix(' stored'))}" if generated else ""
    given = f" default {expression(default)}" if default else ""
    return f"{kind}{given}{made}{' not null' if required else ''}"


def statement(sql: str) -> str:
    """Return the form of any other statement: what changes nothing but how it looks is taken off."""
    return re.sub(r" ?([(),;]) ?", r"\1", _plain(sql)).rstrip(";")


def table_parts(sql: str) -> Iterator[tuple[str, str]]:
    """Return the columns and the named constraints that a CREATE TABLE makes, each with its form."""
    text = _plain(sql)
    for part in split(text[text.index("(") + 1 : text.rindex(")")]):
        named = _CONSTRAINT.fullmatch(part)
        if named is not None:
            yield named[1], constraint(named[2])
        elif not part.startswith(_TABLE_LEVEL):
            name, _, rest = part.partition(" ")
            yield name, column(rest)


def split(text: str) -> list[str]:
    """Return what stands between the commas of a list, those inside of parentheses left alone."""
    parts, depth, begin = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(text[begin:place].strip())
            begin = place + 1
    return [*parts, text[begin:].strip()]


def _plain(sql: str) -> str:
    """Return SQL in lower case, on one line, without quotation marks around names."""
    return " ".join(sql.lower().replace('"', "").replace("`", "").split())
