"""Scheduled tasks, under the names that clients of the whole product know: jobs of a scheduler."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from fastapi import Path, Query

from muxi_identity.errors import (
    IdentityChangedError,
    InvalidScheduleError,
    SecretRefusedError,
    TaskNotFoundError,
)
from muxi_identity.models import TaskRecord, TaskRunPage
from muxi_identity.refusals import MAX_SECRET_BYTES
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import NAMING, Cursor, Limit, OpenBody, Schedule, TaskText, UserInBody, Zone

routes = Routes("Scheduler", "Tasks that run as a person, at a time or again and again. All of it takes the admin key.")

JobInPath = Annotated[str, Path(max_length=256, examples=["task_7c6b5a49382716f5e4d3"])]
JobType = Literal["recurring", "one_time", "prompt"]
_CRON_FIELDS = 5


class Job(TypedDict):
    """A task; ``id`` is ``task_id`` again and ``type`` is ``recurring`` or ``one_time``."""

    id: str
    task_id: str
    type: str
    muxi_user_id: str
    kind: str
    schedule: str
    timezone: str
    message: str
    status: str
    next_run_at: str | None
    created_at: str
    updated_at: str


class JobList(TypedDict):
    """A page of one person's tasks, newest first."""

    jobs: list[Job]
    count: int
    next_cursor: str | None


class DeletedJob(TypedDict):
    """Which task was deleted."""

    deleted: bool
    id: str
    task_id: str


class JobBody(OpenBody):
    """What to do for whom, and when.

    ``schedule`` is a cron expression for ``recurring``, an ISO 8601 time for ``one_time``, and either for ``prompt``;
    or ``cron`` or ``at`` says which of both it is, without a type. ``user_id`` may stand in the header instead.
    """

    type: JobType | None = None
    schedule: Schedule | None = None
    cron: Schedule | None = None
    at: Schedule | None = None
    message: TaskText
    user_id: UserInBody = None
    timezone: Zone = "UTC"


class JobChange(OpenBody):
    """What to change; what is left out stays. ``schedule`` is told for what it is; or pass ``cron`` or ``at``."""

    schedule: Schedule | None = None
    cron: Schedule | None = None
    at: Schedule | None = None
    message: TaskText | None = None
    timezone: Zone | None = None


_JOB = {
    "id": "task_7c6b5a49382716f5e4d3",
    "task_id": "task_7c6b5a49382716f5e4d3",
    "type": "recurring",
    "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
    "kind": "cron",
    "schedule": "0 9 * * 1",
    "timezone": "UTC",
    "message": "Remind me of my budget",
    "status": "active",
    "next_run_at": "2026-01-05T09:00:00.000000Z",
    "created_at": "2026-01-01T00:00:00.000000Z",
    "updated_at": "2026-01-01T00:00:00.000000Z",
}


