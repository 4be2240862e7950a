"""The audit log: what was done to identities, by whom, and why."""

from __future__ import annotations

from muxi_identity.models.buffers import AuditPage
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import Cursor, Limit

routes = Routes("Audit", "What was done to identities.")


@routes.add(
    "GET",
    "/audit",
    access=Access.ADMIN,
    data=AuditPage,
    example={
        "events": [
            {
                "at": "2026-01-01T00:00:00.000000Z",
                "event": "identifier:link",
                "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
                "other_user_id": None,
                "merge_id": None,
                "actor": "admin",
                "source": None,
                "reason": None,
            }
        ],
        "count": 1,
        "next_cursor": None,
    },
)
async def get_audit_log(call: Calling, limit: Limit = 50, cursor: Cursor = None) -> AuditPage:
    """List what was done to identities, the last first. It holds ids alone, and nobody can delete from it."""
    return await call.site.formation.audit(limit, cursor)
