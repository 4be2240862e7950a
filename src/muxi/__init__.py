"""Hands on the public names of :mod:`muxi_identity`, so that ``from muxi import FormationClient`` works."""

from muxi_identity import *  # noqa: F403 (what is public is said once, there)
from muxi_identity import __all__ as __all__
