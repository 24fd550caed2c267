"""Complex numbers: every operator of the standard that moves them does so natively."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlc
from dlc.ir.ops.movement import Pad, Transpose, Trilu
from tests.helpers.native_nodes import run_native
from tests.helpers.onnx_cases import assert_agrees, feeds_of, one_node_model, run_evaluator, run_reference
from tests.lowering.kernels import check_rule

DTYPES = (np.complex64, np.complex128)
rng = np.random.default_rng(11)


def draw(*shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


#: Complex operands are drawn in complex128 and converted; operands from `constants` on are initializers.
CASES: list[tuple[str, list[Any], dict[str, Any], int, int]] = [
    ("Transpose", [draw(3, 20)], {}, 21, 9),
    ("Identity", [draw(3, 20)], {}, 21, 9),
    ("Reshape", [draw(3, 20), np.array([5, -1])], {}, 21, 1),
    ("Flatten", [draw(3, 2, 5)], {"axis": 2}, 21, 9),
    ("Unsqueeze", [draw(3, 2), np.array([0, -1])], {}, 21, 1),
    ("Squeeze", [draw(3, 1), np.array([1])], {}, 21, 1),
    ("Pad", [draw(3, 20), np.array([1, 2, 0, 3])], {}, 21, 1),
    ("Pad", [draw(3, 20), np.array([1, 2, 0, 3]), draw()], {}, 21, 1),
    ("Pad", [draw(3, 20), np.array([1, 2, 0, 3])], {"mode": "reflect"}, 21, 1),
    ("Gather", [draw(3, 20), np.array([2, 0])], {"axis": 1}, 13, 9),
    ("GatherElements", [draw(3, 20), np.array([[2, 0]] * 3)], {"axis": 1}, 13, 9),
    ("GatherND", [draw(3, 20), np.array([[2, 0]])], {}, 13, 9),
    ("ScatterElements", [draw(3, 20), np.array([[2, 0]]), draw(1, 2)], {}, 18, 9),
    ("ScatterND", [draw(3, 20), np.array([[2]]), draw(1, 20)], {}, 18, 9),
    ("TensorScatter", [draw(2, 4, 3), draw(2, 1, 3), np.array([1, 2])], {}, 24, 9),
    ("Where", [np.array([[True], [False], [True]]), draw(3, 20), draw()], {}, 16, 9),
    ("Concat", [draw(3, 20), draw(3, 7)], {"axis": 1}, 13, 9),
    ("Split", [draw(3, 20)], {"axis": 1}, 13, 9),
    ("Slice", [draw(3, 20), np.array([19]), np.array([-50]), np.array([1]), np.array([-3])], {}, 13, 1),
    ("Tile", [draw(3, 2), np.array([2, 9])], {}, 13, 1),
    ("Expand", [draw(3, 1), np.array([2, 3, 20])], {}, 13, 1),
    ("Trilu", [draw(5, 20)], {"upper": 0}, 14, 9),
    ("OneHot", [np.array([1, 0, 3]), np.array(4), draw(2)], {}, 11, 1),
    ("ReverseSequence", [draw(3, 2), np.array([2, 3])], {}, 10, 9),
    ("DepthToSpace", [draw(1, 4, 3, 5)], {"blocksize": 2}, 13, 9),
    ("SpaceToDepth", [draw(1, 1, 4, 6)], {"blocksize": 2}, 13, 9),
    ("CenterCropPad", [draw(3, 20), np.array([5, 10])], {}, 18, 1),
    ("Resize", [draw(3, 20), None, np.array([2, 1.5], np.float32)], {"mode": "nearest"}, 19, 2),
]


def operands(given: list[Any], dtype: Any) -> list[Any]:
    return [x.astype(dtype) if np.iscomplexobj(x) else x for x in map(_array, given)]


def _array(x: Any) -> Any:
    return None if x is None else np.asarray(x)


@pytest.mark.parametrize("dtype", DTYPES, ids=["c64", "c128"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{len(case[1])}")
def test_movements(case: Any, dtype: Any) -> None:
    op_type, given, attributes, opset, constant = case
    inputs = operands(given, dtype)
    constants = range(constant, len(inputs))
    outputs = 2 if op_type == "Split" else 1
    model = one_node_model(op_type, inputs, outputs, attributes, opset, constants=constants)
    feeds = feeds_of(model, inputs)
    actual = run_evaluator(model, feeds)
    # The reference drops imaginary parts when it resizes.
    if op_type != "Resize":
        assert_agrees(actual, run_reference(model, feeds))
    assert_agrees(run_native(model, feeds), actual)


@pytest.mark.parametrize("dtype", DTYPES, ids=["c64", "c128"])
def test_a_symbolic_movement_of_unaligned_numbers(dtype: Any) -> None:
    """complex128 arrays lie at multiples of 8 bytes, not of 16."""
    memory = np.zeros(61 * np.dtype(dtype).itemsize, np.uint8)
    x = memory[8:][: 60 * np.dtype(dtype).itemsize].view(dtype).reshape(3, 20)
    x[...] = draw(3, 20)
    model = one_node_model("Transpose", [x], 1, {}, 21, symbolic=True)
    (y,) = run_native(model, {"x0": x})
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("op", [Pad((1, 0), (0, 2), "constant"), Trilu(True, 1), Transpose((1, 0))], ids=str)
def test_kernels(op: Any) -> None:
    """Verified, printed, read back and evaluated, their constant 0 too."""
    for dtype in DTYPES:
        check_rule(op, draw(3, 4).astype(dtype))


def test_bits_of_complex_numbers() -> None:
    x = draw(5).astype(np.complex64)
    (y,) = run_native(one_node_model("BitCast", [x], 1, {"to": 7}, 26), {"x0": x})
    np.testing.assert_array_equal(y, x.view(np.int64))


@pytest.mark.parametrize("dtype", DTYPES, ids=["c64", "c128"])
def test_positions_of_complex_numbers_that_are_not_zero(dtype: Any) -> None:
    x = np.array([0, 1, -0.0, 1j, complex(-0.0, -0.0), complex(0, np.nan), -1j], dtype=dtype)
    model = one_node_model("NonZero", [x], 1, {}, 13)
    with dlc.compile(model, threads=1, cache=False) as compiled:
        (y,) = compiled({"x0": x})
        assert y.tolist() == [[1, 3, 5, 6]]
        # There is no arithmetic on 128 bits.
        assert bool(compiled.report().hosts) == (dtype is np.complex128)
    with pytest.raises(dlc.UnsupportedError, match="no order"):
        run_native(one_node_model("Unique", [x], 1, {}, 11), {"x0": x})


def test_sums_of_complex_numbers_run_on_the_host() -> None:
    inputs = [draw(3).astype(np.complex64), np.array([1]), draw(1).astype(np.complex64)]
    model = one_node_model("ScatterElements", inputs, 1, {"reduction": "add"}, 18)
    with pytest.raises(dlc.UnsupportedError, match="do not compute"):
        run_native(model, feeds_of(model, inputs))
    with dlc.compile(model, threads=1, cache=False) as compiled:
        assert_agrees(list(compiled(feeds_of(model, inputs))), run_reference(model, feeds_of(model, inputs)))
