"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear against the ONNX reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

import dlc
from dlc.errors import InputError, ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dtypes import DType
from dlc.ir.evaluate import evaluate
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    one_node_model,
    run_evaluator,
    run_onnxruntime,
)

Q, DQ, DYNAMIC = "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"
CASES = backend_node_cases({Q, DQ, DYNAMIC})
X = np.array([[-300.0, -2.5, -1.5, -0.5, 0.0, 0.5], [1.5, 2.5, 3.5, 127.4, 254.6, 1e9]], np.float32)
BYTES = [np.uint8, np.int8]
INTEGERS = [*BYTES, np.uint16, np.int16]
SUB_BYTE = [ml_dtypes.uint4, ml_dtypes.int4, ml_dtypes.uint2, ml_dtypes.int2]
FLOAT8 = [
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e5m2fnuz,
]


# The reference has DequantizeLinear since opset 19.


def code(dtype: Any) -> int:
    """The ONNX number of an element type."""
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


def test_every_operator_has_backend_cases() -> None:
    assert {case.model.graph.node[0].op_type for case in CASES} == {Q, DQ, DYNAMIC}


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23, 25])
def test_per_tensor(dtype: type, opset: int) -> None:
    if dtype not in BYTES and opset < 21:
        return  # 16 bits came with opset 21
    info = np.iinfo(dtype)
    for zero_point in {info.min, 0, 1, info.max // 2, info.max}:
        parameters = [np.float32(0.5), np.array(zero_point, dtype)]
        (q,) = check_node(Q, [X.clip(-1e6, 1e6), *parameters], opset=opset)
        check_node(DQ, [q, *parameters], opset=opset, reference=opset >= 19)
    check_node(Q, [X[:, :5], np.float32(2)], opset=opset)
    check_node(DQ, [X[:, :5].clip(0, 9).astype(np.uint8), np.float32(2)], opset=opset, reference=opset >= 19)


def test_saturation_and_nan() -> None:
    x = np.array([np.inf, -np.inf, 3e38, -3e38, np.nan], np.float32)
    for dtype in BYTES:
        # The reference converts infinities to int32 on the way.
        check_node(Q, [x, np.float32(1), np.array(3, dtype)], opset=13, reference=False)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("opset", [13, 19, 21])
def test_per_axis(axis: int | None, dtype: type, opset: int) -> None:
    x = np.random.default_rng(0).uniform(-100, 300, (2, 3, 4)).astype(np.float32)
    extent = x.shape[1 if axis is None else axis]
    parameters = [np.linspace(0.5, 2, extent).astype(np.float32), np.arange(extent).astype(dtype)]
    for symbolic in (False, True):
        (q,) = check_node(Q, [x, *parameters], attributes={"axis": axis}, opset=opset, symbolic=symbolic)
        check_node(
            DQ,
            [q, *parameters],
            attributes={"axis": axis},
            opset=opset,
            symbolic=symbolic,
            reference=opset >= 19,
        )


@pytest.mark.parametrize("block_size", [1, 2, 3, 4])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", BYTES)
def test_blocks(block_size: int, axis: int, dtype: type) -> None:
    x = np.random.default_rng(0).uniform(-100, 300, (4, 6)).astype(np.float32)
    shape = list(x.shape)
    shape[axis] = -(-shape[axis] // block_size)
    rng = np.random.default_rng(1)
    parameters = [rng.uniform(0.5, 2, shape).astype(np.float32), rng.integers(0, 9, shape).astype(dtype)]
    attributes = {"axis": axis, "block_size": block_size}
    # The reference repeats scales only to a multiple of the block.
    exact = x.shape[axis] % block_size == 0
    for symbolic in (False, True):
        (q,) = check_node(
            Q, [x, *parameters], attributes=attributes, opset=21, symbolic=symbolic, reference=exact
        )
        check_node(DQ, [q, *parameters], attributes=attributes, opset=21, symbolic=symbolic, reference=exact)


@pytest.mark.parametrize("dtype", SUB_BYTE)
def test_sub_byte_integers(dtype: Any) -> None:
    x = np.array([[-9.0, -2.5, -1.5, -0.5], [0.5, 1.5, 2.5, 40]], np.float32)
    for parameters in (
        [np.float32(1), np.array(1).astype(dtype)],
        [np.float32([1, 2, 0.5, 1]), np.ones(4).astype(dtype)],
    ):
        # onnxruntime hands numbers of fewer than 8 bits to Python packed.
        (q,) = check_node(Q, [x, *parameters], opset=25, onnxruntime=False)
        check_node(DQ, [q, *parameters], opset=25, onnxruntime=False)


@pytest.mark.parametrize("dtype", FLOAT8)
@pytest.mark.parametrize("saturate", [0, 1])
def test_8_bit_floats(dtype: Any, saturate: int) -> None:
    x = np.array([0, 0.3, 1, -1.3, 5.7, 1e3, -1e6], np.float32)
    parameters = [np.float32(2), np.zeros((), dtype)]
    attributes = {"saturate": saturate}
    # onnxruntime hands 8-bit floats to Python as bytes.
    (q,) = check_node(Q, [x, *parameters], attributes=attributes, opset=19, onnxruntime=False)
    check_node(DQ, [q, *parameters], opset=19, onnxruntime=False)


def test_output_dtype() -> None:
    attributes = {"output_dtype": code(np.int8)}
    model = one_node_model(Q, [X, np.float32(1)], attributes=attributes, opset=21)
    (node,) = import_model(model).graph.nodes
    assert node.op == QuantizeLinear(0, 0, DType.I8)
    check_node(Q, [X.clip(-1e6, 1e6), np.float32(1)], attributes=attributes, opset=21)
    inputs = [X, np.float32(1), np.zeros((), np.uint8)]
    with pytest.raises(ModelError, match="'output_dtype' names i8, but the zero point is u8"):
        import_model(one_node_model(Q, inputs, attributes=attributes, opset=21))
    model = one_node_model(
        DQ, [np.ones(2, np.uint8), np.float32(1)], attributes={"output_dtype": code(np.float16)}, opset=23
    )
    (node,) = import_model(model).graph.nodes
    assert node.op == DequantizeLinear(0, 0, DType.F16)


def test_precision() -> None:
    x, parameters = np.array([2050, 1027, 3076, 5000], np.float16), [np.float16(3), np.array(0, np.int16)]
    # onnxruntime divides in float32 whatever is asked for.
    (y,) = check_node(Q, [x, *parameters], opset=23, onnxruntime=False)
    assert y.tolist() == [684, 342, 1025, 1667]
    for dtype, first in ((np.float16, 684), (np.float32, 683)):
        attributes = {"precision": code(dtype)}
        (y,) = check_node(
            Q, [x, *parameters], attributes=attributes, opset=23, onnxruntime=dtype is np.float32
        )
        assert y[0] == first


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_scales(dtype: Any) -> None:
    q = np.arange(-128, 128, dtype=np.int8)
    (y,) = check_node(DQ, [q, np.array(0.3).astype(dtype), np.array(5, np.int8)], opset=21, onnxruntime=False)
    assert y.dtype == dtype


def test_32_bit_accumulators() -> None:
    q = np.array([[-(2**31), -7, 0], [7, 2**24 + 1, 2**31 - 1]], np.int32)
    for scale in (np.float32(0.1), np.float32([0.1, 2, 3])):
        for opset in (10, 13, 19) if scale.ndim == 0 else (13, 19):
            check_node(DQ, [q, scale], opset=opset, reference=opset >= 19)


@pytest.mark.parametrize("attributes", [{"axis": 2}, {"axis": -3}])
def test_an_axis_outside_is_refused(attributes: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="is outside"):
        import_model(one_node_model(Q, [X, np.ones(6, np.float32)], attributes=attributes, opset=13))
    # It has no meaning for a scalar scale.
    check_node(Q, [X.clip(-1e6, 1e6), np.float32(1)], attributes=attributes, opset=13, onnxruntime=False)


def test_parameters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="must be equal"):
        import_model(one_node_model(Q, [X, np.ones(5, np.float32)], opset=13))
    with pytest.raises(ModelError, match="zero_point must be of type i8"):
        import_model(
            one_node_model(DQ, [np.zeros(2, np.int8), np.float32(1), np.zeros((), np.uint8)], opset=13)
        )
    with pytest.raises(ModelError, match="'block_size' must not be negative"):
        import_model(
            one_node_model(Q, [X, np.ones((2, 6), np.float32)], attributes={"block_size": -1}, opset=21)
        )
    graph = import_model(one_node_model(Q, [X, np.ones(5, np.float32)], opset=13, symbolic=True)).graph
    with pytest.raises(InputError, match="does not fit an axis"):
        evaluate(graph, {"x0": X, "x1": np.ones(5, np.float32)})


@pytest.mark.parametrize("extent", [1, 6])
@pytest.mark.parametrize("static", [(), (1,), (2,)])
def test_vectors_of_open_extent_may_hold_one_number(extent: int, static: tuple[int, ...]) -> None:
    """A vector of one element counts for the whole tensor, in onnxruntime too."""
    parameters = [np.full(extent, 0.5, np.float32), np.full(extent, 3, np.uint8)]
    model = one_node_model(Q, [X, *parameters], attributes={"axis": 1}, opset=13, symbolic=True)
    for index in static:
        model.graph.input[index].type.tensor_type.shape.dim[0].dim_value = extent
    feeds = dict(zip(("x0", "x1", "x2"), (X, *parameters)))
    (expected,) = run_onnxruntime(model, feeds)
    np.testing.assert_array_equal(run_evaluator(model, feeds)[0], expected)
    with dlc.compile(model.SerializeToString(), cache=False, threads=1) as compiled:
        np.testing.assert_array_equal(compiled(feeds)[0], expected)


@pytest.mark.parametrize(
    ("key", "since"),
    [("axis", 13), ("saturate", 19), ("block_size", 21), ("output_dtype", 21), ("precision", 23)],
)
def test_attributes_of_a_later_opset_are_refused(key: str, since: int) -> None:
    with pytest.raises(ModelError, match=f"'{key}' came with opset {since}"):
        import_model(one_node_model(Q, [X, np.float32(1)], attributes={key: 1}, opset=since - 1))


@given(
    npst.arrays(
        np.float32,
        npst.array_shapes(max_dims=3, max_side=5),
        elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
    )
)
@settings(max_examples=60, deadline=None)
def test_dynamic_quantization(x: np.ndarray[Any, Any]) -> None:
    if x.any():
        check_node(DYNAMIC, [x], 3, opset=11)


def test_dynamic_quantization_of_zeros() -> None:
    # The function of the standard gives scale 0; onnxruntime, on its own, 1.
    model = one_node_model(DYNAMIC, [np.zeros(3, np.float32)], 3, opset=11)
    q, scale, zero_point = run_evaluator(model, {"x0": np.zeros(3, np.float32)})
    assert q.tolist() == [0, 0, 0] and scale == 0 and zero_point == 0


def test_dynamic_quantization_is_of_float32() -> None:
    with pytest.raises(ModelError, match="must be of type f32"):
        import_model(one_node_model(DYNAMIC, [np.zeros(3, np.float16)], 3, opset=11))
