"""Choosing the template of a kernel."""
from __future__ import annotations

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
    nest,
    pairs,
    recurrent,
    roi,
    suppression,
    topk,
    trees,
    winograd,
    winograd_plan,
)
from dlc.backends.cpu.templates.template import Match
from dlc.lowering.kernel import Kernel


def emit_kernel(module: Module, name: str, kernel: Kernel) -> CompiledKernel:
    """Write the function of `kernel`, by the first template that takes it."""
    rows = topk.match(kernel, module.target)
    if isinstance(rows, Match):
        return topk.emit(module, name, rows)
    regions = roi.match(kernel, module.target)
    if isinstance(regions, Match):
        return roi.emit(module, name, regions)
    positions = compact.match(kernel, module.target)
    if isinstance(positions, Match):
        return compact.emit(module, name, positions)
    groups = distinct.match(kernel, module.target)
    if isinstance(groups, Match):
        return distinct.emit(module, name, groups)
    boxes = suppression.match(kernel, module.target)
    if isinstance(boxes, Match):
        return suppression.emit(module, name, boxes)
    forest = trees.match(kernel, module.target)
    if isinstance(forest, Match):
        return trees.emit(module, name, forest)
    classes = coupling.match(kernel, module.target)
    if isinstance(classes, Match):
        return coupling.emit(module, name, classes)
    found = convolution.match(kernel)
    if isinstance(found, convolution.Match):
        fast = winograd_plan.plan(module, found)
        if isinstance(fast, winograd_plan.Plan):
            return winograd.emit(module, name, fast)
        return convolution.emit(module, name, found)
    small = depthwise.match(kernel)
    if isinstance(small, depthwise.Match):
        return depthwise.emit(module, name, small)
    heads = attention.match(kernel, module.target)
    if isinstance(heads, Match):
        return attention.emit(module, name, heads)
    layer = recurrent.match(kernel, module.target)
    if isinstance(layer, Match):
        return recurrent.emit(module, name, layer)
    couples = pairs.match(kernel, module.target)
    if isinstance(couples, Match):
        return pairs.emit(module, name, couples)
    product = gemm.match(kernel, module.target)
    if isinstance(product, Match):
        return gemm.emit(module, name, product)
    return nest.emit(module, name, kernel)
