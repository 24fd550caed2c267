"""Softmax and the normalizations against the ONNX reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import InputError, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.ops.normalization import GroupNorm, LayerNorm, Softmax
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    one_node_model,
    run_evaluator,
)

ALONG_AXIS = ["Softmax", "LogSoftmax", "Hardmax"]
NORMALIZATIONS = {
    "LayerNormalization",
    "RMSNormalization",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LpNormalization",
    "LRN",
    "MeanVarianceNormalization",
}
CASES = backend_node_cases({*ALONG_AXIS, *NORMALIZATIONS})
TOLERANCE = (1e-5, 2e-6)


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


def test_every_operator_has_backend_cases() -> None:
    assert {case.model.graph.node[0].op_type for case in CASES} == {*ALONG_AXIS, *NORMALIZATIONS}


@pytest.mark.parametrize("op_type", ALONG_AXIS)
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
@pytest.mark.parametrize("opset", [7, 11, 13, 21])
def test_softmax(op_type: str, axis: int | None, opset: int) -> None:
    if axis is not None and axis < 0 and opset < 11:
        return  # negative axes came with opset 11
    x = draw(2, 3, 4)
    # The reference knows only the meaning of opset 13, which onnxruntime has at all of them.
    for symbolic in (False, True):
        check_node(
            op_type, [x], attributes={"axis": axis}, opset=opset, reference=opset >= 13, symbolic=symbolic
        )


@pytest.mark.parametrize("op_type", ALONG_AXIS)
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_softmax_of_other_types(op_type: str, dtype: type) -> None:
    # Before rounding once, the reference rounds f16 at every step.
    check_node(
        op_type, [draw(3, 50, dtype=dtype)], opset=13, tolerance=(5e-3, 4e-3) if dtype is np.float16 else None
    )


@pytest.mark.parametrize("op_type", ALONG_AXIS)
@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_softmax_of_nothing(op_type: str, shape: tuple[int, ...]) -> None:
    model = one_node_model(op_type, [np.zeros(shape, np.float32)], opset=13)
    assert run_evaluator(model, {"x0": np.zeros(shape, np.float32)})[0].shape == shape


def test_softmax_of_special_values() -> None:
    x = np.array(
        [[-np.inf, 0, 1], [np.nan, 0, 1], [np.inf, 0, 1], [1e38, -1e38, 0], [-200, 0, -90]], np.float32
    )
    for op_type in ("Softmax", "LogSoftmax"):
        # The reference takes the logarithm of what has underflown.
        check_node(op_type, [x], opset=13, reference=op_type == "Softmax")


def test_hardmax_takes_the_first_of_equal_elements() -> None:
    x = np.array([[3, 1, 3, 3], [0, 0, 0, 0]], np.float32)
    (y,) = check_node("Hardmax", [x], opset=13)
    assert y.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]


def test_softmax_along_the_last_axis_needs_no_reshape() -> None:
    for opset, attributes in ((11, {"axis": 2}), (11, {"axis": -1}), (13, {})):
        (node,) = import_model(
            one_node_model("Softmax", [draw(2, 3, 4)], attributes=attributes, opset=opset)
        ).graph.nodes
        assert node.op == Softmax(2)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis: int | None, outputs: int, bias: bool) -> None:
    x = draw(2, 3, 4)
    shape = x.shape[-1 if axis is None else axis :]
    inputs = [x, draw(*shape, seed=1), *([draw(*shape, seed=2)] if bias else [])]
    for symbolic in (False, True):
        check_node(
            "LayerNormalization",
            inputs,
            outputs,
            {"axis": axis, "epsilon": 1e-3},
            17,
            tolerance=TOLERANCE,
            symbolic=symbolic,
        )


def test_layer_normalization_of_doubles_and_halves() -> None:
    for dtype in (np.float64, np.float16):
        inputs = [draw(2, 8, dtype=dtype), draw(8, seed=1, dtype=dtype), draw(8, seed=2, dtype=dtype)]
        # The judges compute doubles in float32, the default stash_type.
        check_node(
            "LayerNormalization",
            inputs,
            opset=17,
            tolerance=(5e-3, 5e-3) if dtype is np.float16 else TOLERANCE,
        )
    statistics = run_evaluator(
        one_node_model("LayerNormalization", inputs, 3, opset=17),
        {f"x{index}": array for index, array in enumerate(inputs)},
    )
    assert [array.dtype for array in statistics] == [np.float16, np.float32, np.float32]


def test_the_unwanted_statistics_are_not_computed() -> None:
    inputs = [draw(2, 3), draw(3)]
    (node,) = import_model(one_node_model("LayerNormalization", inputs, ["y0", "", ""], opset=17)).graph.nodes
    assert isinstance(node.op, LayerNorm) and not node.op.statistics


def test_statistics_in_double_of_a_narrower_tensor_are_refused() -> None:
    inputs = [draw(2, 3), draw(3)]
    with pytest.raises(UnsupportedError, match="statistics in float64"):
        import_model(one_node_model("LayerNormalization", inputs, attributes={"stash_type": 11}, opset=17))
    with pytest.raises(ModelError, match="'stash_type' must name a floating-point type"):
        import_model(one_node_model("LayerNormalization", inputs, attributes={"stash_type": 7}, opset=17))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_rms_normalization(axis: int | None) -> None:
    x = draw(2, 3, 4)
    inputs = [x, draw(*x.shape[-1 if axis is None else axis :], seed=1)]
    check_node(
        "RMSNormalization", inputs, attributes={"axis": axis, "epsilon": 1e-3}, opset=23, tolerance=TOLERANCE
    )


@pytest.mark.parametrize("op_type", ["LayerNormalization", "RMSNormalization"])
def test_scales_that_do_not_broadcast_are_refused(op_type: str) -> None:
    inputs = [draw(2, 3), draw(4)]
    with pytest.raises(ModelError, match="does not broadcast"):
        import_model(one_node_model(op_type, inputs, opset=23))
    graph = import_model(one_node_model(op_type, inputs, opset=23, symbolic=True)).graph
    with pytest.raises(InputError, match="does not broadcast"):
        evaluate(graph, {"x0": inputs[0], "x1": inputs[1]})


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 2, 2)])
@pytest.mark.parametrize("opset", [7, 22])
def test_instance_normalization(shape: tuple[int, ...], opset: int) -> None:
    inputs = [draw(*shape), draw(3, seed=1), draw(3, seed=2)]
    check_node(
        "InstanceNormalization", inputs, attributes={"epsilon": 1e-2}, opset=opset, tolerance=TOLERANCE
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 3, 2)])
def test_group_normalization(groups: int, shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    attributes = {"num_groups": groups, "epsilon": 1e-2}
    # Opset 18 has a scale a group, 21 a scale a channel.
    check_node(
        "GroupNormalization",
        [x, draw(groups, seed=1), draw(groups, seed=2)],
        attributes=attributes,
        opset=18,
        tolerance=TOLERANCE,
    )
    check_node(
        "GroupNormalization",
        [x, draw(4, seed=1), draw(4, seed=2)],
        attributes=attributes,
        opset=21,
        tolerance=TOLERANCE,
    )


def test_scales_a_group_and_a_channel_agree() -> None:
    x, scale, bias = draw(2, 6, 5), draw(3, seed=1), draw(3, seed=2)
    for symbolic in (False, True):
        groups = one_node_model(
            "GroupNormalization", [x, scale, bias], attributes={"num_groups": 3}, opset=18, symbolic=symbolic
        )
        wide = [x, np.repeat(scale, 2), np.repeat(bias, 2)]
        channels = one_node_model("GroupNormalization", wide, attributes={"num_groups": 3}, opset=21)
        (a,) = run_evaluator(groups, {"x0": x, "x1": scale, "x2": bias})
        (b,) = run_evaluator(channels, {f"x{index}": array for index, array in enumerate(wide)})
        np.testing.assert_array_equal(a, b)


def test_channels_that_do_not_divide_are_refused() -> None:
    inputs = [draw(2, 5, 3), draw(5), draw(5)]
    with pytest.raises(ModelError, match="5 channels do not divide into 2 groups"):
        import_model(one_node_model("GroupNormalization", inputs, attributes={"num_groups": 2}, opset=21))
    with pytest.raises(ModelError, match="do not divide into 0 groups"):
        import_model(one_node_model("GroupNormalization", inputs, attributes={"num_groups": 0}, opset=21))
    model = one_node_model(
        "GroupNormalization", inputs, attributes={"num_groups": 2}, opset=21, symbolic=True
    )
    graph = import_model(model).graph
    assert isinstance(graph.nodes[-1].op, GroupNorm)
    with pytest.raises(InputError, match="do not divide"):
        evaluate(graph, {f"x{index}": array for index, array in enumerate(inputs)})


@pytest.mark.parametrize("op_type", ["BatchNormalization", "InstanceNormalization"])
def test_vectors_of_another_number_of_channels_are_refused(op_type: str) -> None:
    count = 5 if op_type == "BatchNormalization" else 3
    inputs = [draw(2, 3, 4), *[draw(4)] * (count - 1)]
    with pytest.raises(ModelError, match="number of channels must be equal"):
        import_model(one_node_model(op_type, inputs, opset=15))
    graph = import_model(one_node_model(op_type, inputs, opset=15, symbolic=True)).graph
    with pytest.raises(InputError, match="must be equal"):
        evaluate(graph, {f"x{index}": array for index, array in enumerate(inputs)})


@pytest.mark.parametrize("p", [None, 1, 2])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_lp_normalization(p: int | None, axis: int | None) -> None:
    x = draw(3, 4)
    x[1] = 0
    for opset in (7, 22):
        # The reference's 1-norm adds the numbers, not their magnitudes; onnxruntime knows opset 1 and 22.
        check_node(
            "LpNormalization",
            [x],
            attributes={"p": p, "axis": axis},
            opset=opset,
            tolerance=TOLERANCE,
            reference=p != 1,
        )


def test_only_two_norms_exist() -> None:
    with pytest.raises(ModelError, match="'p' must be 1 or 2"):
        import_model(one_node_model("LpNormalization", [draw(2, 2)], attributes={"p": 3}))


@pytest.mark.parametrize("size", [1, 3, 5, 9])
@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.3, "beta": 0.5, "bias": 2.0}])
def test_lrn(size: int, attributes: dict[str, float]) -> None:
    x = draw(4, 4, 3, 2)
    # The reference visits as many channels as there are instances: they are equal here.
    check_node("LRN", [x], attributes={"size": size, **attributes}, opset=13, tolerance=TOLERANCE)


def test_lrn_of_more_channels_than_instances() -> None:
    for opset in (7, 13):
        check_node(
            "LRN",
            [draw(2, 7, 3, 2)],
            attributes={"size": 3},
            opset=opset,
            tolerance=TOLERANCE,
            reference=False,
        )


@pytest.mark.parametrize("axes", [None, [0], [1, 2], [0, 2, 3], [-1]])
@pytest.mark.parametrize("opset", [9, 13])
def test_mean_variance_normalization(axes: list[int] | None, opset: int) -> None:
    if axes == [-1] and opset < 13:
        return
    # The judges subtract squares of means from means of squares.
    check_node(
        "MeanVarianceNormalization",
        [draw(2, 3, 4, 5)],
        attributes={"axes": axes},
        opset=opset,
        tolerance=(1e-4, 1e-5),
    )


def test_mean_variance_normalization_of_halves_rounds_once() -> None:
    x = draw(2, 3, 4, 5)
    wide = run_evaluator(
        one_node_model("MeanVarianceNormalization", [x.astype(np.float16)], opset=13),
        {"x0": x.astype(np.float16)},
    )[0]
    exact = run_evaluator(
        one_node_model("MeanVarianceNormalization", [x], opset=13),
        {"x0": x.astype(np.float16).astype(np.float32)},
    )[0]
    np.testing.assert_array_equal(wide, exact.astype(np.float16))
