"""Operators as opsets 1 to 6 define them, against NumPy written from the standard: no engine runs those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from dlc.errors import InputError, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Numbers of a normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(
    op_type: str,
    inputs: Sequence[Array | None],
    expected: Sequence[Any],
    opset: int,
    attributes: dict[str, Any] | None = None,
    work: Work = Work.POINTWISE,
    outputs: int | Sequence[str] | None = None,
    **options: Any,
) -> None:
    """The evaluator and the native code give `expected`."""
    wanted = [np.asarray(array) for array in expected]
    count = len(wanted) if outputs is None else outputs
    check_contrib(
        op_type, inputs, work, count, attributes, domain="", opset=opset, expected=wanted, **options
    )


ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Less": np.less,
    "Greater": np.greater,
    "Equal": np.equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}
#: Shape of B, axis, and the shape under which NumPy broadcasts it to (2, 3, 4): those that the text lists,
#: and one with an extent of 1, which the suite's cases have.
BROADCASTS = [
    ((), None, ()),
    ((1, 1), None, (1, 1)),
    ((4,), None, (4,)),
    ((3, 4), None, (3, 4)),
    ((2, 3), 0, (2, 3, 1)),
    ((3,), 1, (3, 1)),
    ((2,), 0, (2, 1, 1)),
    ((2, 3, 4), 0, (2, 3, 4)),
    ((3, 1), 1, (3, 1)),
]


def operands(op_type: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Two operands of the operator's type, some elements equal."""
    rng = np.random.default_rng(1)
    if op_type in ("And", "Or", "Xor"):
        return rng.random((2, 3, 4)) < 0.5, np.asarray(rng.random(shape) < 0.5)
    dtype = np.int32 if op_type == "Equal" else np.float32
    return rng.integers(1, 4, (2, 3, 4)).astype(dtype), np.asarray(rng.integers(1, 4, shape)).astype(dtype)


@pytest.mark.parametrize("op_type", ARITHMETIC)
@pytest.mark.parametrize("shape, axis, placed", BROADCASTS)
def test_broadcasting_on_request(
    op_type: str, shape: tuple[int, ...], axis: int | None, placed: tuple[int, ...]
) -> None:
    left, right = operands(op_type, shape)
    attributes = {"broadcast": 1, "axis": axis}
    expected = ARITHMETIC[op_type](left, right.reshape(placed))
    check(op_type, [left, right], [expected], 6, attributes)


@pytest.mark.parametrize("opset", [1, 6])
def test_consumed_inputs_mean_nothing(opset: int) -> None:
    left, right = operands("Add", (2, 3, 4))
    attributes = {"consumed_inputs": [0, 1]} if opset == 1 else {}
    check("Add", [left, right], [left + right], opset, attributes)
    attributes = {"consumed_inputs": [0]} if opset == 1 else {}
    check("Sigmoid", [left], [1 / (1 + np.exp(-left))], opset, attributes)
    check("Max", [left, right], [np.maximum(left, right)], opset, attributes)
    check("Mean", [left, right], [(left + right) / 2], opset, attributes)


def test_symbolic_extents_are_checked_when_they_are_bound() -> None:
    left, right = draw(2, 3, 4), draw(3, seed=1)
    attributes = {"broadcast": 1, "axis": 1}
    check("Mul", [left, right], [left * right[:, None]], 6, attributes, symbolic=True)
    model = one_node_model("Mul", [left, right], attributes=attributes, opset=6, symbolic=True)
    with pytest.raises(InputError, match="does not broadcast"):
        evaluate(import_model(model).graph, {"x0": left, "x1": draw(2)})


@pytest.mark.parametrize(
    "shape, attributes, message",
    [
        ((4,), {}, "must have rank 3"),
        ((2, 3, 1), {}, "must be equal"),
        ((3,), {"broadcast": 1}, "does not broadcast"),
        ((4,), {"broadcast": 1, "axis": 3}, "no place from axis 3"),
        ((4,), {"broadcast": 1, "axis": -1}, "no place from axis -1"),
        ((1, 2, 3, 4), {"broadcast": 1}, "more axes"),
    ],
)
def test_operands_that_do_not_fit(shape: tuple[int, ...], attributes: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model("Add", [draw(2, 3, 4), draw(*shape)], attributes=attributes, opset=6))


def test_activations_with_other_defaults() -> None:
    x = draw(3, 4)
    negative = 1.0507 * 1.6732 * np.expm1(x)
    check("Selu", [x], [np.where(x > 0, 1.0507 * x, negative).astype(np.float32)], 1)
    check("LeakyRelu", [x], [np.where(x < 0, np.float32(0.01) * x, x)], 1, {"consumed_inputs": [0]})
    check("HardSigmoid", [x], [np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1)], 1)
    check("Elu", [x], [np.where(x < 0, 2 * np.expm1(x), x)], 1, {"alpha": 2.0})
    check("Clip", [x], [np.clip(x, -0.5, 1)], 1, {"min": -0.5, "max": 1.0})
    infinite = np.array([-np.inf, 0, np.inf, np.nan], dtype=np.float32)
    largest = np.finfo(np.float32).max
    check("Clip", [infinite], [np.array([-1, 0, largest, np.nan], np.float32)], 1, {"min": -1.0})


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("x_shape", [(2, 3), (2, 3, 4), (2, 3, 4, 2)])
def test_prelu_by_channel(opset: int, x_shape: tuple[int, ...]) -> None:
    x = draw(*x_shape)
    for slope in (draw(3, seed=1), draw(1, seed=2)):
        placed = slope.reshape(-1, *[1] * (len(x_shape) - 2))
        check("PRelu", [x, slope], [np.where(x < 0, x * placed, x)], opset)


