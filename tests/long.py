"""Whether tests that look for what nobody thought of may take minutes: ``MUXI_LONG=1``."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("MUXI_LONG"))
