"""Signatures of webhooks, as the Standard Webhooks specification (1.0) has them. Pure."""

from __future__ import annotations

import base64
import hmac


def signed_headers(key: str, event_id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers that let a receiver check who sent ``body``, and when.

    ``key`` is ``whsec_`` and base64; ``at`` is in microseconds, and is the time of this attempt: a receiver refuses
    what is too old, since somebody may have recorded it.
    """
    seconds = str(at // 1_000_000)
    secret = base64.b64decode(key.removeprefix("whsec_"))
    signed = b".".join((event_id.encode(), seconds.encode(), body))
    signature = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    return {"webhook-id": event_id, "webhook-timestamp": seconds, "webhook-signature": f"v1,{signature}"}
