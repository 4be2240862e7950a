"""Link codes as texts: made to be read aloud and typed. Pure."""

from __future__ import annotations

import re
import secrets

# Without I, L, O and U: nothing in it is taken for something else, and no word comes out of it.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 8  # 40 bits
_LIKE = str.maketrans("ILO", "110")
MAX_TYPED = 64


def new_code() -> str:
    """Return a code that nobody can guess: ``7K3M-Q9TX``."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return f"{code[:4]}-{code[4:]}"


def plain_code(typed: str) -> str | None:
    """Return the letters and digits of a code as somebody typed it, None where it can be none.

    Case, spaces and hyphens do not count; I and L are read as 1, O as 0.
    """
    if len(typed) > MAX_TYPED:
        return None
    code = re.sub(r"[\s\-‐-―]", "", typed).upper().translate(_LIKE)
    return code if len(code) == _LENGTH and set(code) <= set(_ALPHABET) else None


def shown(spelling: str, type: str | None, *, secret: bool) -> str:
    """Return just enough of an identifier for whoever it belongs to: ``a...@example.com``, ``U9...BC``.

    At most a third of its characters show, and of an address the domain. A secret's spelling is a hint already.
    """
    if secret:
        return spelling
    name, at, domain = spelling.rpartition("@")
    if at and name:
        return f"{name[0] if len(name) > 2 else ''}...@{domain}"
    budget = len(spelling) // 3
    front = min(2, budget // 2 + budget % 2)
    end = min(2, budget - front)
    return f"{spelling[:front]}...{spelling[len(spelling) - end :] if end else ''}"
