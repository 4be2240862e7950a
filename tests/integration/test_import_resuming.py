"""An import that is killed goes on where it stood, and ends as one that nobody disturbed."""

from __future__ import annotations

import asyncio
import io
import json
import random
from pathlib import Path

import pytest

from muxi_identity import AsyncFormationClient, InvalidRequestError, RequestInProgressError
from muxi_identity.config import FormationConfig
from muxi_identity.importing import batches
from tests.importing import ONCE, kill_midway, people_of, random_rows, write_jsonl
from tests.invariants import check_invariants, events, read_tables
from tests.long import LONG
from tests.races.processes import variant

KILLS = 30 if LONG else 2
REPORTED = ("rows", "created", "linked", "known", "merged", "skipped", "refused")


async def test_killed_again_and_again(database_config: FormationConfig, tmp_path: Path) -> None:
    chance = random.Random(KILLS)
    rows = random_rows(chance, 60 * (KILLS + 1))
    path = write_jsonl(tmp_path / "people.jsonl", rows)
    other = variant(database_config, id=database_config.id + "-whole")
    async with AsyncFormationClient(other) as formation:
        whole = await formation.import_users(rows, on_conflict="absorb")
    for _ in range(KILLS):
        await asyncio.to_thread(kill_midway, database_config, path, 5, chance)
        await check_invariants(database_config)
    async with AsyncFormationClient(database_config) as formation:
        report, again, once_more = [
            await formation.import_users(path, on_conflict="absorb", import_id=ONCE) for _ in range(3)
        ]
    assert {name: report[name] for name in REPORTED} == {name: whole[name] for name in REPORTED}
    assert [each["line"] for each in report["refusals"]] == [each["line"] for each in whole["refusals"]]
    # What is wrong with a row itself is said again; what it met with, that run alone knew.
    said_again = [
        each
        if each["code"] == "INVALID_IDENTIFIER"
        else {**each, "message": f"Refused by an earlier run: {each['code']}."}
        for each in report["refusals"]
    ]
    ended = again["finished_before"]
    assert ended is not None
    assert again == once_more
    assert report["finished_before"] is None
    assert again == {**report, "resumed": len(rows), "refusals": said_again, "finished_before": ended}
    tables = await check_invariants(database_config)
    assert people_of(tables) == people_of(await check_invariants(other))


async def test_cut_off_between_any_two_transactions(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 5)
    rows = random_rows(random.Random(5), 12)
    other = variant(database_config, id=database_config.id + "-whole")
    async with AsyncFormationClient(other) as formation:
        whole = await formation.import_users(rows)

    async with AsyncFormationClient(database_config) as formation:
        runner = (await formation._lifecycle.formation())._runner
        change = runner.change
        left = 2

        async def change_then_die(*arguments: object, **named: object) -> object:
            nonlocal left
            result = await change(*arguments, **named)  # type: ignore[arg-type]
            left -= 1
            if not left:
                raise ConnectionAbortedError
            return result

        monkeypatch.setattr(runner, "change", change_then_die)
        ended = 0
        while True:
            left = 3  # it begins, and gets one step further than the last time
            try:
                report = await formation.import_users(rows, import_id="once")
            except ConnectionAbortedError:
                ended += 1
                assert ended < 100
                continue
            break
    assert {name: report[name] for name in REPORTED} == {name: whole[name] for name in REPORTED}
    assert people_of(await check_invariants(database_config)) == people_of(await check_invariants(other))


