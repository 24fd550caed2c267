"""Importers of the operators on optionals."""

from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.open_results import add_open
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.type_protos import declared_type
from dlc.ir.graph import Value
from dlc.ir.ops.optionals import Optional, OptionalGetElement, OptionalHasElement
from dlc.ir.types import OpenTensorType, OptionalType, SequenceType, opened


@importer("Optional", since=15)
def optional(ctx: NodeContext) -> Value:
    """The operand as an optional; without one, an empty optional of the type that the attribute gives."""
    held = ctx.optional(0)
    if held is not None:
        element = opened(held.type)
    elif ctx.has("type"):
        element = declared_type(ctx.attributes["type"], "attribute 'type'")
    else:
        ctx.fail("there is neither an operand nor attribute 'type'")
    operator = Optional(OptionalType(element))
    result = ctx.add(operator) if held is None else ctx.add(operator, held)
    ctx.importer.known.set_content(result, held)
    return result


@importer("OptionalHasElement", since=15)
def optional_has_element(ctx: NodeContext) -> Value:
    """Whether there is a value; tensors and sequences are one, an absent operand is none (opset 18)."""
    operand = ctx.optional(0)
    if operand is None:
        return _truth(ctx, False)
    if not isinstance(operand.type, OptionalType):
        return _truth(ctx, True)
    known = ctx.importer.known.content(operand)
    return ctx.add(OptionalHasElement(), operand) if known is None else _truth(ctx, known[0] is not None)


def _truth(ctx: NodeContext, holds: bool) -> Value:
    return ctx.builder.constant(np.array(holds))


@importer("OptionalGetElement", since=15)
def optional_get_element(ctx: NodeContext) -> Value:
    """The value; tensors and sequences are their own (opset 18)."""
    operand = ctx.required(0)
    if not isinstance(operand.type, OptionalType):
        return operand
    known = ctx.importer.known.content(operand)
    if known is not None and known[0] is not None:
        return known[0]
    element = operand.type.element
    if isinstance(element, OpenTensorType):
        return add_open(ctx, element, OptionalGetElement, operand)
    if not isinstance(element, SequenceType):
        ctx.fail(f"the operand is {operand.type}, neither of a tensor nor of a sequence", "model/type")
    return ctx.add(OptionalGetElement(element), operand)
