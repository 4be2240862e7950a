"""The vault: what encrypts credentials, and which key opens what.

AES-256-GCM, each key derived by HKDF-SHA256 from one of the secrets and bound to the formation. What is encrypted is
tied to its place (formation, credential, service, name): copied to another row it does not open. The member is not part
of that, since a credential moves with the identifier that it was set through where a person is split.

Bytes: a version, a random nonce of 96 bits, the encrypted text with its tag. With random nonces a key is good for four
thousand million encryptions (NIST SP 800-38D); each has its own key by formation.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from muxi_identity.errors import CredentialUnreadableError
from muxi_identity.secret import Secret

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_KEY_ID_BYTES: Final = 6


class Place(NamedTuple):
    """Which credential something was encrypted for."""

    credential_id: str
    service: str
    name: str


class Vault:
    """Encrypts with the first of its keys, and decrypts with the one that a text names."""

    def __init__(self, secrets: Sequence[Secret], formation_id: str) -> None:
        self._formation_id = formation_id
        keys = [(key_id_of(secret), _derive(secret, f"credentials {formation_id}", 32)) for secret in secrets]
        self._keys = {key_id: AESGCM(key) for key_id, key in keys}
        self.key_id = keys[0][0]
        """Names the key that encrypts."""

    def seal(self, place: Place, text: Secret) -> bytes:
        """Encrypt ``text`` for its place, with the key of :attr:`key_id`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self.key_id].encrypt(nonce, text.reveal().encode(), self._associated(place))
        return _VERSION + nonce + sealed

    def open(self, place: Place, key_id: str, sealed: bytes) -> Secret:
        """Decrypt what was encrypted for this place with the key of ``key_id``.

        Raises:
            CredentialUnreadableError: That key is not there, or what was encrypted was changed or moved.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise CredentialUnreadableError(
                f"The credential {place.service}/{place.name} is encrypted with the key {key_id}, which this formation "
                "does not have: add that key to MUXI_CREDENTIAL_KEYS (after the newest; where it was not set, the key "
                "came from MUXI_SECRET_KEY). Nothing is lost.",
                credential_id=place.credential_id,
                key_id=key_id,
            )
        if sealed[:1] == _VERSION:
            nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
            try:
                return Secret(key.decrypt(nonce, rest, self._associated(place)).decode())
            except (InvalidTag, ValueError):  # the latter for a nonce or a tag that was cut off
                pass
        raise CredentialUnreadableError(
            f"The credential {place.service}/{place.name} does not open with its key {key_id}: it was changed in the "
            "database, or is written in a newer form than this version reads. Set it again, or restore it.",
            credential_id=place.credential_id,
            key_id=key_id,
        )

    def has(self, key_id: str) -> bool:
        """Tell whether the key of ``key_id`` is there."""
        return key_id in self._keys

    def _associated(self, place: Place) -> bytes:
        return b"\x00".join([_VERSION, *(part.encode() for part in (self._formation_id, *place))])


def key_id_of(secret: Secret) -> str:
    """Return what names the key that is derived from ``secret``; it tells nothing of either."""
    return _derive(secret, "credential key id", _KEY_ID_BYTES).hex()


def _derive(secret: Secret, purpose: str, size: int) -> bytes:
    info = f"muxi-identity {purpose}".encode()
    return HKDF(SHA256(), size, salt=None, info=info).derive(secret.reveal().encode())