async def test_a_file_is_imported_anew_after_its_end(database_config: FormationConfig, tmp_path: Path) -> None:
    told: list[str] = []
    alice, bob = {"identifiers": ["alice@example.com", "A"]}, {"identifiers": ["bob@example.com", "B"]}
    path = write_jsonl(tmp_path / "people.jsonl", [alice, bob])
    async with AsyncFormationClient(database_config, on_event=lambda event: told.append(event["type"])) as formation:
        stranger = await formation.associate_user_identifiers(["B"])
        other = await formation.associate_user_identifiers(["bob@example.com"])
        first = await formation.import_users(path)
        await formation.merge_users(other["muxi_user_id"], stranger["muxi_user_id"])
        second = await formation.import_users(path)
        third = await formation.import_users(path, import_id=second["import_id"])
    assert first["import_id"] == second["import_id"]
    assert [each["refused"] for each in (first, second, third)] == [1, 0, 0]
    assert [each["known"] for each in (first, second, third)] == [0, 2, 2]
    assert (second["finished_before"], second["resumed"]) == (None, 0)
    assert third["finished_before"] is not None
    assert told.count("import.finish") == 2  # the third did nothing
    await check_invariants(database_config)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_came_before_the_damage(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    monkeypatch.setattr(batches, "BATCH", 5)
    rows = [{"identifiers": [f"person{number}@example.com"]} for number in range(7)]
    told = []
    async with AsyncFormationClient(database_config) as formation:
        with pytest.raises(InvalidRequestError, match="no JSON") as failed:
            await formation.import_users(
                io.StringIO(json.dumps(rows)[:-1]), dry_run=dry_run, on_progress=told.append, import_id="once"
            )
        people = await formation.list_users()
    assert [each["rows"] for each in told] == [5, 7]
    assert people["count"] == (0 if dry_run else 7)
    told_by_error = "They were tried; in a dry run, nothing" if dry_run else "They are imported, but"
    assert f"Rows before that: 7. {told_by_error}" in failed.value.message


async def test_other_rows_or_options_under_the_same_id(database_config: FormationConfig) -> None:
    rows = [{"identifiers": [f"person{number}@example.com"]} for number in range(9)]
    async with AsyncFormationClient(database_config) as formation:
        await formation.import_users(rows, import_id="once")
        for wrong in (rows[:-1], [*rows[:-1], {"identifiers": ["eve@example.com"]}], rows[::-1]):
            with pytest.raises(InvalidRequestError, match="other rows"):
                await formation.import_users(wrong, import_id="once")
        with pytest.raises(InvalidRequestError, match="other options"):
            await formation.import_users(rows, import_id="once", on_conflict="merge")
        more = await formation.import_users([*rows, {"identifiers": ["eve@example.com"]}], import_id="once")
    assert (more["resumed"], more["created"]) == (9, 10)


async def test_whoever_begins_it_last_goes_on(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 100)

    async def rows(number: int):  # type: ignore[no-untyped-def]
        for each in range(number):
            if each == 250:
                first_stands.set()
                await second_ended.wait()
            yield {"identifiers": [f"person{each}@example.com"]}

    first_stands, second_ended = asyncio.Event(), asyncio.Event()
    async with AsyncFormationClient(database_config) as formation:
        first = asyncio.create_task(formation.import_users(rows(450), import_id="once"))
        await first_stands.wait()
        second = await formation.import_users(
            [{"identifiers": [f"person{each}@example.com"]} for each in range(450)], import_id="once"
        )
        second_ended.set()
        with pytest.raises(RequestInProgressError):
            await first
    assert second["created"] == 450
    await check_invariants(database_config)


async def test_imports_and_people_who_write_in_meet(database_config: FormationConfig) -> None:
    rows = [{"identifiers": [f"person{number}@example.com", (f"U{number}", "slack")]} for number in range(60)]
    async with AsyncFormationClient(database_config) as one, AsyncFormationClient(database_config) as other:
        await asyncio.gather(
            one.import_users(rows, on_conflict="absorb"),
            other.import_users(rows[::-1], on_conflict="absorb"),
            *(
                other.resolve_user((f"U{number}", "slack"), create_user=True)
                for number in random.Random(1).sample(range(60), 20)
            ),
        )
        found = [await one.resolve_user(f"person{number}@example.com") for number in range(60)]
        same = [await other.resolve_user((f"U{number}", "slack")) for number in range(60)]
    assert [each["muxi_user_id"] for each in found] == [each["muxi_user_id"] for each in same]
    await check_invariants(database_config)


async def test_one_event_for_all_of_it_and_the_history_of_each(database_config: FormationConfig) -> None:
    told: list[str] = []
    known = {"identifiers": ["alice@example.com", ("U1", "slack")]}
    async with AsyncFormationClient(database_config, on_event=lambda event: told.append(event["type"])) as formation:
        await formation.resolve_user("alice@example.com", create_user=True)
        await formation.resolve_user(("U1", "slack"), create_user=True)
        before = await read_tables(database_config)
        await formation.import_users([known, {"identifiers": ["bob@example.com"]}], dry_run=True)
        assert await read_tables(database_config) == before
        await formation.import_users([known, {"identifiers": ["bob@example.com"]}], on_conflict="absorb")
    tables = await check_invariants(database_config)
    assert told[-2:] == ["user.merge", "import.finish"]
    assert told.count("identifier.link") == 2
    assert len(events(tables, "identifier:link")) == 3
