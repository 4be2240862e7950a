"""The bucket key is the HMAC that it is said to be, however it is computed."""

from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from muxi_identity.identity.keys import BucketKey


@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_a_bucket_is_the_hmac_of_its_fold_under_the_formations_key(secret: str, formation_id: str, fold: str) -> None:
    key = hmac.digest(secret.encode(), b"muxi-identity bucket " + formation_id.encode(), "sha256")
    assert BucketKey(secret, formation_id)(fold) == hmac.digest(key, fold.encode(), "sha256")[:16]


@given(st.text())
def test_formations_share_no_bucket(fold: str) -> None:
    assert BucketKey("secret", "one")(fold) != BucketKey("secret", "two")(fold)
