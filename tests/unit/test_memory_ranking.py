"""How hits of a search are ranked: relevance, and a factor for age that no relevance twice as great loses to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxi_identity.context.memories.records import HALF_LIFE_DAYS, facts_of, memory_record, ranked

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000


def row(pk: int, rank: float = 1.0, age: float = 0, **others: Any) -> Any:
    at = NOW - int(age * DAY)
    known: dict[str, Any] = {"memory_id": f"mem_{pk}", "type": "note", "key": f"k{pk}", "content": "c", "value": None}
    rest = {"metadata": None, "shareable": 0, "created_at": at, "updated_at": at}
    return SimpleNamespace(pk=pk, rank=rank, **{**known, **rest, **others})


def order(*rows: Any) -> list[str]:
    return [record["memory_id"].removeprefix("mem_") for record in ranked(rows, NOW)]


def test_the_numbers() -> None:
    rows = [row(1, 4.0), row(2, 4.0, HALF_LIFE_DAYS), row(3, 2.0), row(4, 1.0, 2_000), row(5, 0.0), row(6, -1.0)]
    scores = [record["score"] for record in ranked(rows, NOW)]
    assert scores == [1.0, 0.75, 0.5, 0.125, 0.01, 0.01]


def test_of_equals_the_newer_and_then_the_later_row() -> None:
    assert order(row(1, 1.0, 2), row(2, 1.0, 1), row(3, 1.0, 1)) == ["3", "2", "1"]


def test_no_age_outweighs_twice_the_relevance() -> None:
    assert order(row(1, 2.01, 5_000), row(2, 1.0, 0)) == ["1", "2"]
    assert order(row(1, 1.5, 5_000), row(2, 1.0, 0)) == ["2", "1"]


def test_a_clock_that_went_back_makes_nothing_newer_than_new() -> None:
    assert [record["score"] for record in ranked([row(1, 1.0, -400)], NOW)] == [1.0]


def test_words_that_everything_has_rank_by_age_alone() -> None:
    assert order(row(1, -0.5, 3), row(2, -0.1, 9)) == ["1", "2"]
    assert ranked([], NOW) == []


@given(st.lists(st.tuples(st.floats(-5, 50), st.floats(0, 5_000)), max_size=20))
def test_scores_lie_between_0_and_1_and_fall(hits: list[tuple[float, float]]) -> None:
    scores = [record["score"] or 0.0 for record in ranked([row(n, *hit) for n, hit in enumerate(hits)], NOW)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


def test_records_and_facts() -> None:
    record = memory_record(row(1, key="#5f", metadata='{"a": 1}', shareable=1))
    assert (record["key"], record["metadata"], record["shareable"], record["score"]) == (None, {"a": 1}, True, None)
    rows = [row(1, key="a", value="new"), row(2, key="b", value="b"), row(3, key="a", type="fact", value="old")]
    assert [(fact.key, fact.value) for fact in facts_of(rows)] == [("a", "new"), ("b", "b")]


@pytest.mark.parametrize("secret", ["pk", "words", "user_pk", "identifier_pk"])
def test_a_record_holds_nothing_internal(secret: str) -> None:
    assert secret not in memory_record(row(1))
