"""Metrics of one formation, as Prometheus reads them. A route is named by its template: no label is anybody's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muxi_identity.formation import Formation

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts what one formation is asked. Formations see nothing of each other's numbers."""

    def __init__(self, formation: Formation) -> None:
        self._registry = CollectorRegistry()
        self._answered = Counter(
            "muxi_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "muxi_request_seconds",
            "Seconds from a request to its answer; a stream's to its end.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.streams = Gauge("muxi_streams", "Event streams open now.", registry=self._registry)
        self._registry.register(_CacheNumbers(formation))
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        key = (method, route, status)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = (
                self._answered.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
        known[0].inc()
        known[1].observe(seconds)

    def text(self) -> bytes:
        """Return all numbers in Prometheus's text format."""
        return generate_latest(self._registry)


class _CacheNumbers(Collector):
    def __init__(self, formation: Formation) -> None:
        self._formation = formation

    def collect(self) -> Iterator[Metric]:
        """Read the cache's own counters."""
        info: Mapping[str, int] = self._formation.cache.info()
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
