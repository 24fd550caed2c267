"""Operators that draw random numbers: shapes, types, distributions, seeds, and the native code."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlc.errors import ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import assert_close, run_native
from tests.helpers.onnx_cases import Array, check_node, feeds_of, one_node_model, run_evaluator

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
#: So many standard deviations a statistic may be off; keys are fixed, so that a test passes always or never.
DEVIATIONS = 5


def code(dtype: Any) -> int:
    """The ONNX number of an element type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def draw(
    op_type: str, inputs: list[Array | None], outputs: int = 1, opset: int = 22, **attributes: Any
) -> list[Array]:
    """The outputs of one node, on whose values the evaluator and the native code agree."""
    model = one_node_model(op_type, inputs, outputs, attributes, opset)
    feeds = feeds_of(model, inputs)
    results = run_evaluator(model, feeds)
    for index, (native, wanted) in enumerate(zip(run_native(model, feeds), results, strict=True)):
        assert_close(f"output {index}", native, wanted, Work.POINTWISE, 0)
    return results


def wide(array: Array) -> Array:
    """The numbers in float64."""
    return array.astype(np.float64)


def assert_moments(array: Array, mean: float, variance: float, kurtosis: float) -> None:
    """Mean and variance are those of a distribution, up to chance."""
    x = wide(array)
    assert abs(x.mean() - mean) < DEVIATIONS * np.sqrt(variance / x.size)
    assert abs(x.var() - variance) < DEVIATIONS * variance * np.sqrt((kurtosis - 1) / x.size)


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform(dtype: Any) -> None:
    (x,) = draw("RandomUniform", [], shape=[100, 200], dtype=code(dtype), low=-2.0, high=6.0)
    assert x.shape == (100, 200) and x.dtype == dtype
    assert -2 <= wide(x).min() < -1.9 and 5.9 < wide(x).max() <= 6
    # Few bits are rounded down: the mean of bfloat16 is half a step of 1/256 too low.
    step = 8 * 2.0**-8 if dtype == ml_dtypes.bfloat16 else 0
    assert_moments(wide(x) + step / 2, 2, 64 / 12, 1.8)
    (unit,) = draw("RandomUniform", [], shape=[20_000], dtype=code(dtype))
    assert wide(unit).min() >= 0 and wide(unit).max() < 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal(dtype: Any) -> None:
    (x,) = draw("RandomNormal", [], shape=[200, 300], dtype=code(dtype), mean=1.0, scale=3.0, seed=5.0)
    assert x.shape == (200, 300) and x.dtype == dtype
    assert_moments(x, 1, 9, 3)
    z = (wide(x) - 1) / 3
    for bound, share in ((1, 0.682689), (2, 0.954500), (3, 0.997300)):
        inside = (np.abs(z) < bound).mean()
        assert abs(inside - share) < DEVIATIONS * np.sqrt(share * (1 - share) / z.size) + 2e-3
    assert abs((z**3).mean()) < DEVIATIONS * np.sqrt(15 / z.size)


@pytest.mark.parametrize("op_type", ["RandomUniformLike", "RandomNormalLike"])
def test_like_an_operand(op_type: str) -> None:
    for dtype in FLOATS:
        (x,) = draw(op_type, [np.zeros((3, 4), dtype)])
        assert x.shape == (3, 4) and x.dtype == dtype
    (x,) = draw(op_type, [np.zeros((2, 5), np.int32)], dtype=code(np.float64))
    assert x.shape == (2, 5) and x.dtype == np.float64
    for shape in ((), (0, 3)):
        (x,) = draw(op_type, [np.zeros(shape, np.float32)])
        assert x.shape == shape
    model = one_node_model(op_type, [np.zeros((3, 4), np.float32)], opset=22, symbolic=True)
    feeds = {"x0": np.zeros((3, 4), np.float32)}
    (fixed,) = draw(op_type, [np.zeros((3, 4), np.float32)])
    for (x,) in (run_evaluator(model, feeds), run_native(model, feeds)):
        np.testing.assert_allclose(x, fixed, rtol=1e-6)
    with pytest.raises(ModelError, match="floating-point numbers, not i32"):
        import_model(one_node_model(op_type, [np.zeros(3, np.int32)], opset=22))


def test_default_type_is_float() -> None:
    for op_type in ("RandomUniform", "RandomNormal"):
        assert draw(op_type, [], shape=[2, 3], opset=1)[0].dtype == np.float32
        with pytest.raises(ModelError, match="negative extent"):
            import_model(one_node_model(op_type, [], attributes={"shape": [-1]}, opset=1))


