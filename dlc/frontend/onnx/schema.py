"""What the ONNX standard says about the form of a node: its operands, results and attributes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlc.errors import ModelError, printable

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, NodeProto


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of an operator of the standard since the opset `since`.

    Least and largest number of operands and of results, the attributes, those of them that have a value when
    they are absent, and the operator's definition by others where that does not depend on the types of
    operands.
    """

    since: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    attributes: frozenset[str]
    defaults: tuple[AttributeProto, ...]
    removed: bool
    function: FunctionProto | None


@functools.cache
def form_of(op_type: str, opset: int) -> Form | None:
    """The form of an operator of the standard at `opset`; None when the installed onnx does not know it."""
    from onnx import defs

    try:
        schema = defs.get_schema(op_type, opset, "")
    except defs.SchemaError:
        return None
    # Bodies that depend on types would have to be asked for with types that only the model claims.
    body = schema.function_body if schema.has_function else None  # type: ignore[attr-defined]
    return Form(
        schema.since_version,
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        frozenset(schema.attributes),
        tuple(item.default_value for item in schema.attributes.values() if item.default_value.type),
        # GroupNormalization-18 is deprecated, but only in favour of a later version of itself.
        schema.deprecated and defs.get_schema(op_type, "").deprecated,
        body,
    )


def exists(op_type: str) -> bool:
    """Whether any version of the standard has the operator."""
    from onnx import defs

    return bool(defs.has(op_type, ""))


def check_form(node: NodeProto, opset: int) -> None:
    """ModelError when a node of the standard's domain is not of the form that its operator has at `opset`."""
    form = form_of(node.op_type, opset)
    if form is None:
        return
    name = printable(node.op_type)
    if form.removed:
        raise ModelError(f"{name} was removed in opset {form.since}, but the model is of opset {opset}")
    for what, names, (least, most) in (
        ("operand", node.input, form.inputs),
        ("result", node.output, form.outputs),
    ):
        # An absent operand counts here: Loop has at least two, of which both may be absent.
        if len(names) < least:
            raise ModelError(f"{name}: {what} {len(names)} is missing", code="model/type")
        count = _without_absent_ends(names)
        if count > most:
            raise ModelError(
                f"{name} has {count} {what}s, but at most {most} are possible", code="model/type"
            )
    for attribute in node.attribute:
        if attribute.name not in form.attributes:
            raise ModelError(
                f"{name}: {_unknown_attribute(node.op_type, attribute.name, opset)}", code="model/attribute"
            )


def _without_absent_ends(names: Sequence[str]) -> int:
    """The number of `names` up to the last that is not empty."""
    return next((index for index in range(len(names), 0, -1) if names[index - 1]), 0)


def _unknown_attribute(op_type: str, name: str, opset: int) -> str:
    """Why an operator does not have the attribute at `opset`: another version may have it."""
    from onnx import defs

    shown = printable(name)
    versions = range(1, defs.onnx_opset_version() + 1)
    having = [version for version in versions if name in getattr(form_of(op_type, version), "attributes", ())]
    later = [version for version in having if version > opset]
    if later:
        return f"attribute '{shown}' came with opset {later[0]}, but the model is of opset {opset}"
    if having:
        return f"attribute '{shown}' ended with opset {having[-1]}, but the model is of opset {opset}"
    return f"there is no attribute '{shown}'"
