"""Everybody at once: in as a stream of rows, and out as one, or page by page."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from fastapi import Query, Request, Response

from muxi_identity.errors import IdentityChangedError, InvalidRequestError, RequestInProgressError, RequestTimeoutError
from muxi_identity.importing.rows import Options
from muxi_identity.importing.telling import Listeners
from muxi_identity.models import ImportReport, PersonPage
from muxi_identity.paging import MAX_PAGE
from muxi_identity.server.bodies import Upload
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import Cursor, Limit
from muxi_identity.server.row_streams import ROWS, RowStream

routes = Routes("Import and export", "Everybody at once. All of it takes the admin key.")

_ROW = {"identifiers": ["alice@email.com", ["U98765ABC", "slack"]]}
_Note = Annotated[str | None, Query(max_length=256)]


@routes.add(
    "POST",
    "/users/import",
    access=Access.ADMIN,
    data=ImportReport,
    takes_rows=True,
    raises=(RequestInProgressError, IdentityChangedError),
    body=_ROW,
    example={
        "import_id": "imp_2f1c8a90d4b7e6a35b90c1f2",
        "dry_run": False,
        "rows": 1,
        "resumed": 0,
        "finished_before": None,
        "numbered_by": "line",
        "created": 1,
        "linked": 2,
        "known": 0,
        "merged": 0,
        "skipped": 0,
        "refused": 0,
        "refusals": [],
        "skips": [],
    },
)
async def import_users(
    call: Calling,
    request: Request,
    format: Literal["jsonl", "csv", "json"] | None = None,
    on_conflict: Literal["raise", "absorb", "merge"] = "raise",
    verified: bool = False,
    create_users: bool = False,
    scoped: bool = True,
    ignore_columns: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
    dry_run: bool = False,
    import_id: Annotated[str | None, Query(max_length=128)] = None,
    anew: bool = False,
    source: _Note = None,
    reason: _Note = None,
) -> ImportReport:
    """Link many people's identifiers, one row a line.

    The body is a stream: JSON lines, CSV with a header, or pages of Slack's `users.list`; gzip is unpacked. It may be
    as long as it likes, a line no longer than a MiB. Each row is linked as `POST /users/identifiers` does; what cannot
    be linked is refused and reported with its line, and the others go on. The answer comes at the end. Where it never
    comes, send the same again with the same `import_id`: it goes on where it stood, and one that has come to its end
    is only reported again (`finished_before`), unless `anew` is true. An idempotency key stands for an `import_id`, if
    none is given.
    """
    key = call.repetition_key
    if import_id is None and key is not None:
        import_id = f"key_{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    try:
        return await call.site.formation.imports.run(
            Upload(call, request.receive),
            Options(on_conflict=on_conflict, verified=verified, create_users=create_users, scoped=scoped),
            format=format,
            ignore_columns=ignore_columns,
            import_id=import_id,
            dry_run=dry_run,
            listeners=Listeners(),
            caller=call.acting()._replace(source=source or "import_users", reason=reason),
            anew=anew,
        )
    except InvalidRequestError as error:
        if call.is_late:  # the importer knows how far it came, and not why the body broke off
            raise RequestTimeoutError(error.message) from None
        raise


@routes.add("GET", "/users/export", access=Access.ADMIN, data=None, media=ROWS)
async def export_users(call: Calling) -> Response:
    """Stream everybody as JSON lines.

    A person a line, as `POST /users/import` takes it: `{"user_id": "usr_1f2e3d4c5b6a79880f1e", "identifiers":
    [{"identifier": "alice@email.com", "type": "email", "verified": true}]}`. Keys are left out. The last line is empty:
    where it is missing, the answer was cut off. Read page by page: who comes or changes meanwhile is met once or not
    at all.
    """
    page = call.site.formation.imports.page
    return RowStream(page, await page(MAX_PAGE, None))  # the first one before the head: it may be an error


@routes.add(
    "GET",
    "/users/export/pages",
    access=Access.ADMIN,
    data=PersonPage,
    example={
        "people": [
            {
                "user_id": "usr_1f2e3d4c5b6a79880f1e",
                "identifiers": [{"identifier": "alice@email.com", "type": "email", "verified": True}],
            }
        ],
        "count": 1,
        "next_cursor": None,
    },
)
async def export_page(call: Calling, limit: Limit = 50, cursor: Cursor = None) -> PersonPage:
    """List people in the same rows, page by page: each can be asked for again by itself."""
    return await call.site.formation.imports.page(limit, cursor)
