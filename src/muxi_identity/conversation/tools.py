"""What a responder may do for the person whose turn it is. The person is bound here, and is no argument of any tool."""

from __future__ import annotations


class TurnTools:
    """The tools of one turn. What they change is recorded with the turn, or not at all."""
