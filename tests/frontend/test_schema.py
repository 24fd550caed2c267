"""The form of nodes: what the standard's schemas allow before any importer sees a node."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from dlc.errors import ModelError
from dlc.frontend.onnx import registry
from dlc.frontend.onnx.context import Importer
from dlc.frontend.onnx.schema import check_form, exists, form_of
from tests.helpers.onnx_cases import one_node_model, run_evaluator


def test_forms_follow_the_opset() -> None:
    old, new = form_of("Squeeze", 12), form_of("Squeeze", 13)
    assert old is not None and new is not None
    assert "axes" in old.attributes and "axes" not in new.attributes
    assert old.inputs == (1, 1) and new.inputs == (1, 2)
    assert form_of("Nothing", 13) is None and not exists("Nothing") and exists("Squeeze")


def test_functions_of_the_standard_that_do_not_depend_on_types() -> None:
    normalization, convolution = form_of("MeanVarianceNormalization", 13), form_of("Conv", 13)
    assert normalization is not None and normalization.function is not None
    assert convolution is not None and convolution.function is None


@pytest.mark.parametrize(
    ("node", "opset", "problem", "code"),
    [
        (helper.make_node("Relu", [], ["y"]), 14, "Relu: operand 0 is missing", "model/type"),
        (
            helper.make_node("Clip", ["x"] * 4, ["y"]),
            14,
            "Clip has 4 operands, but at most 3 are possible",
            "model/type",
        ),
        (
            helper.make_node("Relu", ["x"], ["y", "z"]),
            14,
            "Relu has 2 results, but at most 1 are possible",
            "model/type",
        ),
        (
            helper.make_node("Relu", ["x"], ["y"], alpha=1.0),
            14,
            "there is no attribute 'alpha'",
            "model/attribute",
        ),
        (
            helper.make_node("Squeeze", ["x"], ["y"], axes=[0]),
            13,
            "'axes' ended with opset 12",
            "model/attribute",
        ),
        (
            helper.make_node("Reshape", ["x", "s"], ["y"], allowzero=1),
            13,
            "'allowzero' came with opset 14",
            "model/attribute",
        ),
        (helper.make_node("Upsample", ["x", "s"], ["y"]), 10, "removed in opset 10", "model"),
    ],
)
def test_nodes_of_a_form_that_the_standard_does_not_have(
    node: onnx.NodeProto, opset: int, problem: str, code: str
) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        check_form(node, opset)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        (helper.make_node("Concat", ["x"] * 300, ["y"], axis=0), 13),
        (helper.make_node("Upsample", ["x", "s"], ["y"], mode="nearest"), 9),
        (helper.make_node("Clip", ["x", "", "high"], ["y"]), 14),
        (helper.make_node("Clip", ["x", "", "", "", ""], ["y"]), 14),
        (helper.make_node("Unknown", ["x"] * 7, [], anything=1), 14),
    ],
)
def test_nodes_that_are_fine(node: onnx.NodeProto, opset: int) -> None:
    check_form(node, opset)


def test_a_function_of_the_standard_gets_the_default_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body of HannWindow refers to attributes, which have values when the node gives none."""
    find = registry.find

    def without_window(domain: str, op_type: str, opset: int) -> Importer | None:
        return None if op_type == "HannWindow" else find(domain, op_type, opset)

    monkeypatch.setattr(registry, "find", without_window)
    (y,) = run_evaluator(one_node_model("HannWindow", [np.int64(4)], opset=17, constants=(0,)), {})
    np.testing.assert_allclose(y, [0, 0.5, 1, 0.5], atol=1e-6)
