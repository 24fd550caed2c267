"""Loops that append to a sequence: where each iteration appends one tensor of the same shape, the loop stacks
them, natively, and the sequence consists of the rows.
"""

from __future__ import annotations

from collections.abc import Collection

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.elements import Listed, Parts
from dlc.ir.dims import Symbol, free_symbols
from dlc.ir.graph import Value
from dlc.ir.ops.sequences import SequenceInsert, SplitToSequence
from dlc.ir.types import TensorType, is_object


def appended(
    ctx: NodeContext, start: Value, state: Value, result: Value, inner: Collection[Symbol]
) -> Value | None:
    """What an iteration appends to a state that is a sequence, if it does nothing else with it.

    `start` is the state before the loop, `state` that within the body, `result` the next one; `inner` are the
    symbols that mean something within the body only.
    """
    node = result.producer
    if ctx.importer.known.elements(start) != Listed(()) or node is None:
        return None
    if not isinstance(node.op, SequenceInsert) or node.inputs[0] is not state:
        return None
    if list(state.uses) != [node] or result.uses or any(value is not None for value in node.inputs[2:]):
        return None
    element = node.operands[1]
    if not isinstance(element.type, TensorType) or is_object(element.type):
        return None
    varies = any(free_symbols(dim) & set(inner) for dim in element.type.shape)
    return None if varies or element is state else element


def rows(ctx: NodeContext, stack: Value, name: str) -> Value:
    """The sequence of the rows of a tensor."""
    sequence = ctx.builder.add(SplitToSequence(0, False), stack, names=[name])
    ctx.importer.known.set_elements(sequence, Parts(stack, 0, None, False))
    return sequence
