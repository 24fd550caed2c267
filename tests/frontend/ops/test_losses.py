"""The losses of labelled probabilities against the ONNX reference, onnxruntime and a loop over labels."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import dlc
from dlc.errors import IndexFault, ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, check_node, feeds_of, one_node_model

LOSSES = ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"]
CLASSES = 5


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Numbers of a normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def labels_of(*shape: int, ignored: int | None = None, dtype: Any = np.int64) -> Array:
    """Labels of classes, some of them `ignored`."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, CLASSES, shape)
    if ignored is not None:
        labels[rng.random(shape) < 0.3] = ignored
    return np.asarray(labels, dtype=dtype)


def loss_by_loop(
    op_type: str, x: Array, labels: Array, weights: Array | None, ignored: int | None, reduction: str
) -> list[Array]:
    """The loss, label by label in float64; for scores also the logarithms of their probabilities."""
    wide = x.astype(np.float64)
    if op_type == "SoftmaxCrossEntropyLoss":
        wide = wide - wide.max(1, keepdims=True)
        wide = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    loss, weight = np.zeros(labels.shape), np.zeros(labels.shape)
    for at in itertools.product(*map(range, labels.shape)):
        label = int(labels[at])
        if label != ignored:
            weight[at] = 1.0 if weights is None else float(weights[label])
            loss[at] = -wide[(at[0], label, *at[1:])] * weight[at]
    with np.errstate(all="ignore"):
        result = {"none": loss, "sum": loss.sum(), "mean": loss.sum() / weight.sum()}[reduction]
        results = [result, wide] if op_type == "SoftmaxCrossEntropyLoss" else [result]
        return [np.asarray(array).astype(x.dtype) for array in results]


def check_loss(
    op_type: str,
    x: Array,
    labels: Array,
    weights: Array | None = None,
    ignored: int | None = None,
    reduction: str = "mean",
    opset: int = 13,
    **options: Any,
) -> None:
    """The evaluator and the native code agree with the loop."""
    expected = loss_by_loop(op_type, x, labels, weights, ignored, reduction)
    attributes = {"reduction": reduction, "ignore_index": ignored}
    inputs = [x, labels, weights]
    check_contrib(
        op_type,
        inputs,
        Work.NORMALIZATION,
        len(expected),
        attributes,
        domain="",
        opset=opset,
        expected=expected,
        **options,
    )


@pytest.mark.parametrize("op_type", LOSSES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 2, -100, 1000])
def test_against_a_loop(op_type: str, reduction: str, weighted: bool, ignored: int | None) -> None:
    for places in ((), (3,), (2, 3)):
        x, labels = draw(4, CLASSES, *places), labels_of(4, *places, ignored=ignored)
        weights = np.abs(draw(CLASSES, seed=3)) if weighted else None
        check_loss(op_type, x, labels, weights, ignored, reduction)


@pytest.mark.parametrize("op_type", LOSSES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("opset", [12, 13, 22])
def test_as_in_other_engines(op_type: str, reduction: str, ignored: int | None, opset: int) -> None:
    inputs = [draw(4, CLASSES, 3), labels_of(4, 3, ignored=ignored), np.abs(draw(CLASSES, seed=3))]
    attributes = {"reduction": reduction, "ignore_index": ignored}
    for symbolic in (False, True):
        check_node(op_type, inputs, attributes=attributes, opset=opset, symbolic=symbolic)


@pytest.mark.parametrize("op_type", LOSSES)
@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_other_types(op_type: str, dtype: Any, index: Any) -> None:
    x, labels = draw(4, CLASSES, 3, dtype=dtype), labels_of(4, 3, ignored=-1, dtype=index)
    weights = np.abs(draw(CLASSES, seed=3)).astype(dtype)
    for reduction in ("none", "mean"):
        check_loss(op_type, x, labels, weights, -1, reduction, opset=22)


@pytest.mark.parametrize("op_type", LOSSES)
def test_symbolic_extents(op_type: str) -> None:
    x, labels = draw(4, CLASSES, 3), labels_of(4, 3, ignored=1)
    check_loss(op_type, x, labels, np.abs(draw(CLASSES, seed=3)), 1, symbolic=True)
    model = one_node_model(op_type, [x, labels], symbolic=True, opset=13)
    graph = import_model(model).graph
    with pytest.raises(dlc.InputError, match="the labels"):
        evaluate(graph, {"x0": x, "x1": labels[:, :2]})


@pytest.mark.parametrize("op_type", LOSSES)
def test_nothing_to_average(op_type: str) -> None:
    x = draw(2, CLASSES)
    check_loss(op_type, x, np.array([3, 3]), None, 3)
    check_loss(op_type, x, np.array([3, 3]), None, 3, "sum")
    check_loss(op_type, draw(0, CLASSES, 2), labels_of(0, 2), None, None, "none")
    check_loss(op_type, draw(0, CLASSES, 2), labels_of(0, 2), None, None, "sum")


def test_special_numbers() -> None:
    # A label that is ignored hides what stands there; one that is not does not.
    x = draw(3, CLASSES)
    x[0, :] = -np.inf
    x[1, 2] = np.nan
    labels = np.array([4, 0, 1])
    check_loss("NegativeLogLikelihoodLoss", x, labels, None, 4)
    check_loss("NegativeLogLikelihoodLoss", x, labels, None, None, "none")
    large = np.array([[1e4, -1e4, 0], [-3e38, 0, 3e38]], dtype=np.float32)
    check_loss("SoftmaxCrossEntropyLoss", large, np.array([1, 2]), None, None, "none")


def test_an_ignored_number_that_labels_cannot_have() -> None:
    labels = labels_of(4, dtype=np.int32)
    check_loss("NegativeLogLikelihoodLoss", draw(4, CLASSES), labels, None, (1 << 32) + int(labels[0]))


@pytest.mark.parametrize("op_type", LOSSES)
@pytest.mark.parametrize("label", [CLASSES, -1, -CLASSES, 1 << 40])
@pytest.mark.parametrize("ignored", [None, 2, -100])
def test_labels_out_of_range_are_faults(op_type: str, label: int, ignored: int | None) -> None:
    inputs = [draw(2, CLASSES), np.array([0, label])]
    model = one_node_model(op_type, inputs, attributes={"ignore_index": ignored}, opset=13)
    feeds = feeds_of(model, inputs)
    with pytest.raises(IndexFault):
        evaluate(import_model(model).graph, feeds)
    with dlc.compile(model, strict=True, cache=False) as compiled, pytest.raises(IndexFault):
        compiled.run(None, feeds)


@pytest.mark.parametrize("op_type", LOSSES)
@pytest.mark.parametrize(
    "inputs, attributes, message",
    [
        ([draw(2, 3), np.zeros(2, np.int64)], {"reduction": "average"}, "none, sum or mean"),
        ([draw(2, 3), np.zeros(3, np.int64)], {}, "the labels"),
        ([draw(2, 3), np.zeros((2, 3), np.int64)], {}, "the labels must have rank 1"),
        ([draw(2, 3), np.zeros(2, np.int64), draw(2)], {}, "the weights"),
        ([draw(2), np.zeros(2, np.int64)], {}, "a batch and a class axis"),
    ],
)
def test_what_does_not_fit(op_type: str, inputs: Any, attributes: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model(op_type, inputs, attributes=attributes, opset=13))