def test_prelu_of_a_slope_that_does_not_fit() -> None:
    for x, slope in ((draw(2, 3), draw(2)), (draw(3), draw(3)), (draw(2, 3, 4), draw(3, 4))):
        with pytest.raises(ModelError, match="slope"):
            import_model(one_node_model("PRelu", [x, slope], opset=6))


@pytest.mark.parametrize("opset", [1, 6])
def test_gemm_broadcasts_on_request(opset: int) -> None:
    a, b, c = draw(2, 3), draw(3, 4, seed=1), draw(2, 4, seed=2)
    attributes = {"alpha": 0.5, "beta": 2.0}
    expected = 0.5 * (a @ b) + 2 * c
    check("Gemm", [a, b, c], [expected], opset, attributes, Work.CONTRACTION)
    row = c[0]
    expected = 0.5 * (a @ b) + 2 * row
    check("Gemm", [a, b, row], [expected], opset, {**attributes, "broadcast": 1}, Work.CONTRACTION)
    with pytest.raises(ModelError, match="C must have rank 2"):
        import_model(one_node_model("Gemm", [a, b, row], attributes=attributes, opset=opset))


def test_reshape_by_an_attribute() -> None:
    x = draw(2, 3, 4)
    for shape, expected in (
        ([0, -1], (2, 12)),
        ([4, 6], (4, 6)),
        ([-1], (24,)),
        ([0, 0, 2, 2], (2, 3, 2, 2)),
    ):
        check("Reshape", [x], [x.reshape(expected)], 1, {"shape": shape}, Work.EXACT)
    scalar = one_node_model("Reshape", [draw(1)], attributes={"shape": [1]}, opset=1)
    del scalar.graph.node[0].attribute[0].ints[:]
    assert import_model(scalar).graph.outputs[0].tensor.shape == ()
    check("Reshape", [x], [x.reshape(2, 12)], 4, {"shape": [0, -1]}, Work.EXACT, symbolic=True)
    with pytest.raises(ModelError, match="shape"):
        import_model(one_node_model("Reshape", [x], opset=1))
    with pytest.raises(ModelError, match="number of elements"):
        import_model(one_node_model("Reshape", [x], attributes={"shape": [5, 5]}, opset=1))


@pytest.mark.parametrize("opset", [1, 2])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(opset: int, mode: str) -> None:
    x = draw(2, 3, 4)
    key = "paddings" if opset == 1 else "pads"
    value = {"constant_values": 1.5} if mode == "constant" else {}
    expected = np.pad(x, [(0, 0), (1, 2), (3, 0)], mode, **value)  # type: ignore[call-overload]
    check("Pad", [x], [expected], opset, {key: [0, 1, 3, 0, 2, 0], "mode": mode, "value": 1.5}, Work.EXACT)


def test_concat_along_axis_1_by_default() -> None:
    parts = [draw(2, 1, 3), draw(2, 2, 3, seed=1)]
    check("Concat", parts, [np.concatenate(parts, 1)], 1, {}, Work.EXACT)
    check("Concat", parts, [np.concatenate(parts, 1)], 3, {"axis": 1}, Work.EXACT)
    with pytest.raises(ModelError, match="axis"):
        import_model(one_node_model("Concat", parts, opset=4))


def test_split() -> None:
    x = draw(6, 4)
    check("Split", [x], np.split(x, 3), 1, {}, Work.EXACT)
    check("Split", [x], np.split(x, [1], 1), 1, {"axis": 1, "split": [1, 3]}, Work.EXACT)
    lengths = np.array([2, 4], dtype=np.int64)
    check("Split", [x, lengths], np.split(x, [2]), 1, {}, Work.EXACT, constants=[1])
    check("Split", [x], np.split(x, 2), 2, {}, Work.EXACT)


def test_tile_along_an_axis() -> None:
    x = draw(2, 3)
    for count, axis in ((3, 0), (2, 1), (1, 1), (0, 0)):
        repeats = [1, 1]
        repeats[axis] = count
        numbers = [np.array([count], dtype=np.int64), np.array([axis], dtype=np.int64)]
        check("Tile", [x, *numbers], [np.tile(x, repeats)], 1, {}, Work.EXACT, constants=[1, 2])
    numbers = [np.array([2], dtype=np.int64), np.array([1], dtype=np.int64)]
    check("Tile", [x, *numbers], [np.tile(x, [1, 2])], 1, {}, Work.EXACT, constants=[2])
    with pytest.raises(UnsupportedError, match="the axis"):
        import_model(one_node_model("Tile", [x, *numbers], opset=1))


