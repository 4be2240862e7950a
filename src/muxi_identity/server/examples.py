"""An example of every error, as it is really told: for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from muxi_identity import errors
from muxi_identity.server.envelope import failure
from muxi_identity.server.limits import NO_JSON
from muxi_identity.server.problems import problem_of

REQUEST_ID = "req_5f0c1d2e3a4b5c6d7e8f"
NOT_JSON = "NOT_JSON"
"""The name of the example of a request whose body cannot be read."""
TIMESTAMP = 1_767_225_600_000
_ALICE, _BOB = "usr_1f2e3d4c5b6a79880f1e", "usr_8a7b6c5d4e3f20112a3b"

_ERRORS: tuple[errors.MuxiError, ...] = (
    errors.InvalidRequestError(
        "body.message: Field required", errors=[{"at": "body.message", "message": "Field required"}]
    ),
    errors.InvalidIdentifierError("The identifier is empty; leave it out or send the real one.", reason="empty"),
    errors.InvalidScheduleError(
        "Pass either cron or at: cron='0 9 * * MON-FRI' is 09:00 from Monday to Friday; at='2030-01-31T09:00' in the "
        "task's time zone, or '2030-01-31T09:00+01:00'."
    ),
    errors.SecretRefusedError(
        "The memory looks as if it held a GitHub token; nothing was kept. Keep it as a credential: "
        "set_credential(user_id, service, credential)."
    ),
    errors.TooLargeError("identifier has 513 characters; at most 512 are taken.", limit=512),
    errors.AmbiguousIdentifierError(
        "'12345' cannot be told: several people have it (github, telegram). Pass the type with it.",
        identifier="12345",
        types=["github", "telegram"],
    ),
    errors.LinkCodeError("That link code is not valid, or not any more; ask for a new one in the other channel."),
    errors.UnauthorizedError("X-Muxi-Client-Key is none that this formation knows."),
    errors.ForbiddenError("This takes the admin key (X-Muxi-Admin-Key)."),
    errors.NotFoundError("There is nothing at this address; /docs lists the calls."),
    errors.FormationNotFoundError("This server has no formation of that id."),
    errors.UserNotFoundError(
        "There is no user usr_nobody in this formation; create_user(user_id='usr_nobody') makes one.",
        user_id="usr_nobody",
    ),
    errors.IdentifierNotFoundError("That identifier is not linked to anybody in this formation."),
    errors.SessionNotFoundError("That identifier has no session of this id.", session_id="thread-1"),
    errors.MemoryNotFoundError("The person has no such memory; list_memories shows those that they have."),
    errors.PreferenceNotFoundError("That person has set no preference of this key.", key="language"),
    errors.CredentialNotFoundError("That person has no credential of this id."),
    errors.TaskNotFoundError("There is no such task, or it is another person's.", task_id="tsk_7c6b5a49382716f5e4d3"),
    errors.EventNotFoundError("No event of this id was given up; list_dead_events shows those that were."),
    errors.MergeNotFoundError(
        "There is no merge of that id in this formation; it is gone, too, once one of its users was deleted. "
        "get_user_history(user_id) names the merges of a person.",
        merge_id="mrg_7c6b5a49382716f5e4d3",
    ),
    errors.IdentifierConflictError(
        f'Nothing was linked: bob@email.com belongs to {_BOB}; on_conflict="absorb" joins users that only first '
        'contact has made, "merge" joins any.',
        conflicts=[{"identifier": "bob@email.com", "type": "email", "muxi_user_id": _BOB}],
    ),
    errors.IdentifierLimitError(
        "A person may have 100 identifiers; unlink some, or raise identity.max_identifiers_per_user.",
        limit=100,
        type=None,
    ),
    errors.LastIdentifierError(
        f"U98765ABC is the last identifier of {_ALICE}, who could then be reached by public id alone; pass force=True "
        "to unlink it all the same.",
        user_id=_ALICE,
    ),
    errors.MergeConflictError(f"Both are {_ALICE}: a user cannot be merged with itself.", user_id=_ALICE),
    errors.UserExistsError(
        "There is a user usr_alice already; choose another id or leave it out.", user_id="usr_alice"
    ),
    errors.AudienceMismatchError(
        "This session was begun with audience='shared' and cannot go on with 'private'; pass another session_id.",
        session_id="thread-1",
        audience="shared",
    ),
    errors.IdentityChangedError(
        "Who this identifier belongs to changed while the call was under way; nothing was written. Call again."
    ),
    errors.RequestInProgressError("A request with this idempotency key is being done; ask again later."),
    errors.OutcomeUnknownError(
        "The server went down while it did this, and doing it again might do it twice. Look whether it was done; if it "
        "was not, send it with a new idempotency key."
    ),
    errors.CredentialUnreadableError(
        "The credential github/default is encrypted with the key 3f2a9c1b, which this formation does not have: add "
        "that key to MUXI_CREDENTIAL_KEYS (after the newest; where it was not set, the key came from MUXI_SECRET_KEY). "
        "Nothing is lost.",
        credential_id="crd_7c6b5a49382716f5e4d3",
        key_id="3f2a9c1b",
    ),
    errors.RequestTimeoutError("The request took too long to arrive, and nothing of it was done; send it again."),
    errors.RateLimitedError("Over 600 requests a minute; ask again in 7 seconds.", retry_after=7),
    errors.LinkCodeLimitError(
        "Too many wrong link codes were typed; no code is taken for 540 seconds.", retry_after=540
    ),
    errors.InternalError("The server made a mistake.", request_id=REQUEST_ID),
    errors.ConfigurationError("Identifiers of type phone need the extra: pip install 'muxi-identity[phone]'."),
    errors.ModelError("The language model answered with nothing; nothing of the turn was recorded."),
    errors.ModelUnavailableError(
        "The language model cannot be reached or is overloaded; nothing of the turn was recorded. Call again later."
    ),
    errors.ModelTimeoutError(
        "The language model did not answer in time; nothing of the turn was recorded. Call again later."
    ),
    errors.StorageUnavailableError("The database cannot be reached or did not answer in time; call again later."),
    errors.ServerUnavailableError("The server is about to stop; ask another one."),
    errors.ClientClosedError("The server is about to stop; ask another one."),
)


def example_of(kind: type[errors.MuxiError] | str) -> dict[str, Any]:
    """Return an answer that tells an error of this class, or what has a name of its own.

    Raises:
        KeyError: There is none, so that no route declares an error without one.
    """
    problem = problem_of(_BY_KIND[kind], REQUEST_ID, admin=True)
    told = msgspec.json.decode(failure(problem.code, problem.message, problem.details, REQUEST_ID, None))
    return {**told, "timestamp": TIMESTAMP}


_BY_KIND: Mapping[type[errors.MuxiError] | str, errors.MuxiError] = {
    **{type(error): error for error in _ERRORS},
    NOT_JSON: errors.InvalidRequestError(NO_JSON),
}
