"""onnxruntime's quantized elementwise operators, pools and products."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.errors import ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

rng = np.random.default_rng(14)
BYTES = [np.uint8, np.int8]
SHAPES = [((3, 5), (3, 5)), ((2, 3, 17), (17,)), ((1,), (4, 40)), ((2, 1, 4), (3, 1)), ((0, 3), (3,))]


def draw(*shape: int, dtype: Any = np.uint8) -> Array:
    """Integers of the whole range of the type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def parameters(dtype: Any, low: float = 0.01, high: float = 0.1) -> list[Array]:
    """A scale and a zero point."""
    return [np.float32(rng.uniform(low, high)), draw(dtype=dtype)]


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_add_and_mul(dtype: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    for fixed in (True, False):
        a, b = (draw(*shape, dtype=dtype) for shape in shapes)
        first, second = parameters(dtype), parameters(dtype)
        options: dict[str, Any] = {"constants": (1, 2, 4, 5, 6, 7) if fixed else (), "symbolic": not fixed}
        inputs = [a, *first, b, *second]
        # onnxruntime adds by factors scale(a) / scale(y), so that few sums round to the next step.
        check_contrib("QLinearAdd", [*inputs, *parameters(dtype)], Work.EXACT, steps=1, **options)
        check_contrib("QLinearMul", [*inputs, *parameters(dtype, 0.2, 2)], Work.EXACT, **options)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("shape", [(5,), (3, 40), (2, 3, 4, 5)], ids=str)
def test_unary(dtype: Any, shape: tuple[int, ...]) -> None:
    x = draw(*shape, dtype=dtype)
    for source in (parameters(dtype), parameters(dtype)):
        tight = [np.float32(1 / 250), np.array(np.iinfo(dtype).min, dtype)]
        check_contrib("QLinearSigmoid", [x, *source, *tight], Work.EXACT, steps=1, constants=(1, 2, 3, 4))
        for alpha in (None, 0.3):
            check_contrib("QLinearLeakyRelu", [x, *source, *parameters(dtype)], Work.EXACT,
                          attributes={"alpha": alpha})  # fmt: skip


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("axis", [-1, 1, 2, None])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax(dtype: Any, axis: int | None, opset: int) -> None:
    x = draw(2, 6, 9, dtype=dtype)
    tight = [np.float32(1 / 256), np.array(np.iinfo(dtype).min, dtype)]
    for scale in (0.02, 0.2):
        inputs = [x, np.float32(scale), draw(dtype=dtype), *tight]
        attributes = {"axis": axis, "opset": opset}
        check_contrib("QLinearSoftmax", inputs, Work.EXACT, attributes=attributes, steps=1,
                      constants=(1, 2, 3, 4))  # fmt: skip


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(dtype: Any, axis: int) -> None:
    parts = [draw(2, 3, 4, dtype=dtype) for _ in range(3)]
    result = parameters(dtype)
    shared = [part for x in parts for part in (x, *result)]
    for inputs in ([p for x in parts for p in (x, *parameters(dtype))], shared):
        fixed = [index for index in range(2, 11) if index % 3 != 2]
        check_contrib("QLinearConcat", [*result, *inputs], Work.EXACT, attributes={"axis": axis},
                      constants=(0, 1, *fixed))  # fmt: skip


@pytest.mark.parametrize("dtype", BYTES)
def test_where(dtype: Any) -> None:
    for shapes in (((3, 4), (3, 4)), ((3, 1), (4,)), ((), (3, 4))):
        x, y = (draw(*shape, dtype=dtype) for shape in shapes)
        condition = rng.random((3, 4)) < 0.5
        inputs = [condition, x, *parameters(dtype), y, *parameters(dtype), *parameters(dtype)]
        check_contrib("QLinearWhere", inputs, Work.EXACT, constants=(2, 3, 5, 6, 7, 8))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("last", [0, 1])
def test_global_average_pool(dtype: Any, last: int) -> None:
    for shape in ((2, 3, 5, 7), (1, 20, 9, 4), (1, 16, 1, 1), (2, 8, 6, 6)):
        x = draw(*shape, dtype=dtype)
        inputs = [x, *parameters(dtype), *parameters(dtype, 0.01, 0.05)]
        for symbolic in (False, True):
            check_contrib("QLinearGlobalAveragePool", inputs, Work.EXACT, attributes={"channels_last": last},
                          symbolic=symbolic)  # fmt: skip


WINDOWS = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
]


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_average_pool(dtype: Any, last: int, window: dict[str, Any]) -> None:
    inputs = [draw(2, 5, 7, 6, dtype=dtype), *parameters(dtype), *parameters(dtype, 0.01, 0.05)]
    attributes = {**window, "channels_last": last}
    check_contrib("QLinearAveragePool", inputs, Work.EXACT, attributes=attributes, steps=1)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [0, -1], [-2]], ids=str)
