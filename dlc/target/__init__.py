"""Descriptions of the machines that code is generated for. Plain data: nothing here generates code."""

from dlc.target.cpu import CpuTarget, native, resolve
from dlc.target.gpu import GpuTarget, resolve_gpu

__all__ = ["CpuTarget", "GpuTarget", "native", "resolve", "resolve_gpu"]
