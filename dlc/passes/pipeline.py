"""The passes that dlc.compile runs, by optimization level."""
from __future__ import annotations

from dlc.passes.layout import AssignLayouts
from dlc.passes.manager import Pipeline


def default_pipeline(level: int = 2) -> Pipeline:
    """The pipeline of optimization level 0 (as imported) to 3."""
    if level == 0:
        return Pipeline(())
    return Pipeline((AssignLayouts(),))
