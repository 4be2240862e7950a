"""Metrics of one formation, as Prometheus reads them. A route is named by its template: no label is anybody's name."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from muxi_identity.formation import Formation
from muxi_identity.server.shared_numbers import SharedNumbers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WRITE_SECONDS = 1.0
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class _Times:
    total: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))


class Metrics(Collector):
    """Counts what one formation is asked. Formations see nothing of each other's numbers.

    All of it happens on one event loop: plain numbers, read when somebody asks, are a fifth of the cost of the
    client library's own, which lock for each. Of several workers, each writes them into ``folder``, and tells those of
    all.
    """

    def __init__(self, formation: Formation, folder: Path | None = None) -> None:
        self.streams = 0
        """Event streams that are open now."""
        self._formation = formation
        self._answered: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], _Times] = {}
        self._registry = CollectorRegistry()
        self._shared = None if folder is None else SharedNumbers(folder / formation.config.id)
        self._registry.register(self if self._shared is None else self._shared)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        key = (method, route, status)
        self._answered[key] = self._answered.get(key, 0) + 1
        times = self._times.get((method, route))
        if times is None:
            times = self._times[method, route] = _Times()
        times.total += seconds
        times.counts[bisect_left(_BUCKETS, seconds)] += 1

    def text(self) -> bytes:
        """Return all numbers in Prometheus's text format; those of other workers are up to a second old."""
        if self._shared is not None:
            self._shared.write(self.collect())
        return generate_latest(self._registry)

    async def write(self) -> None:
        """Write the numbers down for the other workers once a second, for ever. Alone there is nobody to read them."""
        while self._shared is not None:
            await asyncio.sleep(_WRITE_SECONDS)
            self._shared.write(self.collect())

    def close(self) -> None:
        """Write down the last numbers, of which none is of anything that is open."""
        if self._shared is not None:
            self.streams = 0
            self._shared.write(self.collect())
            self._shared.close()
            self._shared = None

    def collect(self) -> Iterator[Metric]:
        """Yield this worker's numbers as they are now."""
        answered = CounterMetricFamily("muxi_requests", "Requests answered.", labels=["method", "route", "status"])
        for (method, route, status), number in self._answered.items():
            answered.add_metric([method, route, str(status)], number)
        yield answered
        seconds = HistogramMetricFamily(
            "muxi_request_seconds",
            "Seconds from a request to its answer; a stream's to its end.",
            labels=["method", "route"],
        )
        names = [*map(str, _BUCKETS), "+Inf"]
        for (method, route), times in self._times.items():
            below = accumulate(times.counts)
            seconds.add_metric([method, route], list(zip(names, below, strict=True)), times.total)
        yield seconds
        yield GaugeMetricFamily("muxi_streams", "Event streams open now.", value=self.streams)
        yield from _cache_numbers(self._formation.cache.info())


def _cache_numbers(info: Mapping[str, int]) -> Iterator[Metric]:
    answers = CounterMetricFamily(
        "muxi_cache_lookups", "Look-ups of identifiers, by whether the cache answered.", labels=["result"]
    )
    answers.add_metric(["hit"], info["hits"])
    answers.add_metric(["miss"], info["misses"])
    yield answers
    entries = GaugeMetricFamily("muxi_cache_entries", "Entries of the resolution cache.", labels=["kind"])
    entries.add_metric(["identifier"], info["identifiers"])
    entries.add_metric(["member"], info["members"])
    yield entries
