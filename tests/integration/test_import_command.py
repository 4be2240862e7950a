"""``muxi users import`` and ``muxi users export-people``, as somebody types them."""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from muxi_identity import FormationClient
from muxi_identity.cli.files import NewFile
from muxi_identity.cli.main import app
from muxi_identity.config import FormationConfig
from tests.server.places import ADMIN_KEY, running, write_served

PEOPLE = "email,slack:T1,Name\nalice@email.com,U1,Alice\nundefined,U2,Bob\n,U3,Carol\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUXI_HOME", raising=False)
    (tmp_path / "formation.yaml").write_text("id: imported\n", encoding="utf-8")
    (tmp_path / "people.csv").write_text(PEOPLE, encoding="utf-8")
    return tmp_path


def run(*arguments: str, code: int, given: str | None = None) -> str:
    result = CliRunner().invoke(app, ["users", *arguments], input=given)
    assert result.exit_code == code, result.output
    return result.stdout


def test_in_with_what_was_refused_and_out_again(folder: Path) -> None:
    assert "dry" in run("import", "people.csv", "--ignore-column", "Name", "--dry-run", code=7)
    assert run("export-people", code=0) == ""
    command = ("import", "people.csv", "--ignore-column", "Name", "--json")
    report = json.loads(run(*command, "--report", "report.jsonl", "--rejected", "bad.csv", code=7))
    assert (report["created"], report["linked"], report["refused"]) == (2, 3, 1)
    assert [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()] == report["refusals"]
    assert report["refusals"][0]["line"] == 3
    assert "find out why it had nothing" in report["refusals"][0]["message"]
    assert (folder / "bad.csv").read_text() == "email,slack:T1,Name\nundefined,U2,Bob\n"
    assert stat.S_IMODE((folder / "bad.csv").stat().st_mode) == 0o600

    again = json.loads(run(*command, "--quiet", code=7))
    assert {name: again[name] for name in ("resumed", "known", "refused")} == {"resumed": 0, "known": 2, "refused": 1}
    result = CliRunner().invoke(app, ["users", *command, "--import-id", report["import_id"]])
    assert f"Nothing was done: the import {report['import_id']} came to its end at " in result.stderr

    more = {"identifiers": [["=1+1", "github"], {"identifier": "+49", "type": "internal", "metadata": {"a": "\u00e9"}}]}
    run("import", "-", code=0, given=json.dumps(more))
    run("export-people", "--output", "all.jsonl", code=0)
    run("export-people", "--format", "csv", "--output", "all.csv", code=0)
    assert '"\'=1+1","github"' in (folder / "all.csv").read_text()
    for name in ("all.jsonl", "all.csv"):
        (folder / "formation.yaml").write_text(f"id: to-{name}\n", encoding="utf-8")
        run("import", "-", "--create-users", code=0, given=(folder / name).read_text())
        assert run("export-people", code=0) == (folder / "all.jsonl").read_text()


def test_refused_rows_of_a_packed_file_can_be_read_again(folder: Path) -> None:
    (folder / "people.csv.gz").write_bytes(gzip.compress(b"\n" + PEOPLE.encode(), mtime=0))
    run("import", "people.csv.gz", "--ignore-column", "Name", "--rejected", "bad.csv", code=7)
    assert (folder / "bad.csv").read_text() == "email,slack:T1,Name\nundefined,U2,Bob\n"


def test_refused_rows_of_standard_input_keep_their_bytes_and_their_header(folder: Path) -> None:
    given = b"\xef\xbb\xbfemail;slack\r\n\xff\xfe;U1\r\nalice@email.com;\r\nJos\xe9;\xe9\r\n"
    result = CliRunner().invoke(app, ["users", "import", "-", "--rejected", "bad.csv"], input=given)
    assert result.exit_code == 7, result.output
    assert (folder / "bad.csv").read_bytes() == b"email;slack\n\xff\xfe;U1\nJos\xe9;\xe9\n"


def test_a_command_that_was_killed_can_be_given_again(folder: Path) -> None:
    files = ("--report", "report.jsonl", "--rejected", "bad.csv")
    for name in ("report.jsonl.part", "bad.csv.part"):
        (folder / name).write_text("what a killed run had written")
    run("import", "people.csv", "--ignore-column", "Name", *files, code=7)
    assert sorted(each.name for each in folder.glob("*.*l*")) == [
        "formation.yaml", "report.jsonl", "report.jsonl.part"
    ]  # fmt: skip
    assert {each.read_text() for each in folder.glob("*.part*")} == {"what a killed run had written"}
    assert (folder / "bad.csv").read_text() == "email,slack:T1,Name\nundefined,U2,Bob\n"
    (folder / "bad.csv").write_text("email,slack:T1,Name\nbob@email.com,U2,Bob\n")  # somebody mends it
    run("import", "people.csv", "--ignore-column", "Name", "--rejected", "bad.csv", code=2)
    assert run("import", "bad.csv", "--ignore-column", "Name", code=0)


