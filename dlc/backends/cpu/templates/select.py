"""Choosing the template of a kernel."""
from __future__ import annotations

from dlc.backends.cpu.compiled import CompiledKernel
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates import convolution, depthwise, nest
from dlc.lowering.kernel import Kernel


def emit_kernel(module: Module, name: str, kernel: Kernel) -> CompiledKernel:
    """Write the function of `kernel`, by the first template that takes it."""
    found = convolution.match(kernel)
    if isinstance(found, convolution.Match):
        return convolution.emit(module, name, found)
    small = depthwise.match(kernel)
    if isinstance(small, depthwise.Match):
        return depthwise.emit(module, name, small)
    return nest.emit(module, name, kernel)