def test_cast_to_a_type_by_name() -> None:
    x = np.array([-1.5, 0, 2.5], dtype=np.float32)
    for name, dtype in (
        ("INT32", np.int32),
        ("DOUBLE", np.float64),
        ("BOOL", np.bool_),
        ("FLOAT", np.float32),
    ):
        check("Cast", [x], [x.astype(dtype)], 1, {"to": name}, Work.EXACT)
    with pytest.raises(ModelError, match="names no element type"):
        import_model(one_node_model("Cast", [x], attributes={"to": "float"}, opset=1))


def test_upsample_of_planes() -> None:
    x = draw(1, 2, 3, 4)
    scales = {"height_scale": 2.0, "width_scale": 3.0}
    check("Upsample", [x], [x.repeat(2, 2).repeat(3, 3)], 1, scales, Work.EXACT)
    rows = np.arange(6) / 2
    low = np.floor(rows).astype(int)
    high = np.minimum(low + 1, 2)
    part = (rows - low).astype(np.float32)[:, None]
    expected = x[:, :, low] * (1 - part) + x[:, :, high] * part
    check("Upsample", [x], [expected], 1, {"height_scale": 2.0, "width_scale": 1.0, "mode": "bilinear"})
    for attributes, message in (
        ({**scales, "mode": "linear"}, "none of nearest, bilinear"),
        ({"height_scale": 2.0}, "width_scale"),
        ({"height_scale": 2.0, "width_scale": 0.0}, "not all positive"),
    ):
        with pytest.raises(ModelError, match=message):
            import_model(one_node_model("Upsample", [x], attributes=attributes, opset=1))


def test_lp_pool_with_a_float() -> None:
    x = draw(1, 2, 6)
    windows = np.lib.stride_tricks.sliding_window_view(np.abs(x), 2, 2)
    expected = (windows.astype(np.float64) ** 3).sum(-1) ** (1 / 3)
    check("LpPool", [x], [expected.astype(np.float32)], 1, {"p": 3.0, "kernel_shape": [2]}, Work.REDUCTION)
    with pytest.raises(UnsupportedError, match=r"p is 2\.5"):
        import_model(one_node_model("LpPool", [x], attributes={"p": 2.5, "kernel_shape": [2]}, opset=1))
    with pytest.raises(ModelError, match="kernel_shape"):
        import_model(one_node_model("LpPool", [x], opset=1))


def test_average_pool_leaves_padding_out() -> None:
    x = draw(1, 1, 4)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, 2)[:, :, ::1]
    expected = windows.sum(-1) / np.array([2, 3, 3, 2], dtype=np.float32)
    attributes = {"kernel_shape": [3], "pads": [1, 1]}
    check("AveragePool", [x], [expected], 1, attributes, Work.REDUCTION)


def test_instance_normalization() -> None:
    x, scale, bias = draw(2, 3, 5), draw(3, seed=1), draw(3, seed=2)
    mean, variance = x.mean(2, keepdims=True), x.var(2, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * scale[:, None] + bias[:, None]
    attributes = {"epsilon": 1e-3, "consumed_inputs": [0, 0, 0]}
    check("InstanceNormalization", [x, scale, bias], [expected], 1, attributes, Work.NORMALIZATION)


def test_softmax_flattens() -> None:
    x = draw(2, 3, 4)
    power = np.exp(x - x.max((1, 2), keepdims=True))
    check("Softmax", [x], [power / power.sum((1, 2), keepdims=True)], 1, {}, Work.NORMALIZATION)


@pytest.mark.parametrize("op_type, gates", [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("sequence", [0, 1])
def test_recurrent_cells_are_those_of_later_opsets(op_type: str, gates: int, sequence: int) -> None:
    x, w, r = draw(4, 2, 3), draw(1, gates * 5, 3, seed=1), draw(1, gates * 5, 5, seed=2)
    bias = draw(1, 2 * gates * 5, seed=3)
    attributes = {"hidden_size": 5}
    outputs = 3 if op_type == "LSTM" else 2
    late = one_node_model(op_type, [x, w, r, bias], outputs, attributes, 14)
    graph = import_model(late).graph
    found = evaluate(graph, {"x0": x, "x1": w, "x2": r, "x3": bias})
    expected = [found[value.name] for value in graph.outputs]
    early = {**attributes, "output_sequence": sequence}
    check(op_type, [x, w, r, bias], expected, 1, early, Work.RECURRENT)


def test_the_default_direction_of_gru_as_the_standard_spells_it() -> None:
    x, w, r = draw(4, 2, 3), draw(1, 15, 3, seed=1), draw(1, 15, 5, seed=2)
    import_model(one_node_model("GRU", [x, w, r], 2, {"direction": "foward"}, opset=1))
    with pytest.raises(ModelError, match="direction"):
        import_model(one_node_model("GRU", [x, w, r], 2, {"direction": "foward"}, opset=3))
