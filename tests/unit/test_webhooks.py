"""The webhooks of a configuration, their signatures, and the names of the events."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from muxi_identity import ConfigurationError, FormationConfig
from muxi_identity.events.signing import signed_headers
from muxi_identity.identity.history import Event, told_as
from muxi_identity.models import EVENT_TYPES, IMPORT_FINISH, TASK_RUN_FINISH

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
GOOD: dict[str, Any] = {"url": "https://hooks.example.com/secret-path?token=x", "secret": KEY}


def read(*webhooks: Any) -> FormationConfig:
    return FormationConfig.from_mapping({"webhooks": list(webhooks)})


def test_a_webhook_is_read_and_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", KEY)
    config = read({**GOOD, "secret": "${{ secrets.HOOK_KEY }}", "events": ["user.merge"]})
    (webhook,) = config.webhooks
    assert webhook.events == {"user.merge"}
    assert webhook.origin == "https://hooks.example.com"
    assert webhook.key.reveal() == KEY
    assert "secret-path" not in repr(config)
    assert KEY not in repr(config)


def test_without_a_list_of_events_all_are_sent() -> None:
    assert read(GOOD).webhooks[0].events == set(EVENT_TYPES)
    assert FormationConfig.from_mapping({"webhooks": None}).webhooks == ()


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        ({"url": ""}, "url", "https://"),
        ({"url": "ftp://example.com"}, "url", "https://"),
        ({"url": "https://"}, "url", "https://"),
        ({"url": "https://user:password@example.com/"}, "url", "without user"),
        ({"url": "https://example.com/#x"}, "url", "https://"),
        ({"url": "https://exa mple.com/"}, "url", "https://"),
        ({"url": "https://example.com:99999/"}, "url", "https://"),
        ({"url": 5}, "url", "expected text"),
        ({"secret": ""}, "secret", "whsec_"),
        ({"secret": "k" * 40}, "secret", "whsec_"),
        ({"secret": "whsec_" + base64.b64encode(b"k" * 23).decode()}, "secret", "24 to 64 bytes"),
        ({"secret": "whsec_" + base64.b64encode(b"k" * 65).decode()}, "secret", "24 to 64 bytes"),
        ({"secret": "whsec_!!!"}, "secret", "base64"),
        ({"secret": "${{ secrets.MISSING_HOOK_KEY }}"}, "secret", "MISSING_HOOK_KEY is not set"),
        ({"events": []}, "events", "at least one"),
        ({"events": ["user.merged"]}, "events", 'did you mean "user.merge"?'),
        ({"events": ["zzz"]}, "events", "the events are"),
        ({"events": "user.merge"}, "events", "expected a list"),
        ({"events": [1]}, "events", "expected a list"),
        ({"name": "x"}, "name", "unknown key"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(change: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({**GOOD, "url": "https://other.example.com/"}, {**GOOD, **change})
    assert f"webhooks[1].{key}: " in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    for secret in ("password", "k" * 40):
        assert secret not in str(caught.value).replace("user and password", "")


def test_one_address_stands_there_once() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        read(GOOD, GOOD)
    with pytest.raises(ConfigurationError, match="at most 20"):
        read(*({**GOOD, "url": f"https://example.com/{number}"} for number in range(21)))
    with pytest.raises(ConfigurationError, match="list of mappings"):
        FormationConfig.from_mapping({"webhooks": GOOD})
    with pytest.raises(ConfigurationError, match="expected a mapping"):
        read("https://example.com")


def test_the_signature_of_the_specification() -> None:
    """The example of the specification's own libraries."""
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signed_headers(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_000_000, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_their_library_takes_ours_and_nothing_that_was_changed() -> None:
    import time

    body = b'{"id":"evt_1","text":"\xc3\xa9"}'
    headers = signed_headers(KEY, "evt_1", time.time_ns() // 1000, body)
    Webhook(KEY).verify(body, headers)
    for changed in (
        (body + b" ", headers),
        (body, {**headers, "webhook-id": "evt_2"}),
        (body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        (body, signed_headers(KEY, "evt_1", time.time_ns() // 1000 - 3_600_000_000, body)),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(KEY).verify(*changed)


def test_every_event_of_the_history_has_its_name() -> None:
    assert {told_as(event) for event in Event} | {TASK_RUN_FINISH, IMPORT_FINISH} == set(EVENT_TYPES)
    assert len(set(EVENT_TYPES)) == len(EVENT_TYPES)