@routes.add(
    "GET",
    "/scheduler/jobs",
    access=Access.ADMIN,
    data=JobList,
    user=True,
    raises=NAMING,
    example={"jobs": [_JOB], "count": 1, "next_cursor": None},
)
async def list_jobs(
    call: Calling,
    user_id: Annotated[str | None, Query(max_length=MAX_SECRET_BYTES, description="Whose; or X-Muxi-User-ID.")] = None,
    status: Literal["active", "paused", "finished"] | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JobList:
    """List the tasks of one person, newest first."""
    page = await call.client.list_tasks(await call.user(user_id), status=status, limit=limit, cursor=cursor)
    return {
        "jobs": [_job(each) for each in page["tasks"]],
        "count": page["count"],
        "next_cursor": page["next_cursor"],
    }


@routes.add(
    "POST",
    "/scheduler/jobs",
    access=Access.ADMIN,
    data=Job,
    user=True,
    status=201,
    repetition="once",
    raises=(*NAMING, InvalidScheduleError, SecretRefusedError, IdentityChangedError),
    body={"type": "recurring", "schedule": "0 9 * * 1", "message": "Remind me of my budget", "user_id": "user_123"},
    example=_JOB,
)
async def create_job(call: Calling, body: JobBody) -> Job:
    """Schedule a task for a person. It follows them through every link and merge."""
    when: dict[str, Any] = {"cron": body.cron, "at": body.at}
    if body.schedule is not None:
        cron = body.type == "recurring" or (body.type in ("prompt", None) and _is_cron(body.schedule))
        when["cron" if cron else "at"] = body.schedule
    user = await call.user(body.user_id)
    return _job(await call.client.schedule_task(user, body.message, timezone=body.timezone, **when))


_ONE: dict[str, Any] = {"access": Access.ADMIN, "data": Job, "user": True, "example": _JOB}


@routes.add("GET", "/scheduler/jobs/{job_id:segment}", raises=(*NAMING, TaskNotFoundError), **_ONE)
async def get_job(call: Calling, job_id: JobInPath) -> Job:
    """Read one task."""
    return _job(await call.client.get_task(job_id, await call.user_or_none()))


@routes.add(
    "PUT",
    "/scheduler/jobs/{job_id:segment}",
    raises=(*NAMING, TaskNotFoundError, InvalidScheduleError, SecretRefusedError),
    body={"schedule": "0 8 * * 1"},
    **_ONE,
)
async def update_job(call: Calling, job_id: JobInPath, body: JobChange) -> Job:
    """Change when a task runs, or what it says."""
    when: dict[str, Any] = {"cron": body.cron, "at": body.at}
    if body.schedule is not None:
        when["cron" if _is_cron(body.schedule) else "at"] = body.schedule
    return _job(
        await call.client.update_task(
            job_id, await call.user_or_none(), message=body.message, timezone=body.timezone, **when
        )
    )


@routes.add(
    "DELETE",
    "/scheduler/jobs/{job_id:segment}",
    access=Access.ADMIN,
    data=DeletedJob,
    user=True,
    raises=(*NAMING, TaskNotFoundError),
    example={"deleted": True, "id": "task_7c6b5a49382716f5e4d3", "task_id": "task_7c6b5a49382716f5e4d3"},
)
async def delete_job(call: Calling, job_id: JobInPath) -> DeletedJob:
    """Delete a task with its runs."""
    deleted = await call.client.delete_task(job_id, await call.user_or_none())
    return {"deleted": deleted["deleted"], "id": deleted["task_id"], "task_id": deleted["task_id"]}


@routes.add(
    "POST", "/scheduler/jobs/{job_id:segment}/pause", raises=(*NAMING, TaskNotFoundError), repetition="harmless", **_ONE
)
async def pause_job(call: Calling, job_id: JobInPath) -> Job:
    """Let a task rest. A run that is under way ends."""
    return _job(await call.client.pause_task(job_id, await call.user_or_none()))


@routes.add(
    "POST",
    "/scheduler/jobs/{job_id:segment}/resume",
    raises=(*NAMING, TaskNotFoundError, InvalidScheduleError),
    repetition="harmless",
    **_ONE,
)
async def resume_job(call: Calling, job_id: JobInPath) -> Job:
    """Let a task run again, from its next time on."""
    return _job(await call.client.resume_task(job_id, await call.user_or_none()))


@routes.add(
    "GET",
    "/scheduler/jobs/{job_id:segment}/runs",
    access=Access.ADMIN,
    data=TaskRunPage,
    user=True,
    raises=(*NAMING, TaskNotFoundError),
    example={"runs": [], "count": 0, "next_cursor": None},
)
async def list_job_runs(call: Calling, job_id: JobInPath, limit: Limit = 50, cursor: Cursor = None) -> TaskRunPage:
    """List the runs of a task, newest first."""
    return await call.client.list_task_runs(job_id, await call.user_or_none(), limit=limit, cursor=cursor)


def _is_cron(schedule: object) -> bool:
    return isinstance(schedule, str) and (len(schedule.split()) >= _CRON_FIELDS or schedule.startswith("@"))


def _job(record: TaskRecord) -> Job:
    kind = "recurring" if record["kind"] == "cron" else "one_time"
    return {"id": record["task_id"], "type": kind, **record}
