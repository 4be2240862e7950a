"""The numbers of one formation over all workers of a server, in a folder that they share.

Each worker counts for itself and writes its numbers down once a second, in the files that prometheus-client has for
this; whoever is asked adds them up. A worker takes the first place that is free, and goes on from what its predecessor
there had counted, so that no number ever falls when a worker is replaced.
"""

from __future__ import annotations

import fcntl
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

_MODE = "livesum"
_PLACE = re.compile(r"(\d+)\.place")
_SUMS = ("counter", "histogram")


class SharedNumbers:
    """This worker's place among the numbers of all. It is free again when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock, place = _take_place(folder)
        self._files = {kind: MmapedDict(str(folder / f"{kind}_{place}.db")) for kind in _SUMS}
        self._before = {kind: {key: value for key, value, _ in self._files[kind].read_all_values()} for kind in _SUMS}
        gauges = folder / f"gauge_{_MODE}_{place}.db"
        gauges.unlink(missing_ok=True)  # of whoever died here: what was open then is not open now
        self._files["gauge"] = MmapedDict(str(gauges))
        self._before["gauge"] = {}

    def write(self, metrics: Iterable[Metric]) -> None:
        """Write down what this worker has counted until now."""
        for metric in metrics:
            file, before = self._files[metric.type], self._before[metric.type]
            below = 0.0
            for name, labels, value, *_ in metric.samples:
                if name.endswith("_count") and metric.type == "histogram":
                    continue  # made from the buckets, like the sums below each of them
                if name.endswith("_bucket"):
                    below = 0.0 if labels["le"] == metric.samples[0].labels["le"] else below
                    value, below = value - below, value
                key = mmap_key(metric.name, name, list(labels), list(labels.values()), metric.documentation)
                file.write_value(key, before.get(key, 0.0) + value, 0.0)

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers of all workers together."""
        for place in self._dead():
            (self._folder / f"gauge_{_MODE}_{place}.db").unlink(missing_ok=True)
        yield from MultiProcessCollector(None, str(self._folder)).collect()

    def close(self) -> None:
        """Leave the place to whoever comes next."""
        for file in self._files.values():
            file.close()
        self._lock.close()

    def _dead(self) -> Iterator[str]:
        for file in self._folder.iterdir():
            place = _PLACE.fullmatch(file.name)
            if place is None:
                continue
            with file.open("rb") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield place[1]  # held meanwhile: nobody takes the place before its gauges are gone


def _take_place(folder: Path) -> tuple[IO[bytes], int]:
    for place in itertools.count():
        held = (folder / f"{place}.place").open("ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
        else:
            return held, place
    raise AssertionError("unreachable")
