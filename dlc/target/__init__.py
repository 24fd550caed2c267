"""Descriptions of the machines that code is generated for. Plain data: nothing here generates code."""
from dlc.target.cpu import CpuTarget, native, resolve

__all__ = ["CpuTarget", "native", "resolve"]