def test_reduce_mean(keepdims: int, axes: list[int]) -> None:
    # onnxruntime has a description of it, but no code.
    x = draw(2, 3, 4)
    scale, zero = np.float32(0.25), np.array(100, np.uint8)
    real = (x.astype(np.float64) - 100) * 0.25
    mean = real.mean(tuple(axes), keepdims=bool(keepdims))
    expected = np.clip(np.rint(mean / 0.25) + 100, 0, 255).astype(np.uint8)
    attributes = {"axes": axes, "keepdims": keepdims}
    check_contrib("QLinearReduceMean", [x, scale, zero, scale, zero], Work.EXACT, attributes=attributes,
                  expected=[expected], steps=1)  # fmt: skip


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("window", [{}, {"pads": [1, 1, 1, 1], "strides": [2, 1]}, {"group": 2}], ids=str)
def test_conv(last: int, per_channel: bool, window: dict[str, Any]) -> None:
    channels = 4 // window.get("group", 1)
    x, w = draw(2, 6, 7, 4) if last else draw(2, 4, 6, 7), draw(6, channels, 3, 3, dtype=np.int8)
    count = (6,) if per_channel else ()
    w_scale = rng.uniform(0.01, 0.02, count).astype(np.float32)
    w_zero = np.zeros(count, np.int8) if per_channel else draw(dtype=np.int8)
    bias = rng.integers(-500, 500, 6).astype(np.int32)
    for extra in (None, bias):
        inputs = [x, *parameters(np.uint8), w, w_scale, w_zero, np.float32(3), draw(), extra]
        check_contrib("QLinearConv", inputs, Work.EXACT, attributes={**window, "channels_last": last},
                      constants=(1, 2, 3, 4, 5, 6, 7, 8))  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_quantize_and_dequantize(dtype: Any, axis: int | None) -> None:
    x = rng.uniform(-300, 300, (2, 3, 4)).astype(np.float32)
    count = () if axis is None else (x.shape[axis],)
    scale = rng.uniform(0.5, 2, count).astype(np.float32)
    zero = rng.integers(0, 100, count).astype(dtype)
    attributes = {"axis": axis}
    (q,) = check_contrib("QuantizeLinear", [x, scale, zero], Work.EXACT, attributes=attributes)
    check_contrib("DequantizeLinear", [q, scale, zero], Work.POINTWISE, attributes=attributes)


def test_quantize_without_a_zero_point_and_other_types() -> None:
    x = rng.uniform(-3, 300, (3, 4)).astype(np.float32)
    check_contrib("QuantizeLinear", [x, np.float32(2)], Work.EXACT)
    half = rng.uniform(-300, 300, (3, 4)).astype(np.float16)
    inputs = [half, np.float16(2), np.array(3, np.int8)]
    (q,) = check_contrib("QuantizeLinear", inputs, Work.EXACT)
    check_contrib("DequantizeLinear", [q, *inputs[1:]], Work.POINTWISE)
    sums = rng.integers(-(10**6), 10**6, (3, 4)).astype(np.int32)
    check_contrib("DequantizeLinear", [sums, np.float32(0.01)], Work.POINTWISE)
    nibbles = rng.integers(-8, 8, (3, 4)).astype(ml_dtypes.int4)
    expected = nibbles.astype(np.float32) * np.float32(0.5)
    check_contrib("DequantizeLinear", [nibbles, np.float32(0.5)], Work.EXACT, expected=[expected])


PAIRS = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]


@pytest.mark.parametrize(("left", "right"), PAIRS)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_matmul_integer_to_float(left: Any, right: Any, columns: bool, batch: tuple[int, ...]) -> None:
    a, b = draw(*batch, 5, 24, dtype=left), draw(24, 17, dtype=right)
    count = (17,) if columns else ()
    scales = [np.float32(0.02), rng.uniform(0.01, 0.02, count).astype(np.float32)]
    zeros = [draw(dtype=left), draw(*count, dtype=right)]
    bias = rng.standard_normal(17).astype(np.float32)
    for more in ([], zeros, [zeros[0]], [*zeros, bias], [None, None, bias]):
        check_contrib("MatMulIntegerToFloat", [a, b, *scales, *more], Work.CONTRACTION, constants=(1, 3, 5))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (2, 3, 24)], ids=str)
def test_dynamic_quantize_matmul(dtype: Any, columns: bool, shape: tuple[int, ...]) -> None:
    a, b = rng.standard_normal(shape).astype(np.float32), draw(24, 17, dtype=dtype)
    count = (17,) if columns else ()
    scale = rng.uniform(0.01, 0.02, count).astype(np.float32)
    bias = rng.standard_normal(17).astype(np.float32)
    for more in ([], [draw(*count, dtype=dtype)], [draw(*count, dtype=dtype), bias], [None, bias]):
        check_contrib("DynamicQuantizeMatMul", [a, b, scale, *more], Work.CONTRACTION, constants=(1, 2, 3))


@pytest.mark.parametrize(("left", "right"), PAIRS)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("trans", [(0, 0), (1, 1)], ids=str)
def test_qgemm(left: Any, right: Any, columns: bool, trans: tuple[int, int]) -> None:
    a, b = draw(6, 24, dtype=left), draw(24, 17, dtype=right)
    a, b = (x.T.copy() if flag else x for x, flag in zip((a, b), trans))
    count = (17,) if columns else ()
    b_parameters = [rng.uniform(0.01, 0.02, count).astype(np.float32), draw(*count, dtype=right)]
    c = rng.integers(-1000, 1000, 17).astype(np.int32)
    inputs = [a, *parameters(left), b, *b_parameters]
    attributes = {"transA": trans[0], "transB": trans[1], "alpha": 0.5 if columns else None}
    fixed = (1, 2, 3, 4, 5, 7, 8)
    for extra in (None, c):
        check_contrib("QGemm", [*inputs, extra], Work.CONTRACTION, attributes=attributes, constants=fixed)
        quantized = [*inputs, extra, np.float32(1.5), draw(dtype=left)]
        check_contrib("QGemm", quantized, Work.EXACT, attributes=attributes, constants=fixed)


def test_malformed_joins() -> None:
    model = one_node_model(
        "QLinearConcat",
        [*parameters(np.uint8), draw(2), *parameters(np.uint8), draw(2)],
        attributes={"axis": 0},
        domain="com.microsoft",
    )
    with pytest.raises(ModelError, match="scale and a zero point"):
        import_model(model)
