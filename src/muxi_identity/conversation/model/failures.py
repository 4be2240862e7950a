"""What went wrong with a model, in the errors of this library.

Providers quote what they were sent: the prompt, sometimes the key. So no message of theirs is handed on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from pydantic_ai import exceptions

from muxi_identity.errors import ModelError, ModelTimeoutError, ModelUnavailableError, MuxiError, TooLargeError

# What reading a reply of the wrong shape ends with, as the provider's client does not look before it reads.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, AssertionError)
# All that a run of a model ends with.
FAILURES = (exceptions.AgentRunError, exceptions.UserError, ExceptionGroup, *MALFORMED)

# That another attempt may help.
_PASSING = (
    exceptions.ModelRateLimitError,
    exceptions.ModelUnavailableError,
    exceptions.ModelServerError,
    exceptions.ModelConnectionError,
)
_TIMEOUTS = (exceptions.ModelTimeoutError, exceptions.ModelRequestTimeout, exceptions.RunTimedOut)
_PASSING_STATUS = {408, 409, 425, 429}
_LONGEST_WAIT = 86_400  # seconds: a provider may ask for anything
_NOTHING = "nothing of the turn was recorded."


class BrokenOff(exceptions.ModelConnectionError):
    """A stream that ended without saying that it is complete."""


def is_passing(error: BaseException) -> bool:
    """Tell whether asking again may help."""
    if isinstance(error, exceptions.ModelQuotaExceededError):
        return False
    if isinstance(error, _PASSING):
        return True
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and (status >= 500 or status in _PASSING_STATUS)


def describe(error: BaseException) -> str:
    """Return what a log may hold of ``error``: its kind and the status that the provider answered with."""
    cause = _cause_of(error)
    return f"{type(cause).__name__}{_status_of(cause)}"


def translated(error: BaseException, limit: int) -> MuxiError:
    """Return the error to raise in place of ``error``. ``limit``: the tokens that a prompt may hold."""
    cause = _cause_of(error)
    told = _status_of(cause)
    if isinstance(cause, MuxiError):
        return cause
    if isinstance(cause, exceptions.ModelContextWindowExceededError):
        return TooLargeError(
            "The message is longer than the model's context; shorten it, or lower llm.context_tokens to what the "
            "model takes, so that less of what is known is sent with it.",
            limit=limit,
        )
    if isinstance(cause, _TIMEOUTS):
        return ModelTimeoutError(f"The language model did not answer in time; {_NOTHING} Call again later.")
    if is_passing(cause):
        return ModelUnavailableError(
            f"The language model cannot be reached or is overloaded{told}; {_NOTHING} Call again later.",
            **_wait_of(cause),
        )
    return ModelError(f"{_what_to_do(cause)}{told}; {_NOTHING}")


def _wait_of(cause: BaseException) -> dict[str, int]:
    """Return for how long the provider asks to be left alone, in whole seconds, where it says so."""
    wait = getattr(cause, "retry_after", None)
    if not isinstance(wait, int | float) or not wait >= 0:
        return {}
    return {"retry_after": max(1, math.ceil(min(wait, _LONGEST_WAIT)))}


def _what_to_do(cause: BaseException) -> str:
    if isinstance(cause, exceptions.ModelAuthenticationError):
        return "The language model's provider refused the key: check llm.api_key"
    if isinstance(cause, exceptions.ModelQuotaExceededError):
        return "The account with the language model's provider has no credit or quota left"
    if isinstance(cause, exceptions.ModelNotFoundError):
        return "The language model's provider has no such model: check llm.model and llm.base_url"
    if isinstance(cause, exceptions.ModelRequestRejectedError):
        return "The language model's provider rejected the request: check llm.model and what it takes"
    if isinstance(cause, exceptions.ContentFilterError):
        return "The language model's provider filtered the reply"
    if isinstance(cause, exceptions.UsageLimitExceeded):
        return "The language model went on calling tools without an answer, and was stopped"
    if isinstance(cause, exceptions.UserError):
        return "The language model cannot be used as it is configured: check llm.model and the tools"
    return "The language model answered with something that cannot be read"


def _cause_of(error: BaseException) -> BaseException:
    causes = list(_causes(error))
    return next((each for each in causes if is_passing(each)), causes[0])


def _status_of(cause: BaseException) -> str:
    status = getattr(cause, "status_code", None)
    return f" (HTTP {status})" if isinstance(status, int) else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        inner: Iterable[BaseException] = error.exceptions
        for each in inner:
            yield from _causes(each)
    else:
        yield error