def two_nodes(first: dict[str, Any], second: dict[str, Any]) -> list[Array]:
    """The outputs of two RandomUniform of eight numbers in one model."""
    nodes = [
        helper.make_node("RandomUniform", [], [name], shape=[8], name="same", **attributes)
        for name, attributes in (("a", first), ("b", second))
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in ("a", "b")]
    graph = helper.make_graph(nodes, "g", [], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    results = run_native(model, {})
    for again in (run_native(model, {}), run_evaluator(model, {})):
        for left, right in zip(results, again, strict=True):
            np.testing.assert_array_equal(left, right)
    return results


def test_seeds() -> None:
    a, b = two_nodes({"seed": 1.5}, {"seed": 1.5})
    np.testing.assert_array_equal(a, b)
    c, d = two_nodes({"seed": 1.5}, {"seed": 2.5})
    np.testing.assert_array_equal(a, c)
    e, f = two_nodes({}, {})
    assert len(np.unique([a, d, e, f])) == 4 * 8


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("to", [None, np.bool_, np.int32, np.float64, np.uint8])
def test_bernoulli(dtype: Any, to: Any) -> None:
    p = np.repeat(np.linspace(0, 1, 9), 5000).reshape(9, 5000).astype(dtype)
    (x,) = draw("Bernoulli", [p], **({} if to is None else {"dtype": code(to)}))
    assert x.shape == p.shape and x.dtype == (to or dtype)
    assert set(np.unique(wide(x))) == {0, 1}
    share, wanted = wide(x).mean(1), wide(p[:, 0])
    assert share[0] == 0 and share[-1] == 1
    assert (np.abs(share - wanted) <= DEVIATIONS * np.sqrt(wanted * (1 - wanted) / 5000)).all()
    (again,) = draw("Bernoulli", [p], seed=3.0)
    assert (wide(again) != wide(x)).any()


def test_bernoulli_refuses() -> None:
    with pytest.raises(ModelError, match="from i32"):
        import_model(one_node_model("Bernoulli", [np.zeros(3, np.int32)], opset=15))
    with pytest.raises(ModelError, match="draws of type string"):
        import_model(
            one_node_model("Bernoulli", [np.zeros(3, np.float32)], attributes={"dtype": 8}, opset=15)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("to", [None, np.int64])
def test_multinomial(dtype: Any, to: Any) -> None:
    with np.errstate(divide="ignore"):
        rows = np.log(np.array([[0, 0.1, 0.2, 0.3, 0.4, 0], [7, 7, 7, 7, 7, 7], [0, 0, 5, 0, 0, 0]]))
    rows = rows.astype(dtype)
    attributes = {} if to is None else {"dtype": code(to)}
    (x,) = draw("Multinomial", [rows], sample_size=5000, **attributes)
    assert x.shape == (3, 5000) and x.dtype == (to or np.int32)
    weights = np.exp(wide(rows))
    wanted = weights / weights.sum(1, keepdims=True)
    share = np.array([np.bincount(row, minlength=6) for row in x]) / 5000
    assert ((share == 0) == (wanted == 0)).all()
    assert (np.abs(share - wanted) <= DEVIATIONS * np.sqrt(wanted * (1 - wanted) / 5000)).all()


def test_multinomial_of_one_sample_and_what_it_refuses() -> None:
    rows = np.zeros((4, 3), np.float32)
    assert draw("Multinomial", [rows], opset=7, seed=1.0)[0].shape == (4, 1)
    for inputs, attributes, message in (
        ([rows[0]], {}, "a matrix"),
        ([rows[:, :0]], {}, "classes to draw from"),
        ([rows], {"sample_size": 0}, "0 samples"),
        ([rows], {"dtype": 1}, "of type f32"),
    ):
        with pytest.raises(ModelError, match=message):
            import_model(one_node_model("Multinomial", inputs, attributes=attributes, opset=22))


# --- Dropout


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("opset", [1, 6, 7, 10])
def test_dropout_in_inference_by_attribute(outputs: int, opset: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    attributes = {"ratio": 0.4, **({"is_test": 1} if opset < 7 else {})}
    y, *mask = draw("Dropout", [x], outputs, opset, **attributes)
    np.testing.assert_array_equal(y, x)
    for ones in mask:
        assert ones.dtype == (np.float32 if opset < 10 else np.bool_)
        np.testing.assert_array_equal(ones, np.ones((2, 3)))


@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("opset", [12, 13, 22])
def test_dropout_in_inference_by_operand(symbolic: bool, opset: int) -> None:
    x, ratio, training = np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(0.3), np.array(False)
    for inputs, constants in (
        ([x], ()),
        ([x, ratio], ()),
        ([x, ratio, training], (1, 2)),
        ([x, ratio, training], ()),
    ):
        check_node("Dropout", inputs, 2, opset=opset, constants=constants, symbolic=symbolic)
    nothing = [x, np.float32(0), np.array(True)]
    for constants in ((), (1, 2)):
        check_node("Dropout", nothing, 2, opset=opset, constants=constants, symbolic=symbolic)


def assert_dropped(x: Array, y: Array, mask: Array, ratio: float) -> None:
    """y is x, scaled up where the mask is set and 0 elsewhere; the mask is set as often as it should be."""
    kept = mask.astype(np.bool_)
    relative = 2 * float(ml_dtypes.finfo(x.dtype).eps)
    np.testing.assert_allclose(wide(y), np.where(kept, wide(x) / (1 - ratio), 0), rtol=relative)
    assert abs(kept.mean() - (1 - ratio)) <= DEVIATIONS * np.sqrt(ratio * (1 - ratio) / x.size)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ratio", [None, 0.25, 0.9])
@pytest.mark.parametrize("constants", [(), (1, 2), (2,)])
def test_dropout_in_training(dtype: Any, ratio: float | None, constants: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((100, 50)).astype(dtype)
    inputs = [x, None if ratio is None else np.array(ratio, np.float32), np.array(True)]
    model = one_node_model(
        "Dropout", inputs, 2, opset=22, constants=[c for c in constants if inputs[c] is not None]
    )
    feeds = feeds_of(model, inputs)
    for y, mask in (run_evaluator(model, feeds), run_native(model, feeds)):
        assert y.dtype == dtype and mask.dtype == np.bool_
        assert_dropped(x, y, mask, 0.5 if ratio is None else float(np.float32(ratio)))


@pytest.mark.parametrize("opset", [1, 6])
def test_dropout_in_training_by_attribute(opset: int) -> None:
    x = np.random.default_rng(0).standard_normal((100, 50)).astype(np.float32)
    y, mask = draw("Dropout", [x], 2, opset, ratio=0.25)
    assert mask.dtype == np.float32
    assert_dropped(x, y, mask, 0.25)


def test_dropout_decides_at_run_time() -> None:
    x = np.ones(1000, np.float32)
    model = one_node_model("Dropout", [x, np.float32(0.5), np.array(True)], 2, {"seed": 7}, 13)
    for training in (False, True):
        feeds = {"x0": x, "x1": np.float32(0.5), "x2": np.array(training)}
        for y, mask in (run_evaluator(model, feeds), run_native(model, feeds)):
            assert mask.all() != training
            np.testing.assert_array_equal(y, np.where(mask, 2.0 if training else 1.0, 0))


def test_dropout_with_seeds() -> None:
    x, on = np.ones(100, np.float32), np.array(True)
    masks = [draw("Dropout", [x, None, on], 2, 22, seed=seed)[1] for seed in (1, 1, 2, -1, 1 << 40)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert len({mask.tobytes() for mask in masks}) == 4


@pytest.mark.parametrize("ratio", [1.0, -0.5, float("nan")])
def test_dropout_of_an_impossible_ratio(ratio: float) -> None:
    inputs = [np.ones(3, np.float32), np.float32(ratio), np.array(True)]
    with pytest.raises(ModelError, match=r"in \[0, 1\)"):
        import_model(one_node_model("Dropout", inputs, opset=13, constants=(1, 2)))


# --- loops


def value(name: str, kind: int, shape: list[int | None]) -> onnx.ValueInfoProto:
    """A typed name of a graph."""
    return helper.make_tensor_value_info(name, kind, shape)


def test_iterations_of_nested_loops_draw_different_numbers() -> None:
    number, truth, real = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
    inner = helper.make_graph(
        [
            helper.make_node("RandomUniform", [], ["x"], shape=[2]),
            helper.make_node("Identity", ["c"], ["d"]),
        ],
        "inner",
        [value("i", number, []), value("c", truth, [])],
        [value("d", truth, []), value("x", real, [2])],
    )
    outer = helper.make_graph(
        [
            helper.make_node("RandomUniform", [], ["y"], shape=[2]),
            helper.make_node("Loop", ["n", ""], ["z"], body=inner),
            helper.make_node("Identity", ["c2"], ["d2"]),
        ],
        "outer",
        [value("i2", number, []), value("c2", truth, [])],
        [value("d2", truth, []), value("y", real, [2]), value("z", real, [None, 2])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", ""], ["a", "b"], body=outer)],
        "g",
        [value("n", number, [])],
        [value("a", real, [None, 2]), value("b", real, [None, None, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    feeds = {"n": np.array(4)}
    results = run_evaluator(model, feeds)
    assert [array.shape for array in results] == [(4, 2), (4, 4, 2)]
    numbers = np.concatenate([array.reshape(-1) for array in results])
    assert len(np.unique(numbers)) == len(numbers) == 40
    for native, wanted in zip(run_native(model, feeds), results, strict=True):
        np.testing.assert_array_equal(native, wanted)
