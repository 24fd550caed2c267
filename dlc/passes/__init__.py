"""Transformations of graphs into graphs.

A pass is a frozen dataclass with its options as fields; it changes a graph in place, keeps its meaning within
the numerics that it declares, and returns statistics that say what it did and why it left the rest. Pipelines
are data. Passes may ask `dlc.target`, nothing above it.
"""
from __future__ import annotations

from dlc.passes.manager import Pipeline, Report
from dlc.passes.pass_base import Declined, Numerics, Pass, Property, Statistics

__all__ = ["Declined", "Numerics", "Pass", "Pipeline", "Property", "Report", "Statistics"]
