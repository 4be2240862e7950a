"""What looks like a secret, and what must not be taken for one."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muxi_identity.context.redaction import find_secret, redact

GITHUB = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123456"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"

TOKENS = [
    (GITHUB, "a GitHub token", "ghp_...a1B2"),
    ("github_pat_11ABCDEFG0" + "x1Y2" * 12, "a GitHub token", "github_...x1Y2"),
    ("glpat-" + "aB3d" * 5, "a GitLab token", "glpat-..."),
    ("xoxb-123456789012-abcdefabcdef", "a Slack token", "xoxb-...ef"),
    ("xapp-1-A0123-456-abcdef0123456789", "a Slack token", None),
    ("https://hooks.slack.com/services/T0123/B0123/abcdefABCDEF0123", "a Slack webhook", None),
    ("sk-" + "a1B2" * 12, "an API key", "sk-...a1B2"),
    ("sk-proj-" + "aB3dE5" * 8, "an API key", None),
    ("sk-ant-api03-" + "aB3_" * 10, "an Anthropic key", None),
    ("AKIAIOSFODNN7EXAMPLE", "an AWS key", "AK...PLE"),
    ("AIzaSy" + "aB3dE" * 7, "a Google key", None),
    ("sk_live_" + "a1" * 12, "a Stripe key", None),
    ("rk_live_" + "a1" * 12, "a Stripe key", None),
    ("npm_" + "aB3d" * 9, "an npm token", None),
    ("pypi-AgEIcHlwaS5vcmc" + "aB3d" * 12, "a PyPI token", None),
    ("123456789:AAF" + "x" * 32, "a Telegram bot token", None),
    ("hf_" + "aB3d" * 9, "a Hugging Face token", None),
    ("SG." + "aB3d" * 5 + "." + "aB3d" * 10, "a SendGrid key", None),
    (JWT, "a signed token (JWT)", "eyJh...3456"),
    (PEM, "a private key", "..."),
    ("378282246310005", "a payment card number", "...0005"),
    ("4111 1111 1111 1111", "a payment card number", "...1111"),
    ("5500-0000-0000-0004", "a payment card number", "...0004"),
]

CALLED_A_SECRET = [
    ("my password is hunter2", "my password is ..."),
    ("My password is swordfish.", "My password is ...."),
    ("the wifi password for my home is swordfish, thanks", "the wifi password for my home is ..., thanks"),
    ("Password: Tr0ub4dor&3!", "Password: ..."),
    ("DB_PASSWORD=s3cr3t", "DB_PASSWORD=..."),
    ('{"password": "correct horse", "user": "bob"}', '{"password": "...", "user": "bob"}'),
    ("my pass = foo123", "my pass = ..."),
    ("passphrase is correct-horse-battery-staple", "passphrase is ..."),
    ("change my email password to Tr0ub4dor", "change my email password to ..."),
    ("hunter2 is my password", "... is my password"),
    ("use hunter2 as my wifi password", "use ... as my wifi password"),
    ("Das Passwort ist geheim123", "Das Passwort ist ..."),
    ("my pin is 1234", "my pin is ..."),
    ("PIN: 483920", "PIN: ..."),
    ("the cvv is 123", "the cvv is ..."),
    ("my api key is abcdef123456", "my api key is ..."),
    ("apiKey=abcdef0123456789abcdef", "apiKey=ab...def"),
    ("client_secret: abc123def456", "client_secret: ..."),
    ("Authorization: Bearer abcdefgh", "Authorization: Bearer ..."),
    ("postgres://muxi:p4ss@db.example/muxi", "postgres://muxi:...@db.example/muxi"),
    ("https://x-access-token:p@ss@github.com/a/b", "https://x-access-token:...@github.com/a/b"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_SECRET_ACCESS_KEY=wJal...EKEY"),
]

ORDINARY = [
    "my password manager is 1Password",
    "1Password is my password manager",
    "my password is wrong",
    "The password is not working any more",
    "my password is case-sensitive.",
    "the password must be 12 characters long",
    "the password is 12-characters long",
    "forgot password: how do I reset it?",
    "What is my password?",
    "the password is in 1Password",
    "My pin code is 560001",  # a postal code in India
    "my api key is expired",
    "my api key: see the wiki, page 12345678",
    "my secret ingredient is cinnamon",
    "My secret is that I love jazz",
    "My token limit is 128000",
    "the access token expires in 3600 seconds",
    "the key is under the mat",
    "my key takeaway is 20% growth",
    "password = ${{ secrets.DB_PASSWORD }}",
    "password: ********",
    "My budget is $5,000",
    "U98765ABC",
    "usr_0123456789abcdef0123",
    "mem_0123456789abcdef0123",
    "alice.smith+news@example.co.uk",
    "+49 151 23456789",
    "(555) 123-4567",
    str(uuid.UUID(int=0x550E8400E29B41D4A716446655440000)),
    "commit 3ae7383f0c1d2b3a4c5d6e7f8091a2b3c4d5e6f7",
    "order 1234567890123456",
    "my Discord id is 80351110224678912",
    "4111 1111 1111 1112",  # no check digit of a card
    "356938035643809",  # a telephone's serial number
    "sk-learn-based-text-classification-pipeline",
    "http://example.com:8080/path?email=a@b.c",
    "2026-11-23T10:00:00Z",
    "git@github.com:muxi/identity.git",
    "",
]


@pytest.mark.parametrize(("token", "what", "shown"), TOKENS, ids=[what for _, what, _ in TOKENS])
@pytest.mark.parametrize("around", ["{}", "Use {} for the build.", '"{}"', "({})", "KEY={}", "\n{}\n"])
def test_a_token_is_found_wherever_it_stands(token: str, what: str, shown: str | None, around: str) -> None:
    text = around.format(token)
    assert find_secret(text) == what
    kept = redact(text)
    assert token not in kept
    assert token[len(token) // 2 :] not in kept
    if shown is not None:
        assert kept == around.format(shown)


@pytest.mark.parametrize(("text", "kept"), CALLED_A_SECRET)
def test_what_is_called_a_secret_is_one(text: str, kept: str) -> None:
    assert find_secret(text) is not None
    assert redact(text) == kept


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_talk_is_left_alone(text: str) -> None:
    assert find_secret(text) is None
    assert redact(text) == text


def test_all_of_several_are_replaced() -> None:
    text = f"first {GITHUB}, then {JWT}; my password is hunter2 and postgres://u:{GITHUB}@db/x"
    assert find_secret(text) == "a GitHub token"
    kept = redact(text)
    assert kept == "first ghp_...a1B2, then eyJh...3456; my password is ... and postgres://u:ghp_...a1B2@db/x"


def test_half_a_private_key_goes_to_the_end_of_the_text() -> None:
    assert redact("here: -----BEGIN PRIVATE KEY-----\nMIIEvQ\nIBADAN") == "here: ..."


PIECES = st.sampled_from(
    [
        *(token for token, _, _ in TOKENS),
        *(text for text, _ in CALLED_A_SECRET),
        *ORDINARY,
        "password",
        "password: ",
        "password is ",
        "api key=",
        "token ",
        " is my password",
        "://u:",
        "@",
        "...",
        '"',
        " ",
        "\n",
    ]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=8).map("".join))
@example("password is password is hunter2")
@settings(max_examples=300, deadline=None)
def test_redacting_again_changes_nothing_and_nothing_is_found_in_it(text: str) -> None:
    kept = redact(text)
    assert find_secret(kept) is None
    assert redact(kept) == kept
    if find_secret(text) is None:
        assert kept == text


HOSTILE = [
    *("a", "1", " ", ".", "é", "sk-", "eyJ", "eyJa.", "ghp_", "xox", "aB3/", "SG.aaaaaaaaaaaaaaaa.", "0:", "12345678:"),
    *("MMMMMMMMMMMMMMMMMMMMMMMM.", "-----BEGIN PRIVATE KEY-----", "a://b:", "a://b:@", "1234 ", "pin is "),
    *("password=", "password ", "password is ", "password for a ", "password='", "x is my ", "set a password to "),
    *("authorization: basic ", "aws " + "a" * 39 + " ", "my password is to x "),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_of_a_hundred_thousand_characters_makes_it_walk_in_circles(unit: str) -> None:
    # Quadratic work on this length would take minutes. Cut at a whole unit, it is the same as a short text of its kind:
    # the same is found, so that nothing was given up on.
    long = unit * (100_000 // len(unit))
    short = unit * 12
    assert (find_secret(long) is None) == (find_secret(short) is None)
    assert find_secret(redact(long)) is None
