"""Operators beyond the standard's domain: registered with their form, imported by way of the standard's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlc.frontend.onnx import registry
from dlc.frontend.onnx.context import Importer, NodeContext
from dlc.ir.graph import Value

if TYPE_CHECKING:
    from onnx.defs import OpSchema

#: onnxruntime's own operators, which its optimizer and its quantizer write; there is one version of the set.
MICROSOFT = "com.microsoft"
#: The standard's operators of traditional machine learning.
ML = "ai.onnx.ml"
#: The opset whose importers `standard` uses.
_STANDARD_OPSET = 22


def contrib(
    op_type: str, operands: tuple[int, int], attributes: str = "", results: int = 1, domain: str = MICROSOFT
) -> Callable[[Importer], Importer]:
    """Register the importer of one of onnxruntime's operators.

    `operands` are their least and greatest number, `attributes` their names with spaces between, `results`
    the greatest number. A node of another form gives ModelError before the importer sees it.
    """
    names = frozenset(attributes.split())

    def register(function: Importer) -> Importer:
        @registry.importer(op_type, domain=domain)
        @functools.wraps(function)
        def checked(ctx: NodeContext) -> Value | Sequence[Value | None]:
            _check(ctx, operands, names, results)
            return function(ctx)

        return checked

    return register


def ml(op_type: str, since: int = 1) -> Callable[[Importer], Importer]:
    """Register the importer of an operator of machine learning, whose form the onnx package knows."""

    def register(function: Importer) -> Importer:
        @registry.importer(op_type, since, domain=ML)
        @functools.wraps(function)
        def checked(ctx: NodeContext) -> Value | Sequence[Value | None]:
            schema = _schema(op_type, ctx.opset)
            if schema is not None:
                operands = schema.min_input, schema.max_input
                _check(ctx, operands, frozenset(schema.attributes), schema.max_output)
            return function(ctx)

        return checked

    return register


@functools.cache
def _schema(op_type: str, opset: int) -> OpSchema | None:
    from onnx import defs

    try:
        return defs.get_schema(op_type, opset, ML)
    except defs.SchemaError:
        return None


def _check(ctx: NodeContext, operands: tuple[int, int], attributes: frozenset[str], results: int) -> None:
    """ModelError unless the node has operands, attributes and results within what its operator allows."""
    least, most = operands
    present = [index for index, operand in enumerate(ctx.operands) if operand is not None]
    if len(ctx.operands) < least:
        ctx.fail(f"operand {len(ctx.operands)} is missing", "model/type")
    if present and present[-1] >= most:
        ctx.fail(f"there are {present[-1] + 1} operands, but at most {most} are possible", "model/type")
    if len(ctx.output_names) > results and any(ctx.output_names[results:]):
        message = f"there are {len(ctx.output_names)} results, but at most {results} are possible"
        ctx.fail(message, "model/type")
    for name in sorted(ctx.attributes.keys() - attributes):
        ctx.fail(f"there is no attribute {name!r}", "model/attribute")


def standard_all(
    ctx: NodeContext,
    op_type: str,
    *operands: Value | None,
    attributes: Mapping[str, Any] | None = None,
    opset: int = _STANDARD_OPSET,
    results: int = 1,
) -> Sequence[Value | None]:
    """Add what the standard's operator `op_type` does; attributes that are None are left out."""
    present = {name: value for name, value in (attributes or {}).items() if value is not None}
    names = [*ctx.output_names[:1], *["extra"] * (results - 1)]
    inner = NodeContext(ctx.importer, op_type, "", opset, ctx.name, operands, present, names, ctx.scope)
    function = registry.find("", op_type, opset)
    assert function is not None, op_type
    outputs = function(inner)
    return [outputs] if isinstance(outputs, Value) else outputs


def standard(
    ctx: NodeContext,
    op_type: str,
    *operands: Value | None,
    attributes: Mapping[str, Any] | None = None,
    opset: int = _STANDARD_OPSET,
) -> Value:
    """The first result of :func:`standard_all`."""
    value = standard_all(ctx, op_type, *operands, attributes=attributes, opset=opset)[0]
    assert value is not None
    return value


def kept(ctx: NodeContext, *names: str) -> Mapping[str, Any]:
    """Those attributes of the node that are named, to hand on to an operator that calls them the same."""
    return {name: ctx.attributes[name] for name in names if ctx.has(name)}


def refuse(ctx: NodeContext, name: str, harmless: object, hint: str = "") -> None:
    """UnsupportedError when the node has the attribute `name` with another value than `harmless`."""
    value = ctx.attributes.get(name, harmless)
    if value != harmless:
        ctx.unsupported(f"the attribute '{name}' is {value}", hint)


def refuse_operand(ctx: NodeContext, index: int, what: str, hint: str = "") -> None:
    """UnsupportedError when the optional operand `index` is present."""
    if ctx.optional(index) is not None:
        ctx.unsupported(f"operand {index}, {what}, is present", hint)
