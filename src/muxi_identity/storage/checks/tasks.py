"""Rules about scheduled tasks and their runs."""

from __future__ import annotations

from muxi_identity.storage.checks.mending import GIVE_RUN_TO_TASK
from muxi_identity.storage.checks.rule import Rule

_ONE_BY_ONE = "See muxi_task_runs for what was run, and let the task go: it is run again."
_LET_GO = "UPDATE muxi_tasks SET claim = NULL, claimed_until = NULL WHERE {those}"
_END_RUN = (
    "UPDATE muxi_task_runs SET status = 'lost', error = NULL, finished_at = coalesce(finished_at, started_at)"
    " WHERE {those}"
)

TASK_RULES = (
    Rule(
        "task-form",
        "SELECT formation_id, pk FROM muxi_tasks"
        " WHERE task_id NOT LIKE 'tsk~_%' ESCAPE '~' OR trim(message) = '' OR schedule = '' OR timezone = ''",
        "A task is not as one is made: without an id, a message, a schedule or a time zone.",
        "Restore it from a back-up, or delete it with its runs, and have it scheduled again.",
        (
            "DELETE FROM muxi_task_runs WHERE (formation_id, task_pk) IN"
            " (SELECT formation_id, pk FROM muxi_tasks WHERE {those})",
            "DELETE FROM muxi_tasks WHERE {those}",
        ),
    ),
    Rule(
        "task-state",
        """
        SELECT formation_id, pk FROM muxi_tasks
         WHERE status NOT IN ('active', 'paused', 'finished') OR kind NOT IN ('cron', 'once')""",
        "A task is in no state, or of no kind, that there is: no worker runs it.",
        "Pause it. Set its schedule anew then (update_task), and resume it.",
        (
            "UPDATE muxi_tasks SET status = 'paused', next_run_at = NULL, attempts = 0, claim = NULL,"
            " claimed_until = NULL, kind = CASE WHEN schedule LIKE '____-__-__T%' THEN 'once' ELSE 'cron' END"
            " WHERE {those}",
        ),
    ),
    Rule(
        "task-due",
        """
        SELECT formation_id, pk FROM muxi_tasks
         WHERE claim IS NULL AND ((status = 'active' AND next_run_at IS NULL)
                                  OR (status IN ('paused', 'finished') AND next_run_at IS NOT NULL))""",
        "A task is active and never due, or due though it is paused or finished.",
        "Let it be due at once where it is active, and never where it is not.",
        ("UPDATE muxi_tasks SET next_run_at = CASE status WHEN 'active' THEN {now} END WHERE {those}",),
    ),
    Rule(
        "task-claim",
        """
        SELECT formation_id, pk FROM muxi_tasks
         WHERE (claim IS NULL) <> (claimed_until IS NULL) OR attempts < 0 OR (claim IS NOT NULL AND attempts = 0)""",
        "A task is claimed by halves: no worker takes it, or two do.",
        _ONE_BY_ONE,
        (
            "UPDATE muxi_task_runs SET status = 'lost', finished_at = started_at WHERE status = 'running'"
            " AND (formation_id, task_pk) IN (SELECT formation_id, pk FROM muxi_tasks WHERE {those})",
            "UPDATE muxi_tasks SET claim = NULL, claimed_until = NULL, attempts = 0 WHERE {those}",
        ),
    ),
    Rule(
        "task-claim-run",
        """
        SELECT t.formation_id, t.pk FROM muxi_tasks t
         WHERE t.claim IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM muxi_task_runs r
             WHERE r.formation_id = t.formation_id AND r.run_id = t.claim AND r.task_pk = t.pk
               AND r.status = 'running')""",
        "A task is claimed for a run that there is not, or that has ended.",
        _ONE_BY_ONE,
        (_LET_GO,),
    ),
    Rule(
        "task-run-claimed",
        """
        SELECT r.formation_id, r.pk FROM muxi_task_runs r
          JOIN muxi_tasks t ON t.formation_id = r.formation_id AND t.pk = r.task_pk
         WHERE r.status = 'running' AND (t.claim IS NULL OR t.claim <> r.run_id)""",
        "A run is said to be under way, and its task is not claimed for it.",
        "Say that it was lost.",
        (_END_RUN,),
    ),
    Rule(
        "task-run-state",
        """
        SELECT formation_id, pk FROM muxi_task_runs
         WHERE status NOT IN ('running', 'succeeded', 'failed', 'lost') OR attempt < 1 OR missed < 0
            OR (status = 'running') <> (finished_at IS NULL) OR (status = 'failed') <> (error IS NOT NULL)
            OR run_id NOT LIKE 'run~_%' ESCAPE '~'""",
        "A run has ended by halves, without the error that it failed with, or in a state that there is not.",
        "Say that it was lost, and let its task go.",
        (
            "UPDATE muxi_tasks SET claim = NULL, claimed_until = NULL WHERE (formation_id, pk, claim) IN"
            " (SELECT formation_id, task_pk, run_id FROM muxi_task_runs WHERE {those})",
            "UPDATE muxi_task_runs SET status = 'lost', error = NULL, finished_at = coalesce(finished_at, started_at),"
            " attempt = CASE WHEN attempt < 1 THEN 1 ELSE attempt END, missed = CASE WHEN missed < 0 THEN 0 ELSE missed"
            " END, run_id = CASE WHEN run_id LIKE 'run~_%' ESCAPE '~' THEN run_id ELSE 'run_' || pk END WHERE {those}",
        ),
    ),
    Rule(
        "task-run-owner",
        """
        SELECT r.formation_id, r.pk FROM muxi_task_runs r
          JOIN muxi_tasks t ON t.formation_id = r.formation_id AND t.pk = r.task_pk
         WHERE t.user_pk <> r.user_pk OR coalesce(t.identifier_pk, 0) <> coalesce(r.identifier_pk, 0)""",
        "A run belongs to another user or identifier than its task: one person's reply may be read by another.",
        "Give the run the user and the identifier of its task.",
        (GIVE_RUN_TO_TASK,),
    ),
)
