"""Full-text search: the same finds on both databases, nothing of a query is an operator, nothing erased is found."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
import sqlite3
import string
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.config import DatabaseConfig, Secret
from muxi_identity.context.memories.rows import NewMemory, add_memories
from muxi_identity.context.memories.search import (
    CANDIDATES,
    IS_FACT,
    IS_SHAREABLE,
    RANKED,
    matching_memories,
    newest_memories,
)
from muxi_identity.errors import InvalidRequestError, TooLargeError
from muxi_identity.identity.running import Caller
from muxi_identity.models import MemoryRecord
from muxi_identity.storage.tables import identifiers, memories, users
from muxi_identity.storage.text_search import query_terms
from muxi_identity.words import query_words
from tests.formations import Time, client_of
from tests.integration.test_memories import EMAIL, SLACK, merged, unmerge_all

DAY = 86_400


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        yield client


async def found(client: AsyncFormationClient, who: Any, query: str, **options: Any) -> list[str]:
    return [hit["content"] for hit in await client.search_memories(who, query, **options)]


KEPT = {
    "budget": "My budget for the trip is $5,000",
    "train": "Prefers trains to planes",
    "cafe": "Meets Zoë at the Café Müller on Straßburger Allee",
    "run": "Went running with Ingrid's dogs",
    "job": "Works as a baker in Łódź",
    "mail": "Writes to alice@acme.com about the Q3-report",
    "id": "Order 4711-B was late",
    "tokyo": "東京タワー was the best",
    "russian": "Любит чай с лимоном",
    "emoji": "Loves 🎉 parties and 🐈 cats",
    "code": "SELECT * FROM users; -- bobby_tables",
    "children": "Has two children and an analysis to write",
}
CASES: list[tuple[str, set[str]]] = [
    ("budget", {"budget"}),
    ("BUDGETS", {"budget"}),
    ("What's my budget?", {"budget"}),
    ("5000", {"budget"}),
    ("$5,000", {"budget"}),
    ("5", set()),
    ("train", {"train"}),
    ("preferring a plane", {"train"}),
    ("cafe muller", {"cafe"}),
    ("CAFÉ", {"cafe"}),
    ("cafe\u0301", {"cafe"}),
    ("zoe", {"cafe"}),
    ("strassburger", {"cafe"}),
    ("run dog", {"run"}),
    ("runs", {"run"}),
    ("ingrid", {"run"}),
    ("Ingrid\u2019s", {"run"}),
    ("lodz", {"job"}),
    ("ŁÓDŹ", {"job"}),
    ("working bakers", {"job"}),
    ("alice", {"mail"}),
    ("acme.com", {"mail"}),
    ("q3", {"mail"}),
    ("reports", {"mail"}),
    ("4711", {"id"}),
    ("4711-b", {"id"}),
    ("東京", {"tokyo"}),
    ("タワー", {"tokyo"}),
    ("чай", {"russian"}),
    ("ЧАЙ лимоном", {"russian"}),
    ("party", {"emoji"}),
    ("cats 🐈", {"emoji"}),
    ("🎉", set()),
    ("bobby", {"code"}),
    ("tables", {"code"}),
    ("child", {"children"}),  # the beginning of the last word
    ("children", {"children"}),
    ("analysis", {"children"}),
    ("budg", {"budget"}),
    ("budg train", {"train"}),  # only the last word may be a beginning
    ("bu", set()),  # too short to be one
    ("budget train", {"budget", "train"}),
    ("what is the", set()),
    ("who are you and what do I have", set()),
    ("zanzibar", set()),
]
SYNTAX = [
    *('"', '"budget', "budget*", "*", "bud*", "budget:*", "words : budget", "owner:budget", "{words owner}: budget"),
    *("budget AND zanzibar", "budget & zanzibar", "NOT budget", "!budget", "budget NOT budget", "^budget", "+budget"),
    *("NEAR(budget trip, 5)", "budget <-> trip", "budget <2> trip", "(budget", "budget)", "((", "budget \\", "\\'"),
    *("'budget'", "budget'); DROP TABLE muxi_memories;--", "budget | ", "%budget%", "b_dget", "budget\x00zanzibar"),
    *(":budget:A", "budget::tsquery", "$1 ?1 :budget @budget", "-budget", "budget\n\r\t\v", "\u202ebudget\u200b"),
]


async def test_the_same_is_found_on_both_databases(client: AsyncFormationClient, subtests: pytest.Subtests) -> None:
    for name, content in KEPT.items():
        await client.add_memory(EMAIL, content, key=f"k {name[0]}x{name}x")
        await client.add_memory(SLACK, f"Somebody else: {content}")
    for query, names in CASES:
        with subtests.test(query):
            hits = await client.search_memories(EMAIL, query)
            assert {hit["content"] for hit in hits} == {KEPT[name] for name in names}
            assert all(hit["score"] is not None and 0 < hit["score"] <= 1 for hit in hits)


async def test_nothing_of_a_query_is_an_operator(client: AsyncFormationClient, subtests: pytest.Subtests) -> None:
    await client.add_memory(EMAIL, "My budget")
    await client.add_memory(SLACK, "My budget too")
    for query in SYNTAX:
        with subtests.test(query):
            if "\x00" in query:
                with pytest.raises(InvalidRequestError):
                    await client.search_memories(EMAIL, query)
            elif "budget" in query:
                assert await found(client, EMAIL, query) == ["My budget"]
            else:
                assert set(await found(client, EMAIL, query)) <= {"My budget"}
    drawn = random.Random(1)
    for number in range(60):
        noise = "".join(drawn.choices(string.printable + "é\u4e2d\U0001f642\u0300", k=drawn.randrange(1, 60)))
        if noise.strip():
            with subtests.test(f"noise {number}"):
                assert await found(client, EMAIL, f"{noise} budget") == ["My budget"]
    bad: list[Any] = ["", " ", None, 5, ["budget"], "a\ud800"]
    for query in bad:
        with subtests.test(f"bad {query!r}"), pytest.raises(InvalidRequestError):
            await client.search_memories(EMAIL, query)
    with pytest.raises(TooLargeError) as raised:
        await client.search_memories(EMAIL, "x" * 10_001)
    assert raised.value.limit == 10_000
    for wrong in ({"limit": 0}, {"limit": 101}, {"limit": True}, {"type": ""}, {"type": 5}):
        with pytest.raises(InvalidRequestError):
            await client.search_memories(EMAIL, "budget", **wrong)  # type: ignore[arg-type]


async def test_a_long_query_is_searched_by_its_first_words(client: AsyncFormationClient) -> None:
    await client.add_memory(EMAIL, "w3 and more")
    await client.add_memory(EMAIL, "w900 and more")
    assert await found(client, EMAIL, " ".join(f"w{number}" for number in range(1_500))) == ["w3 and more"]
    assert await found(client, EMAIL, "x" * 9_990 + " w3") == ["w3 and more"]


# Ranking


async def test_more_of_the_words_is_better_and_of_equals_the_newer(client: AsyncFormationClient, time: Time) -> None:
    for number in range(20):
        await client.add_memory(EMAIL, f"Filler about something else {number}")
    await client.add_memory(EMAIL, "The red bicycle is old")
    await client.add_memory(EMAIL, "The red bicycle has a flat tyre")
    await client.add_memory(EMAIL, "The blue car has a flat tyre")
    time.advance(90 * DAY)
    await client.add_memory(EMAIL, "The red bicycle is sold")
    hits = await client.search_memories(EMAIL, "red bicycle")
    assert hits[0]["content"] == "The red bicycle is sold"
    assert set(await found(client, EMAIL, "red bicycle")) == {
        "The red bicycle is sold",
        "The red bicycle is old",
        "The red bicycle has a flat tyre",
    }
    # Old, but it has all the words: no age outweighs twice the relevance.
    assert (await found(client, EMAIL, "red bicycle flat tyre"))[0] == "The red bicycle has a flat tyre"
    assert hits[0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert all(hit["score"] is not None and hit["score"] < 0.7 for hit in hits[1:])
    assert len(await client.search_memories(EMAIL, "red bicycle flat tyre", limit=2)) == 2


async def test_a_type_and_what_matches_only_an_older_memory(client: AsyncFormationClient) -> None:
    await client.add_memory(SLACK, "Budget in roubles", type="plan", key="budget")
    await client.add_memory(EMAIL, "Budget in pesos", type="plan", key="budget")
    await client.add_memory(EMAIL, "Budget airline", type="note")
    await merged(client, EMAIL, SLACK)
    assert await found(client, SLACK, "roubles") == []
    assert await found(client, SLACK, "pesos") == ["Budget in pesos"]
    assert set(await found(client, SLACK, "budget")) == {"Budget in pesos", "Budget airline"}
    assert await found(client, SLACK, "budget", type="PLAN") == ["Budget in pesos"]
    await unmerge_all(client)
    assert await found(client, SLACK, "roubles pesos") == ["Budget in roubles"]


async def test_words_follow_every_change(client: AsyncFormationClient) -> None:
    kept = await client.add_memory(EMAIL, "Likes apples", key="fruit", value="golden delicious")
    assert await found(client, EMAIL, "delicious") == ["Likes apples"]
    assert await found(client, EMAIL, "fruit") == ["Likes apples"]
    await client.add_memory(EMAIL, "Likes pears", key="fruit")
    assert await found(client, EMAIL, "apple delicious") == []
    assert await found(client, EMAIL, "pear") == ["Likes pears"]
    await client.update_memory(kept["memory_id"], EMAIL, content="Likes plums")
    assert await found(client, EMAIL, "pear") == []
    assert await found(client, EMAIL, "plum") == ["Likes plums"]
    await client.delete_memory(kept["memory_id"], EMAIL)
    assert await found(client, EMAIL, "plum fruit") == []


async def test_a_person_with_many_memories_among_many_others(client: AsyncFormationClient, time: Time) -> None:
    """More match than are ranked: the newest are, of both members, and the rarer word still decides."""
    formation = await client._lifecycle.formation()
    for who in (EMAIL, SLACK, "other@example.com"):
        await client.add_memory(who, "Remembers the walrus")
    owners = {who: (await formation._resolver.existing(formation.parse(who))).member_pk for who in (EMAIL, SLACK)}

    def seed(connection: Any) -> None:
        rows = []
        number = RANKED + 50
        keys = formation.database.new_keys(connection, client.formation_id, 2 * number)
        for each in range(number):
            for owner in owners.values():
                pk = keys.pop(0)
                rows.append(
                    {
                        "formation_id": client.formation_id,
                        "pk": pk,
                        "user_pk": owner,
                        "memory_id": f"mem_seeded_{pk}",
                        "type": "note",
                        "key": f"#{each}-{owner}",
                        "content": f"common {each} {'walrus' if each == number - 1 else ''}",
                        "shareable": False,
                        "created_at": time.at + each,
                        "updated_at": time.at + each,
                    }
                )
        connection.execute(insert(memories), rows)

    await formation.database.transact(seed)
    await merged(client, EMAIL, SLACK)
    hits = await client.search_memories(EMAIL, "common walrus", limit=100)
    assert len(hits) == 100
    assert Counter(hit["content"] for hit in hits[:2]) == {f"common {RANKED + 49} walrus": 2}
    listed = await client.list_memories(EMAIL, limit=3)
    assert [memory["content"] for memory in listed["memories"]] == [
        f"common {RANKED + 49} walrus",
        f"common {RANKED + 49} walrus",
        f"common {RANKED + 48} ",
    ]
    assert await _plans(client) == ["newest by its index", "words by their index"]


async def test_the_newest_of_a_merged_person_are_those_that_stand(client: AsyncFormationClient) -> None:
    """Members that say the same over and over, at the same times: as each memory compared with each other one."""
    formation = await client._lifecycle.formation()
    random_one = random.Random(6)
    people = [EMAIL, SLACK, "carol@example.com", "dave@example.com"]
    for who in people:
        await client.resolve_user(who, create_user=True)
    rows: list[dict[str, Any]] = []

    def seed(connection: Any) -> None:
        through = connection.execute(
            select(identifiers.c.pk, identifiers.c.user_pk).where(identifiers.c.formation_id == client.formation_id)
        ).all()
        said = {(*random_one.choice(through), random_one.randrange(12), kind) for _ in range(90) for kind in ("a", "b")}
        keys = formation.database.new_keys(connection, client.formation_id, len(said))
        for pk, (identifier, owner, key, kind) in zip(keys, sorted(said), strict=True):
            at = random_one.randrange(1, 30)
            rows.append(
                {
                    "formation_id": client.formation_id,
                    "pk": pk,
                    "user_pk": owner,
                    "identifier_pk": random_one.choice([None, identifier]),
                    "memory_id": f"mem_seeded_{pk}",
                    "type": kind,
                    "key": str(key),
                    "content": "-",
                    "value": random_one.choice([None, "-"]),
                    "shareable": random_one.random() < 0.5,
                    "created_at": at,
                    "updated_at": at,
                }
            )
        connection.execute(insert(memories), rows)

    await formation.database.transact(seed)
    await merged(client, *people)
    members = select(users.c.pk).where(users.c.formation_id == client.formation_id).cte("members")

    def place(row: dict[str, Any]) -> tuple[int, int]:
        return row["updated_at"], row["pk"]

    in_line = sorted(rows, key=place, reverse=True)
    standing = [row for row in in_line if row is next(each for each in in_line if name_of(each) == name_of(row))]
    conditions: list[tuple[list[Any], Callable[[dict[str, Any]], bool]]] = [
        ([], lambda row: True),
        ([IS_FACT], lambda row: row["value"] is not None),
        ([IS_SHAREABLE], lambda row: row["shareable"]),
        ([memories.c.type == "a"], lambda row: row["type"] == "a"),
    ]
    for meeting, meets in conditions:
        for limit, after in itertools.product((1, 2, 5, 9, 100), (None, (22, 1 << 60), place(standing[3]))):
            statement = newest_memories(
                formation.database.dialect, client.formation_id, members, limit, *meeting, after=after
            )
            read = await formation.database.read(lambda connection, it=statement: connection.execute(it).all())
            expected = [row["pk"] for row in standing if meets(row) and (after is None or place(row) < after)]
            assert [row.pk for row in read] == expected[:limit]


def name_of(row: dict[str, Any]) -> tuple[str, str]:
    return row["type"], row["key"]


async def _plans(client: AsyncFormationClient) -> list[str]:
    """What the planner does, where it may not read the whole table because that is small."""
    formation = await client._lifecycle.formation()
    dialect = formation.database.dialect
    members = select(users.c.pk).where(users.c.formation_id == client.formation_id).cte("members")
    statements = [
        newest_memories(dialect, client.formation_id, members, 20),
        matching_memories(dialect, client.formation_id, members, query_terms(dialect, query_words("walrus"))),
    ]

    def explain(connection: Any) -> list[str]:
        plans = []
        if dialect == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        for statement in statements:
            compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
            how = "EXPLAIN" if dialect == "postgresql" else "EXPLAIN QUERY PLAN"
            rows = connection.exec_driver_sql(f"{how} {str(compiled).replace('%', '%%')}").all()
            plans.append("\n".join(str(row) for row in rows))
        return plans

    # Before there are statistics, and after: what a memory is superseded by is looked up and not searched for.
    plans = await formation.database.read(explain)
    if dialect == "postgresql":
        await formation.database.transact(lambda connection: connection.execute(text("ANALYZE muxi_memories")))
    newest, matching = await formation.database.read(explain)
    for plan in (*plans, newest, matching):
        key = r"uq_memories_key.*(\n.*)?(abs\(user_pk\)|<expr>).*type ?=.*key ?="
        assert re.search(key, plan), plan
    found = []
    if "ix_memories_newest" in newest and "Seq Scan on muxi_memories" not in newest and "SCAN muxi_mem" not in newest:
        found.append("newest by its index")
    if "ix_memories_lexemes" in matching or "muxi_memory_words VIRTUAL TABLE INDEX" in matching:
        found.append("words by their index")
    return found


# Erasing


async def test_what_was_erased_is_not_in_the_files(tmp_path: Path, time: Time) -> None:
    """Neither in the table, nor in the search index, nor in the log, nor in the synopsis; other searches go on.

    On SQLite: of what PostgreSQL keeps of it, its vacuum disposes.
    """
    config = FormationConfig(
        id="f", database=DatabaseConfig("sqlite", path=tmp_path / "muxi.db"), secret_key=Secret("k" * 40)
    )
    elsewhere = dataclasses.replace(config, id="g")
    async with client_of(config, time) as client, client_of(elsewhere) as other:
        for number in range(40):
            await client.add_memory(SLACK, f"Keeps the hippopotamus {number}")
            await other.add_memory(EMAIL, f"Keeps the rhinoceros {number}")
        kept = await client.add_memory(EMAIL, "Travels to Zanzibar", key="quagga", value="xylophone")
        edited = await client.add_memory(EMAIL, "Was in Ouagadougou")
        person = await client.add_memory("carol@example.com", "Comes from Tegucigalpa")
        assert person["memory_id"]
        await client.get_synopsis(EMAIL)
        await client.get_synopsis("carol@example.com")
        for word in (b"anzibar", b"uagga", b"ylophone", b"uagadoug", b"egucigalp"):
            assert word in _bytes(tmp_path), word
        await client.delete_memory(kept["memory_id"], EMAIL)
        for word in (b"anzibar", b"uagga", b"ylophone"):
            assert word not in _bytes(tmp_path), word
        await client.update_memory(edited["memory_id"], EMAIL, content="Was nowhere")
        assert b"uagadoug" not in _bytes(tmp_path)
        await client.delete_user("carol@example.com")
        assert b"egucigalp" not in _bytes(tmp_path)
        assert len(await client.search_memories(SLACK, "hippopotamus", limit=100)) == 40
        assert len(await other.search_memories(EMAIL, "rhinoceros", limit=100)) == 40
        assert await found(client, EMAIL, "zanzibar nowhere") == ["Was nowhere"]


def _bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes().lower() for file in folder.iterdir() if file.name.startswith("muxi.db"))


async def test_the_index_survives_a_vacuum(database_config: FormationConfig) -> None:
    """VACUUM may number the rows of a table anew; memories are found and leave the index all the same."""
    async with client_of(database_config) as client:
        kept = [await client.add_memory(EMAIL, f"Memory of walrus {number}") for number in range(10)]
        for each in kept[:5]:
            await client.delete_memory(each["memory_id"], EMAIL)
    path = database_config.database.path
    if path is not None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("VACUUM")
        connection.close()
    async with client_of(database_config) as client:
        assert sorted(await found(client, EMAIL, "walrus")) == [f"Memory of walrus {number}" for number in range(5, 10)]
        await client.delete_memory(kept[5]["memory_id"], EMAIL)
        await client.update_memory(kept[6]["memory_id"], EMAIL, content="Memory of elk")
        assert sorted(await found(client, EMAIL, "walrus")) == [f"Memory of walrus {number}" for number in range(7, 10)]
    if path is not None:
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT count(*) FROM muxi_memory_words").fetchone() == (4,)
        connection.execute("INSERT INTO muxi_memory_words (muxi_memory_words) VALUES ('integrity-check')")
        connection.close()


# A ranker of one's own


class Trigrams:
    """A toy: texts are alike that share runs of three letters."""

    def __init__(self) -> None:
        self.seen: list[Sequence[MemoryRecord]] = []

    async def rank(self, query: str, candidates: Sequence[MemoryRecord]) -> Sequence[float]:
        self.seen.append(candidates)
        wanted = self._grams(query)
        return [len(wanted & self._grams(each["content"])) / len(wanted) for each in candidates]

    def _grams(self, text: str) -> set[str]:
        folded = text.casefold()
        return {folded[at : at + 3] for at in range(len(folded) - 2)}


async def test_a_ranker_decides_among_hits_and_newest(database_config: FormationConfig, time: Time) -> None:
    ranker = Trigrams()
    async with AsyncFormationClient(database_config, memory_ranker=ranker) as client:
        for content in ("Owns a motorcycle", "Fears heights", "Likes the cycling club", "Cycle path near home"):
            await client.add_memory(EMAIL, content)
        await client.add_memory(SLACK, "Owns a motorcycle")
        hits = await client.search_memories(EMAIL, "motorcycles", limit=3)
        assert [hit["content"] for hit in hits] == [
            "Owns a motorcycle",
            "Cycle path near home",
            "Likes the cycling club",
        ]
        assert [hit["score"] for hit in hits] == sorted((hit["score"] or 0 for hit in hits), reverse=True)
        (given,) = ranker.seen
        assert [each["score"] is not None for each in given] == [True, False, False, False]
        assert len({each["memory_id"] for each in given}) == 4
        assert "Fears heights" not in await found(client, EMAIL, "motorcycles", limit=100)
        # Nothing of the query is a word, and there is nothing to rank.
        assert await found(client, EMAIL, "??? what", limit=1) == []
        await client.resolve_user("empty@example.com", create_user=True)
        number = len(ranker.seen)
        assert await found(client, "empty@example.com", "motorcycle") == []
        assert len(ranker.seen) == number


async def test_a_ranker_gets_a_bounded_number_and_must_answer_for_each(database_config: FormationConfig) -> None:
    answers: list[Any] = [[], [1.0], [float("nan")] * CANDIDATES, [float("inf")] * CANDIDATES]

    class Wrong:
        async def rank(self, query: str, candidates: Sequence[MemoryRecord]) -> Sequence[float]:
            assert len(candidates) == CANDIDATES
            return answers.pop()  # type: ignore[no-any-return]

    async with AsyncFormationClient(database_config, memory_ranker=Wrong()) as client:
        formation = await client._lifecycle.formation()
        await formation.memories._access.write(
            formation.parse(EMAIL),
            lambda tx, hit: add_memories(tx, hit, [NewMemory(f"memory {n}") for n in range(CANDIDATES + 20)]),
            Caller("test"),
        )
        while answers:
            with pytest.raises(ValueError, match=f"{CANDIDATES} finite numbers"):
                await client.search_memories(EMAIL, "memory")
