"""The Python API: compile a model, load a package, call it. It orchestrates the layers below."""

from __future__ import annotations

from dlc.api.compile import check, compile
from dlc.api.load import load
from dlc.api.model import CompiledModel, PreparedModelCall
from dlc.api.outputs import Outputs
from dlc.api.report import CheckReport, Report
from dlc.api.specs import TensorSpec

__all__ = [
    "CheckReport",
    "CompiledModel",
    "Outputs",
    "PreparedModelCall",
    "Report",
    "TensorSpec",
    "check",
    "compile",
    "load",
]
