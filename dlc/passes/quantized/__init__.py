"""The rules of `dlc.passes.raise_quantized`, one file a subject, and what they match on (`stored`)."""
from __future__ import annotations
