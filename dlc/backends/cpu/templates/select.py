"""Choosing the template of a kernel."""

from __future__ import annotations

import dataclasses
from typing import Any

from dlc.backends.cpu.compiled import CompiledKernel
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates import (
    attention,
    compact,
    convolution,
    coupling,
    depthwise,
    distinct,
    gemm,
    integer_convolution,
    integer_matmul,
    nest,
    pairs,
    recurrent,
    roi,
    suppression,
    topk,
    trees,
    winograd,
)
from dlc.backends.cpu.templates.template import Match, Template
from dlc.lowering.kernel import Kernel

#: In the order in which they are asked; what none of them takes is a nest of loops.
TEMPLATES: dict[str, Template[Any]] = {
    "topk": topk,
    "roi": roi,
    "compact": compact,
    "distinct": distinct,
    "suppression": suppression,
    "trees": trees,
    "coupling": coupling,
    "winograd": winograd,
    "convolution": convolution,
    "depthwise": depthwise,
    "attention": attention,
    "recurrent": recurrent,
    "pairs": pairs,
    "integer_convolution": integer_convolution,
    "integer_matmul": integer_matmul,
    "gemm": gemm,
}


def emit_kernel(module: Module, name: str, kernel: Kernel) -> CompiledKernel:
    """Write the function of `kernel`, by the first template that takes it; why others declined is kept."""
    declined: dict[str, str] = {}
    for label, template in TEMPLATES.items():
        found = template.match(kernel, module)
        if isinstance(found, Match):
            return dataclasses.replace(template.emit(module, name, found), declined=declined)
        declined[label] = found.reason
    return dataclasses.replace(nest.emit(module, name, kernel), declined=declined)
