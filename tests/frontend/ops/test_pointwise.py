"""Arithmetic, comparison, logical and bitwise operators against the ONNX reference and onnxruntime."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as npst

from dlc.errors import InputError, ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.ops.pointwise import Binary, Clip
from tests.helpers.native_nodes import check_native_node
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    one_node_model,
    run_evaluator,
)

UNARY = {
    "Abs": 1,
    "Neg": 1,
    "Sign": 9,
    "Floor": 1,
    "Ceil": 1,
    "Round": 11,
    "Exp": 1,
    "Log": 1,
    "Sqrt": 1,
    "Reciprocal": 1,
    "Sin": 7,
    "Cos": 7,
    "Tan": 7,
    "Asin": 7,
    "Acos": 7,
    "Atan": 7,
    "Sinh": 9,
    "Cosh": 9,
    "Asinh": 9,
    "Acosh": 9,
    "Atanh": 9,
    "Erf": 9,
}
OTHERS = {
    "Not",
    "BitwiseNot",
    "IsNaN",
    "IsInf",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "And",
    "Or",
    "Xor",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "Mod",
    "BitShift",
    "Where",
    "Clip",
}
# The three cases of Not are models of opset 1.
CASES = [case for case in backend_node_cases({*UNARY, *OTHERS}) if case.model.opset_import[0].version >= 7]
SPECIAL = np.array(
    [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        1e-40,
        -1e-40,
        1e-30,
        3.0,
        -0.99,
        20.0,
        -20.0,
        88.0,
        -88.0,
        1e4,
        -1e4,
        3e38,
        -3e38,
        np.inf,
        -np.inf,
        np.nan,
    ],
    np.float32,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


def test_every_operator_has_backend_cases() -> None:
    assert {case.model.graph.node[0].op_type for case in CASES} >= {*UNARY, *OTHERS} - {"Not"}


@pytest.mark.parametrize("op_type", sorted(UNARY))
def test_unary_on_special_values(op_type: str) -> None:
    # onnxruntime's vectorized sine, cosine and tangent lose the digits of large arguments.
    check_node(
        op_type, [SPECIAL], opset=21, tolerance=(2e-6, 1e-7), onnxruntime=op_type not in ("Sin", "Cos", "Tan")
    )
    if op_type in ("Sin", "Cos", "Tan"):
        moderate = SPECIAL[np.isfinite(SPECIAL) & (np.abs(SPECIAL) < 100)]
        check_node(op_type, [moderate], opset=21, tolerance=(2e-5, 1e-6))


@pytest.mark.parametrize("op_type", sorted(UNARY))
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_unary_of_other_floats(op_type: str, dtype: type) -> None:
    x = np.linspace(-0.9, 0.9, 37).astype(dtype).reshape(1, 37)
    # The reference computes erf in float32 whatever the type.
    check_node(
        op_type, [x], opset=13, tolerance=(1e-7, 1e-8) if (op_type, dtype) == ("Erf", np.float64) else None
    )


@pytest.mark.parametrize("op_type", sorted(UNARY))
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_unary_of_nothing_and_of_scalars(op_type: str, shape: tuple[int, ...]) -> None:
    check_node(op_type, [np.ones(shape, np.float32)], opset=13)


@pytest.mark.parametrize("op_type", sorted(UNARY))
def test_unary_at_the_oldest_opset(op_type: str) -> None:
    check_node(
        op_type, [np.linspace(0.1, 0.9, 9, dtype=np.float32)], opset=max(UNARY[op_type], 7), symbolic=True
    )


@pytest.mark.parametrize("op_type", ["Abs", "Neg", "Sign"])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_unary_of_integers(op_type: str, dtype: type) -> None:
    info = np.iinfo(dtype)
    check_node(op_type, [np.array([0, 1, -1, info.max, info.min + 1], dtype)], opset=13)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint32])
@pytest.mark.parametrize("opset", [9, 13])
def test_error_function_of_integers(dtype: type, opset: int) -> None:
    """In f32, where the function reaches its limit at 4; onnxruntime has floats alone."""
    x = np.array([0, 1, 3, 4, 100]).astype(dtype)
    (y,) = check_native_node("Erf", [x], opset=opset, onnxruntime=False)
    assert y.tolist() == [0, 0, 0, 1, 1]


ARITHMETIC = ["Add", "Sub", "Mul", "Div"]
PAIRS = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize("op_type", [*ARITHMETIC, "Pow", "Max", "Min"])
def test_pairs_of_special_values(op_type: str) -> None:
    left, right = PAIRS[:, None], PAIRS[None]
    if op_type in ("Max", "Min"):
        check_node(op_type, [left, right], opset=13)
    else:
        check_node(op_type, [left, right], opset=13, tolerance=(1e-6, 0))


@pytest.mark.parametrize("op_type", [*ARITHMETIC, "Pow", "Equal", "Less", "Greater"])
@pytest.mark.parametrize("opset", [7, 9, 13, 21])
@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((2, 3), ()), ((3,), (2, 1)), ((1, 4), (3, 1)), ((0, 3), (1,))]
)
def test_broadcasting(op_type: str, opset: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    # Equal of floats came with opset 11.
    dtype = np.int32 if op_type == "Equal" and opset < 11 else np.float32
    left, right = (np.arange(1, math.prod(shape) + 1).reshape(shape).astype(dtype) for shape in shapes)
    check_node(op_type, [left, right], opset=opset, tolerance=(1e-6, 0))


@given(npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0))
@settings(max_examples=25, deadline=None)
def test_symbolic_operands_broadcast(shapes: npst.BroadcastableShapes) -> None:
    left, right = (
        np.arange(math.prod(shape), dtype=np.float32).reshape(shape) for shape in shapes.input_shapes
    )
    check_node("Add", [left, right], opset=14, symbolic=True, onnxruntime=False)


def test_symbolic_operands_that_do_not_broadcast_are_refused() -> None:
    x, y = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    graph = import_model(one_node_model("Add", [x, y], symbolic=True)).graph
    with pytest.raises(InputError, match="do not broadcast"):
        evaluate(graph, {"x0": x, "x1": np.ones((3, 1), np.float32)})


def test_known_operands_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ModelError, match="do not broadcast"):
        import_model(one_node_model("Mul", [np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)]))


@pytest.mark.parametrize("op_type", [*ARITHMETIC, "Max", "Min"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64, np.float64, np.float16])
def test_arithmetic_of_all_types(op_type: str, dtype: type) -> None:
    left = np.array([7, 100, 3, 200, 9], dtype)
    right = np.array([2, 7, 3, 9, 10], dtype)
    check_node(op_type, [left, right], opset=14)
    if np.dtype(dtype).kind in "if":
        check_node(op_type, [-left, right], opset=14)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.uint16])
def test_arithmetic_of_narrow_integers(dtype: type) -> None:
    left, right = np.array([100, 7, 50], dtype), np.array([100, 2, 3], dtype)
    for op_type in ARITHMETIC:
        check_node(op_type, [left, right], opset=14)


@pytest.mark.parametrize(
    ("base", "exponent"),
    [
        (np.float32, np.float32),
        (np.float32, np.int32),
        (np.float32, np.int64),
        (np.int32, np.float32),
        (np.int32, np.int32),
        (np.int64, np.int64),
        (np.int64, np.float64),
        (np.float64, np.float32),
        (np.float16, np.float16),
        (np.int32, np.int64),
        (np.float32, np.float64),
    ],
)
@pytest.mark.parametrize("opset", [12, 13, 15])
def test_power_of_mixed_types(base: type, exponent: type, opset: int) -> None:
    x, y = np.array([1, 2, 3, 5], base), np.array([[0, 1, 2, 3], [4, 3, 2, 1]], exponent)
    check_node("Pow", [x, y], opset=opset)


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_modulo_of_integers(fmod: int, dtype: type) -> None:
    numbers = np.array([0, 1, 2, 3, 7, 100], dtype)
    left, right = numbers[:, None], numbers[1:]
    check_node("Mod", [left, right], attributes={"fmod": fmod}, opset=13)
    if np.dtype(dtype).kind == "i":
        check_node("Mod", [-left, right], attributes={"fmod": fmod}, opset=13)
        check_node("Mod", [left, -right], attributes={"fmod": fmod}, opset=13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_modulo_of_floats(dtype: type) -> None:
    x = np.array([5.5, -5.5, 0.25, -7.0], dtype)
    y = np.array([[2.0], [-2.0], [0.3], [np.inf]], dtype)
    check_node("Mod", [x, y], attributes={"fmod": 1}, opset=13)
    # Opset 28 defines the floored remainder of floats; the older standard asks for fmod=1.
    check_node("Mod", [x, y], attributes={"fmod": 0}, opset=28)
    with pytest.raises(ModelError, match="'fmod' must be 1"):
        import_model(one_node_model("Mod", [x, y], opset=27))


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_shifts(direction: str, dtype: type) -> None:
    x = np.array([0, 1, 2, 200, 255], dtype)
    check_node("BitShift", [x, np.arange(5).astype(dtype)], attributes={"direction": direction}, opset=11)


def test_shifts_of_signed_integers_and_by_too_much() -> None:
    x, by = np.array([-8, -8, 8, -1, 1], np.int32), np.array([1, 32, 40, -1, 31], np.int32)

    def shifted(direction: str) -> list[int]:
        model = one_node_model("BitShift", [x, by], attributes={"direction": direction}, opset=28)
        return run_evaluator(model, {"x0": x, "x1": by})[0].tolist()

    # Opset 28's words: an amount that is negative or not less than the bits leaves the extension of the sign.
    assert shifted("RIGHT") == [-4, -1, 0, -1, 0]
    assert shifted("LEFT") == [-16, 0, 0, 0, -(2**31)]


def test_a_direction_is_left_or_right() -> None:
    x = np.ones(1, np.uint8)
    with pytest.raises(ModelError, match="LEFT or RIGHT"):
        import_model(one_node_model("BitShift", [x, x], attributes={"direction": "UP"}, opset=11))
    with pytest.raises(ModelError, match="'direction' is missing"):
        import_model(one_node_model("BitShift", [x, x], opset=11))


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor"])
@pytest.mark.parametrize("opset", [7, 21])
def test_logical(op_type: str, opset: int) -> None:
    check_node(op_type, [np.array([[False], [True]]), np.array([False, True])], opset=opset)
    check_node("Not", [np.array([[False, True]])], opset=opset)


@pytest.mark.parametrize("op_type", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint64])
def test_bitwise(op_type: str, dtype: type) -> None:
    x = np.array([0, 1, 5, 100, 127], dtype)
    check_node(op_type, [x[:, None], x], opset=18)
    check_node("BitwiseNot", [x], opset=18)


@pytest.mark.parametrize(
    ("op_type", "since"),
    [("Equal", 11), ("Less", 7), ("LessOrEqual", 12), ("Greater", 7), ("GreaterOrEqual", 12)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int64])
def test_comparisons(op_type: str, since: int, dtype: type) -> None:
    numbers = [-1, 0, 1, 2] + ([math.nan, math.inf, -0.0] if np.dtype(dtype).kind == "f" else [])
    x = np.array(numbers, dtype)
    for opset in {since, 13, 19}:
        if np.dtype(dtype).kind == "i" and opset < 9:
            continue  # integers came with opset 9
        check_node(op_type, [x[:, None], x], opset=opset)


def test_equality_of_strings_and_bools() -> None:
    x, y = np.array(["a", "b"], dtype=object), np.array(["a", "c"], dtype=object)
    assert check_node("Equal", [x, y], opset=19)[0].tolist() == [True, False]
    check_node("Equal", [np.array([True, False]), np.array([True, True])], opset=7)


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("opset", [7, 8, 13])
def test_variadic(op_type: str, count: int, opset: int) -> None:
    rng = np.random.default_rng(count)
    shapes: list[tuple[int, ...]] = (
        [(2, 3)] * count if opset < 8 else [(2, 3), (3,), (), (2, 1), (1, 1, 3)][:count]
    )
    operands = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    # The reference's Mean adds in place, which cannot broadcast the first operand.
    check_node(op_type, operands, opset=opset, reference=op_type != "Mean" or opset < 8)


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_variadic_operators_do_not_broadcast_before_opset_8(op_type: str, symbolic: bool) -> None:
    operands = [np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)]
    model = one_node_model(op_type, operands, opset=7, symbolic=symbolic)
    with pytest.raises((ModelError, InputError), match=r"axis 1 of operand 1|is needed"):
        run_evaluator(model, {"x0": operands[0], "x1": operands[1]})


@pytest.mark.parametrize("op_type", ["Max", "Min"])
@pytest.mark.parametrize("dtype", [np.int32, np.uint64, np.float16])
def test_variadic_of_other_types(op_type: str, dtype: type) -> None:
    check_node(op_type, [np.array([1, 5, 3], dtype), np.array([4, 2, 6], dtype)], opset=13)


def test_no_operand_is_not_enough() -> None:
    with pytest.raises(ModelError, match="operand 0 is missing"):
        import_model(one_node_model("Max", []))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("opset", [9, 16])
def test_where(dtype: type, opset: int) -> None:
    x, y = np.array([1, 0, 1]).astype(dtype), np.array([[0], [1]]).astype(dtype)
    check_node("Where", [np.array([[True], [False]]), x, y], opset=opset)


def test_where_of_strings() -> None:
    text = np.array(["a", "b"], dtype=object)
    check_node("Where", [np.array([True, False]), text, text[::-1].copy()], opset=9)


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("negative", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_infinities(positive: int, negative: int, dtype: type) -> None:
    x = np.array([1, np.inf, -np.inf, np.nan], dtype)
    attributes = {"detect_positive": positive, "detect_negative": negative}
    check_node("IsInf", [x], attributes=attributes, opset=20)
    check_node("IsNaN", [x], opset=20)


CLIPPED = np.array([-5.0, -1.0, -0.0, 0.5, 3.0, np.nan], np.float32)


@pytest.mark.parametrize("attributes", [{}, {"min": 0.0}, {"max": 1.0}, {"min": -1.0, "max": 0.25}])
@pytest.mark.parametrize("opset", [7, 10])
def test_clip_by_attributes(attributes: dict[str, float], opset: int) -> None:
    check_node("Clip", [CLIPPED], attributes=attributes, opset=opset)


@pytest.mark.parametrize("opset", [11, 12, 13, 21])
@pytest.mark.parametrize("constants", [(), (1,), (1, 2)])
@pytest.mark.parametrize("bounds", [(None, None), (0.0, None), (None, 1.0), (-1.0, 0.25), (2.0, -2.0)])
def test_clip_by_operands(opset: int, constants: tuple[int, ...], bounds: tuple[float | None, ...]) -> None:
    low, high = (None if bound is None else np.float32(bound) for bound in bounds)
    inputs = [CLIPPED, None if low is None else np.asarray(low), None if high is None else np.asarray(high)]
    present = tuple(index for index in constants if inputs[index] is not None)
    check_node("Clip", inputs, opset=opset, constants=present)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, np.float64, np.float16])
def test_clip_of_other_types(dtype: type) -> None:
    x = np.array([0, 1, 5, 100], dtype)
    for constants in ((), (1, 2)):
        check_node("Clip", [x, np.array(1, dtype), np.array(50, dtype)], opset=13, constants=constants)


def test_clip_without_a_bound_ends_at_the_largest_finite_number() -> None:
    # The standard's default, and what onnxruntime does; the reference leaves infinities alone.
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    got = check_node("Clip", [x, np.array(0, np.float32), None], opset=13, constants=(1,), reference=False)[0]
    np.testing.assert_array_equal(got, np.array([np.finfo(np.float32).max, 0, np.nan], np.float32))


def test_clip_keeps_constant_bounds_in_the_operator() -> None:
    model = one_node_model(
        "Clip", [CLIPPED, np.float32([0]), np.array(6, np.float32)], opset=13, constants=(1, 2)
    )
    (node,) = import_model(model).graph.nodes
    assert node.op == Clip(0.0, 6.0)
    model = one_node_model(
        "Clip", [CLIPPED, np.array(0, np.float32), np.array(6, np.float32)], opset=13, constants=(1,)
    )
    assert [node.op for node in import_model(model).graph.nodes] == [Binary("max"), Binary("min")]


@pytest.mark.parametrize("bound", [np.zeros(2, np.float32), np.zeros((), np.float64)])
def test_clip_bounds_are_scalars_of_the_same_type(bound: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ModelError, match="operand 1 must be"):
        import_model(one_node_model("Clip", [CLIPPED, bound, None], opset=13))


@pytest.mark.parametrize("op_type", ARITHMETIC)
def test_bfloat16(op_type: str) -> None:
    x = np.array([1, 2.5, -3, 0.1]).astype(ml_dtypes.bfloat16)
    check_node(op_type, [x, x[::-1].copy()], opset=14)
