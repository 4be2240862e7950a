"""The published `muxi-runtime` beside ours, in one run. A comparison: none of its code enters the project."""

from benchmarks.peer.beside import measure

__all__ = ["measure"]
