"""The forms of onnxruntime's operators, as they are registered and as onnxruntime describes them."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from dlc.errors import Error
from dlc.frontend.onnx.importer import import_model
from dlc.frontend.onnx.registry import operators

DOMAINS = ("com.microsoft", "com.microsoft.nchwc")
#: Attributes with a value of the type that onnxruntime's schema says.
VALUES: dict[str, Any] = {
    "INT": 1,
    "FLOAT": 1.0,
    "STRING": "x",
    "INTS": [1],
    "FLOATS": [1.0],
    "STRINGS": ["x"],
}


def _schemas() -> list[Any]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    known = operators()
    found = {
        (schema.domain, schema.name): schema
        for schema in state.get_all_operator_schema()
        if schema.domain in DOMAINS and (schema.domain, schema.name) in known
    }
    return list(found.values())


def _model(schema: Any, attributes: dict[str, Any], operands: int) -> onnx.ModelProto:
    names = [f"x{index}" for index in range(operands)]
    node = helper.make_node(schema.name, names, ["y"], name="node", domain=schema.domain, **attributes)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4, 5]) for name in names]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="y")])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(schema.domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _refusal(schema: Any, attributes: dict[str, Any], operands: int) -> str:
    try:
        import_model(_model(schema, attributes, operands))
    except Error as error:
        return str(error)
    return ""


@pytest.mark.parametrize("schema", _schemas(), ids=lambda schema: f"{schema.domain}.{schema.name}")
def test_form(schema: Any) -> None:
    """Every attribute and operand that onnxruntime knows is known, and no other."""
    least = min(schema.min_input + 2, schema.max_input)
    for name, attribute in schema.attributes.items():
        value = VALUES[str(attribute.type).rsplit(".", 1)[-1]]
        assert f"no attribute {name!r}" not in _refusal(schema, {name: value}, least)
    assert "no attribute 'unheard_of'" in _refusal(schema, {"unheard_of": 1}, least)
    if schema.max_input < 2**31 - 1:
        assert "operands, but at most" not in _refusal(schema, {}, schema.max_input)
        assert "operands, but at most" in _refusal(schema, {}, schema.max_input + 1)
