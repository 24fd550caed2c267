"""FlexAttention of ai.onnx.preview against the reference, natively."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from dlc.errors import ModelError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.native_nodes import check_native_node, run_native
from tests.helpers.onnx_cases import (
    assert_agrees,
    backend_node_cases,
    check_backend_case,
    feeds_of,
    one_node_model,
    run_reference,
)

PREVIEW = "ai.onnx.preview"
CASES = backend_node_cases(["FlexAttention"], PREVIEW)
CLOSE = {
    "float32": (1e-4, 1e-5), "float64": (1e-10, 1e-10), "float16": (1e-2, 5e-3), "bfloat16": (3e-2, 2e-2)
}
rng = np.random.default_rng(10)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape).astype(dtype)


def modifier(op_type: str, element_type: int = 1, **attributes: Any) -> onnx.GraphProto:
    """A subgraph of one operator on one tensor of rank 4."""
    node = helper.make_node(op_type, ["s"], ["t"], **attributes)
    infos = [helper.make_tensor_value_info(name, element_type, [None] * 4) for name in "st"]
    return helper.make_graph([node], op_type, infos[:1], infos[1:])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("heads, key_heads", [(2, 2), (6, 2)])
@pytest.mark.parametrize("score, probability", [(False, False), (True, False), (True, True), (False, True)])
def test_modifiers(score: bool, probability: bool, heads: int, key_heads: int, dtype: Any) -> None:
    # The root of the scale is 0.5 with 16 numbers a head; the reference takes it in f32.
    given = [draw(2, heads, 3, 16, dtype=dtype), *(draw(2, key_heads, 5, n, dtype=dtype) for n in (16, 6))]
    element = 11 if dtype is np.float64 else 1
    attributes = {
        "score_mod": modifier("Tanh", element) if score else None,
        "prob_mod": modifier("Sqrt", element) if probability else None,
    }
    check_native_node(
        "FlexAttention", given, 1, attributes, 26, domain=PREVIEW, onnxruntime=False,
        tolerance=CLOSE[np.dtype(dtype).name],
    )


@pytest.mark.parametrize("precision", [10, 11, 1])
@pytest.mark.parametrize("scale", [None, 0.5, 0.0])
def test_precision_and_scale(precision: int, scale: float | None) -> None:
    given = [draw(1, 2, 3, 4), draw(1, 2, 5, 4), draw(1, 2, 5, 4)]
    attributes = {"softmax_precision": precision, "scale": scale, "score_mod": modifier("Neg", precision)}
    check_native_node(
        "FlexAttention", given, 1, attributes, 26, domain=PREVIEW, onnxruntime=False, tolerance=(1e-2, 5e-3)
    )


def test_a_modifier_may_read_values_around_it() -> None:
    """A mask that the subgraph takes from the graph around."""
    given = [draw(1, 2, 3, 4), draw(1, 2, 3, 4), draw(1, 2, 3, 4)]
    mask = np.where(np.tri(3, dtype=bool), 0, -np.inf).astype(np.float32)
    graph = modifier("Add")
    graph.node[0].input.append("mask")
    model = one_node_model("FlexAttention", given, 1, {"score_mod": graph}, 26, domain=PREVIEW)
    model.graph.input.append(helper.make_tensor_value_info("mask", 1, [3, 3]))
    (y,) = run_native(model, feeds_of(model, given) | {"mask": mask})
    plain = one_node_model("Attention", given, 1, {"is_causal": 1}, 23)
    assert_agrees([y], run_reference(plain, feeds_of(plain, given)), CLOSE["float32"])


@pytest.mark.parametrize("graph, message", [
    (modifier("Cast", to=11), "turns f32"),
    (modifier("Transpose", perm=[0, 1, 3, 2]), "the result of score_mod"),
    (helper.make_graph([], "none", [], []), "inputs"),
])
def test_modifiers_that_break_the_standard(graph: onnx.GraphProto, message: str) -> None:
    given = [draw(1, 2, 3, 4), draw(1, 2, 5, 4), draw(1, 2, 5, 4)]
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model("FlexAttention", given, 1, {"score_mod": graph}, 26, domain=PREVIEW))


@pytest.mark.parametrize("shapes, message", [
    ([(1, 3, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)], "multiple"),
    ([(1, 2, 3, 4), (1, 2, 5, 3), (1, 2, 5, 4)], "K"),
    ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], "rank 4"),
])
def test_operands_that_do_not_fit(shapes: list[tuple[int, ...]], message: str) -> None:
    given = [draw(*shape) for shape in shapes]
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model("FlexAttention", given, 1, {}, 26, domain=PREVIEW))
