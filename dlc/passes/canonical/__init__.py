"""The rules of `dlc.passes.canonicalize`, one file a subject; each is EXACT."""
from __future__ import annotations
