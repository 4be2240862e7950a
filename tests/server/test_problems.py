"""From errors to what the wire says of them."""

from __future__ import annotations

import logging
import sys

import msgspec
import pytest

from muxi_identity import errors
from muxi_identity.server.envelope import failure
from muxi_identity.server.logs import JsonFormatter, PlainFormatter
from muxi_identity.server.problems import STATUS, problem_of, status_of

EXPECTED = {
    "ERROR": 500,
    "CONFIGURATION": 501,
    "INVALID_REQUEST": 422,
    "INVALID_IDENTIFIER": 422,
    "INVALID_SCHEDULE": 422,
    "SECRET_REFUSED": 422,
    "TOO_LARGE": 413,
    "AMBIGUOUS_IDENTIFIER": 422,
    "NOT_FOUND": 404,
    "USER_NOT_FOUND": 404,
    "IDENTIFIER_NOT_FOUND": 404,
    "SESSION_NOT_FOUND": 404,
    "MEMORY_NOT_FOUND": 404,
    "PREFERENCE_NOT_FOUND": 404,
    "CREDENTIAL_NOT_FOUND": 404,
    "TASK_NOT_FOUND": 404,
    "CONFLICT": 409,
    "IDENTIFIER_CONFLICT": 409,
    "IDENTIFIER_LIMIT": 409,
    "LAST_IDENTIFIER": 409,
    "MERGE_CONFLICT": 409,
    "USER_EXISTS": 409,
    "AUDIENCE_MISMATCH": 409,
    "IDENTITY_CHANGED": 409,
    "REQUEST_IN_PROGRESS": 409,
    "OUTCOME_UNKNOWN": 409,
    "ACCESS": 403,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "REQUEST_TIMEOUT": 408,
    "RATE_LIMITED": 429,
    "LINK_CODE_LIMITED": 429,
    "LINK_CODE_INVALID": 422,
    "EVENT_NOT_FOUND": 404,
    "MERGE_NOT_FOUND": 404,
    "FORMATION_NOT_FOUND": 404,
    "CREDENTIAL_UNREADABLE": 409,
    "MODEL_FAILED": 502,
    "MODEL_UNAVAILABLE": 503,
    "MODEL_TIMEOUT": 504,
    "STORAGE_UNAVAILABLE": 503,
    "INTERNAL": 500,
    "EMBEDDED_ONLY": 501,
    "SERVER_UNAVAILABLE": 503,
    "CLIENT_CLOSED": 503,
}


def every_class(kind: type[errors.MuxiError] = errors.MuxiError) -> list[type[errors.MuxiError]]:
    own = [] if kind.__module__ != errors.__name__ else [kind]
    return own + [each for below in kind.__subclasses__() for each in every_class(below)]


def test_every_error_has_a_status() -> None:
    found = {kind.code: status_of(kind) for kind in every_class()}
    assert found == EXPECTED
    assert len(found) == len(every_class()), "two classes have the same code: a client could not tell them apart"
    assert set(STATUS) <= set(every_class())


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_what_an_error_says(kind: type[errors.MuxiError]) -> None:
    error = kind("What happened, and what to do.", retry_after=7, limit=3, types=("a", "b"), path=object)
    problem = problem_of(error, "req_1", admin=True)
    told = msgspec.json.decode(failure(problem.code, problem.message, problem.details, "req_1", None))
    if problem.status == 500:
        assert told["error"]["details"] == {"request_id": "req_1"}
        assert "What happened" not in str(told)
        return
    assert (told["code"], told["message"]) == (error.code, "What happened, and what to do.")
    assert told["error"]["details"]["types"] == ["a", "b"]
    assert ("Retry-After" in problem.headers) == (kind.retryable or problem.status == 429)
    assert problem.headers.get("Retry-After", "7") == "7"


class Silent:
    """What some application may put into an error: nothing can be had of it."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


ENDLESS: dict[str, object] = {}
ENDLESS["again"] = ENDLESS
ODD = (
    *(None, "soon", "", -1, 0, 0.5, 1e300, 10**5_000, -(10**5_000), float("nan"), float("inf"), True, [], {}),
    *("\ud800", {"\ud800": {Silent(): Silent()}}, Silent(), ENDLESS, b"\xff", object),
)


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_whatever_an_error_holds_it_is_told(kind: type[errors.MuxiError]) -> None:
    for odd in ODD:
        error = kind("What happened \ud800.", retry_after=odd, conflicts=odd, types=odd)
        for admin in (False, True):
            problem = problem_of(error, "req_1", admin=admin)
            told = msgspec.json.decode(failure(problem.code, problem.message, problem.details, "req_1", None))
            assert problem.status == status_of(kind)
            if problem.status != 500:
                assert told["code"] == error.code
            if "Retry-After" in problem.headers:
                assert 1 <= int(problem.headers["Retry-After"]) <= 86_400


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter()], ids=["json", "plain"])
def test_what_nobody_foresaw_is_logged_without_what_it_says(formatter: logging.Formatter) -> None:
    try:
        raise KeyError("alice@email.com")
    except KeyError:
        record = logging.LogRecord("muxi_identity", logging.ERROR, "f", 1, "a call failed", (), sys.exc_info())
    record.fields = {"request_id": "req_1"}
    line = formatter.format(record)
    assert "alice" not in line
    assert "\n" not in line
    for part in ("a call failed", "req_1", "KeyError", "test_what_nobody_foresaw"):
        assert part in line