def test_an_import_that_fails_leaves_what_it_refused_as_a_part(folder: Path) -> None:
    (folder / "cut.json").write_text('[{"identifiers": ["undefined"]},\n{"identi')
    result = CliRunner().invoke(
        app, ["users", "import", "cut.json", "--rejected", "bad.jsonl", "--report", "why.jsonl"]
    )
    assert result.exit_code == 2, result.output
    assert "bad.jsonl.part is what was written of bad.jsonl so far" in result.stderr
    assert (folder / "bad.jsonl.part").read_text() == '{"identifiers": ["undefined"]}\n'
    assert not (folder / "bad.jsonl").exists()
    result = CliRunner().invoke(app, ["users", "import", "nowhere.csv", "--rejected", "bad.csv"])
    assert result.exit_code == 2
    assert list(folder.glob("bad.csv*")) == []


@pytest.mark.parametrize("reason", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_of_two_commands_that_write_a_file_the_first_to_end_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: int | None
) -> None:
    def link(*_: Path) -> None:
        assert reason is not None
        raise OSError(reason, os.strerror(reason))

    if reason is not None:  # as where the file system has no hard links
        monkeypatch.setattr(os, "link", link)
    first = NewFile(folder / "bad.csv")
    first.write(b"first")
    with NewFile(folder / "bad.csv") as second:
        second.write(b"second")
    with pytest.raises(typer.Exit):
        first.__exit__(None)
    assert {each.name: each.read_text() for each in folder.glob("bad*")} == {
        "bad.csv": "second", "bad.csv.part": "first"
    }  # fmt: skip
    told = capsys.readouterr().err
    assert "bad.csv.part is of another run, and stays as it is" in told
    assert "bad.csv cannot be written (File exists)" in told
    assert "bad.csv.part is what was written of" in told


def test_a_served_formation_tells_what_it_has_not_told(database_config: FormationConfig, folder: Path) -> None:
    file, secrets = write_served(database_config, folder)
    with running(file, env=secrets) as server:
        command = ("users", "import", "people.csv", "--ignore-column", "Name", "--url", server.url)
        options = ("--report", "report.jsonl", "--rejected", "bad.csv")
        result = CliRunner().invoke(app, [*command, *options], env={"MUXI_ADMIN_KEY": ADMIN_KEY})
        assert result.exit_code == 7, result.output
        assert "refused rows:" not in result.stderr
        assert "find out why it had nothing" in result.stderr
        piped = (*command[:2], "-", *command[3:], "--rejected", "none.csv")
        result = CliRunner().invoke(app, piped, input=PEOPLE, env={"MUXI_ADMIN_KEY": ADMIN_KEY})
        assert "none.csv has 0 of 1 refused rows" in result.stderr
        elsewhere = {"MUXI_URL": "http://127.0.0.1:1", "MUXI_ADMIN_KEY": ADMIN_KEY}
        result = CliRunner().invoke(app, command, env=elsewhere)
        assert result.exit_code == 6
        assert "options name another" in result.stderr
        told: list[Any] = []
        with FormationClient(url=server.url, admin_key=ADMIN_KEY) as formation:
            again = formation.import_users("people.csv", ignore_columns=["Name"], on_progress=told.append)
        assert (again["known"], again["finished_before"]) == (2, None)
        assert [(each["rows"], each["read"], each["size"]) for each in told] == [
            (0, len(PEOPLE), len(PEOPLE)), (3, len(PEOPLE), len(PEOPLE))
        ]  # fmt: skip
    assert (folder / "bad.csv").read_text() == "email,slack:T1,Name\nundefined,U2,Bob\n"


def test_what_cannot_be_done_at_all(folder: Path) -> None:
    run("import", "people.csv", code=2)  # nobody said that a name is no identifier
    run("import", "nowhere.csv", code=2)
    run("import", "people.csv", "--ignore-column", "Name", "--report", "people.csv", code=2)
    run("export-people", "--output", "people.csv", code=2)
    assert (folder / "people.csv").read_text() == PEOPLE
    assert run("export-people", code=0) == ""
