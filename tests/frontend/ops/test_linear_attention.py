"""LinearAttention and CausalConvWithState against the reference (onnxruntime has neither), natively."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.errors import ModelError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.native_nodes import check_native_node, run_native
from tests.helpers.onnx_cases import assert_agrees, feeds_of, one_node_model, run_evaluator, run_reference

rng = np.random.default_rng(9)
CLOSE = {"float32": (1e-4, 1e-5), "float16": (1e-2, 5e-3), "bfloat16": (3e-2, 3e-2)}
#: update_rule -> whether it takes decay, and beta.
RULES = {
    "linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True),
}


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return (rng.standard_normal(shape) * 0.5).astype(dtype)


def operands(
    rule: str, steps: int = 5, heads: int = 2, groups: int = 1, width: int = 4, dtype: Any = np.float32,
    per_key: bool = False, shared: bool = False, past: bool = True, values: int = 6, state: Any = None,
) -> list[Any]:
    """q, k, v, past_state, decay, beta of a batch of 2."""
    decays, updates = RULES[rule]
    decay = -np.abs(draw(2, steps, heads * (width if per_key else 1), dtype=dtype)) if decays else None
    beta = np.abs(draw(2, steps, 1 if shared else heads, dtype=dtype)) if updates else None
    return [
        draw(2, steps, heads * groups * width, dtype=dtype), draw(2, steps, heads * width, dtype=dtype),
        draw(2, steps, heads * values, dtype=dtype),
        draw(2, heads, width, values, dtype=state or dtype) if past else None, decay, beta,
    ]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [
    {}, {"steps": 1}, {"groups": 3}, {"per_key": True}, {"shared": True}, {"past": False}, {"values": 17},
    {"heads": 1, "width": 1}, {"dtype": np.float16}, {"dtype": np.float16, "state": np.float32},
], ids=str)
def test_update_rules(rule: str, options: dict[str, Any]) -> None:
    heads = options.get("heads", 2)
    attributes = {
        "update_rule": rule, "kv_num_heads": heads, "q_num_heads": heads * options.get("groups", 1),
    }
    given = operands(rule, **options)
    tolerance = CLOSE[given[0].dtype.name]
    check_native_node("LinearAttention", given, 2, attributes, 27, tolerance=tolerance)


def test_bfloat16() -> None:
    given = operands("gated_delta", dtype=ml_dtypes.bfloat16)
    attributes = {"kv_num_heads": 2, "q_num_heads": 2, "scale": 0.25, "chunk_size": 16}
    model = one_node_model("LinearAttention", given, 2, attributes, 27)
    wanted = run_reference(model, feeds_of(model, given))
    assert_agrees(run_native(model, feeds_of(model, given)), wanted, CLOSE["bfloat16"])


@pytest.mark.parametrize("rule", ["linear", "gated_delta"])
def test_symbolic_extents(rule: str) -> None:
    """Batch and length are open; without tokens the state stays as it was."""
    attributes = {"update_rule": rule, "kv_num_heads": 2, "q_num_heads": 4}
    for steps in (3, 0):
        given = operands(rule, steps=steps, groups=2)
        model = one_node_model("LinearAttention", given, 2, attributes, 27)
        for value in model.graph.input:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
            if value.name != "x3":
                value.type.tensor_type.shape.dim[1].dim_param = "length"
        wanted = run_reference(model, feeds_of(model, given))
        assert_agrees(run_native(model, feeds_of(model, given)), wanted, CLOSE["float32"])


@pytest.mark.parametrize("change, message", [
    ({"update_rule": "none"}, "none of linear"),
    ({"update_rule": "linear"}, "does not take the operand decay"),
    ({"q_num_heads": 3}, "multiple"),
    ({"kv_num_heads": 0}, "multiple"),
    ({"chunk_size": 0}, "chunk_size"),
])
def test_linear_attention_refuses(change: dict[str, Any], message: str) -> None:
    attributes = {"kv_num_heads": 2, "q_num_heads": 2} | change
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model("LinearAttention", operands("gated_delta"), 2, attributes, 27))


def test_missing_gate_is_refused() -> None:
    given = operands("gated")
    with pytest.raises(ModelError, match="needs the operand beta"):
        import_model(one_node_model("LinearAttention", given, 2, {"kv_num_heads": 2, "q_num_heads": 2}, 27))


@pytest.mark.parametrize("kernel, length", [(4, 7), (4, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_causal_convolution(kernel: int, length: int, past: bool, activation: str | None, dtype: Any) -> None:
    state = draw(2, 3, kernel - 1, dtype=dtype) if past else None
    for bias in (None, draw(3, dtype=dtype)):
        given = [draw(2, 3, length, dtype=dtype), draw(3, 1, kernel, dtype=dtype), bias, state]
        check_native_node("CausalConvWithState", given, 2, {"activation": activation}, 27, constants=(1,),
                          tolerance=CLOSE[np.dtype(dtype).name])


def test_causal_convolution_without_state_output_and_of_symbolic_length() -> None:
    given = [draw(2, 3, 5), draw(3, 1, 4), None, draw(2, 3, 3)]
    attributes = {"activation": "swish"}
    check_native_node("CausalConvWithState", given, ["y0", ""], attributes, 27, tolerance=(1e-4, 1e-5))
    model = one_node_model("CausalConvWithState", given[:2], 2, {}, 27)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "length"
    wanted = run_reference(model, feeds_of(model, given[:2]))
    for run in (run_evaluator, run_native):
        assert_agrees(run(model, feeds_of(model, given[:2])), wanted, (1e-4, 1e-5))


def test_causal_convolution_refuses() -> None:
    given = [draw(1, 2, 3), draw(2, 1, 2)]
    with pytest.raises(ModelError, match="activation"):
        import_model(one_node_model("CausalConvWithState", given, 2, {"activation": "gelu"}, 27))
    with pytest.raises(ModelError, match="weight"):
        import_model(one_node_model("CausalConvWithState", [given[0], draw(2, 2, 2)], 2, {}, 27))
