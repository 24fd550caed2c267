"""Linear models, judged by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import Error, ModelError
from dlc.frontend.onnx.extension import ML
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
rng = np.random.default_rng(41)


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    return (3 * rng.standard_normal(shape)).astype(dtype)


def weights(count: int) -> list[float]:
    return rng.standard_normal(count).astype(np.float32).tolist()


def check(
    op_type: str, x: Array, attributes: dict[str, Any], work: Work = Work.CONTRACTION, **options: Any
) -> None:
    outputs = 2 if op_type == "LinearClassifier" else 1
    check_contrib(op_type, [x], work, outputs, attributes, domain=ML, **options)


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS[:-1])
@pytest.mark.parametrize("intercepts", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_regressors(targets: int, transform: str, intercepts: bool, rows: int) -> None:
    attributes = {"targets": targets, "coefficients": weights(5 * targets), "post_transform": transform}
    attributes["intercepts"] = weights(targets) if intercepts else None
    check("LinearRegressor", draw(rows, 5), attributes, symbolic=rows != 1)


@pytest.mark.parametrize("targets", [1, 2])
def test_probit_of_regressors(targets: int) -> None:
    """Of scores between 0 and 1, NaN beyond."""
    attributes = {"targets": targets, "coefficients": [0.25] * targets, "post_transform": "PROBIT"}
    x = np.linspace(-0.5, 4.5, 81, dtype=np.float32)[:, None]
    check("LinearRegressor", x, attributes, Work.MODEL)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
def test_types_of_regressors(dtype: Any) -> None:
    """onnxruntime takes f32 only; f64 features keep their precision until the result is rounded."""
    x, coefficients, intercepts = draw(6, 4, dtype=dtype), weights(8), weights(2)
    product = x.astype(np.float64) @ np.reshape(coefficients, (2, 4)).T + intercepts
    attributes = {"targets": 2, "coefficients": coefficients, "intercepts": intercepts}
    check("LinearRegressor", x, attributes, expected=[product.astype(np.float32)])


def test_a_vector_is_one_row() -> None:
    check("LinearRegressor", draw(4), {"targets": 2, "coefficients": weights(8)})
    labels = {"classlabels_ints": [0, 1, 2]}
    check("LinearClassifier", draw(4), {"coefficients": weights(12), "intercepts": weights(3), **labels})


@pytest.mark.parametrize("transform", TRANSFORMS[:-1])
@pytest.mark.parametrize(
    ("scores", "labels"), [(1, []), (1, [3, -8]), (2, [6, 4]), (3, [0, 1, 2]), (5, [9, 7, 5, 3, 1])]
)
def test_classifiers(transform: str, scores: int, labels: list[int]) -> None:
    attributes = {"coefficients": weights(6 * scores), "intercepts": weights(scores)}
    attributes |= {"classlabels_ints": labels or None, "post_transform": transform, "multi_class": scores % 2}
    check("LinearClassifier", draw(9, 6), attributes, symbolic=scores == 3)


def test_probit_of_classifiers() -> None:
    coefficients, intercepts = [0.2, -0.1, 0.1, 0.05, -0.2, 0.3], [0.4, 0.5, 0.3]
    attributes = {"coefficients": coefficients, "intercepts": intercepts, "classlabels_ints": [2, 1, 0]}
    x = rng.uniform(-1, 1, (20, 2)).astype(np.float32)
    check("LinearClassifier", x, {**attributes, "post_transform": "PROBIT"}, Work.MODEL)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
@pytest.mark.parametrize("scores", [1, 3])
def test_types_of_classifiers(dtype: Any, scores: int) -> None:
    labels = [5, 6] if scores == 1 else [5, 6, 7]
    attributes = {
        "coefficients": weights(6 * scores),
        "intercepts": weights(scores),
        "classlabels_ints": labels,
    }
    check("LinearClassifier", draw(9, 6, dtype=dtype), attributes)


def test_equal_scores_go_to_the_first_class() -> None:
    attributes = {
        "coefficients": [1.0, 1.0, 1.0],
        "intercepts": [0.0, 0.0, 0.0],
        "classlabels_ints": [4, 5, 6],
    }
    check("LinearClassifier", draw(9, 1), attributes)


def test_intercepts_may_be_absent() -> None:
    """onnxruntime takes their number for that of the classes."""
    x, coefficients = draw(8, 3), weights(9)
    scores = x @ np.reshape(coefficients, (3, 3)).astype(np.float32).T
    expected = [np.array([4, 5, 6])[scores.argmax(axis=1)], scores]
    attributes = {"coefficients": coefficients, "classlabels_ints": [4, 5, 6]}
    check("LinearClassifier", x, attributes, expected=expected)


@pytest.mark.parametrize(
    ("op_type", "attributes", "message"),
    [
        ("LinearRegressor", {"coefficients": [1.0, 2.0, 3.0]}, "features and of coefficients must be equal"),
        ("LinearRegressor", {"coefficients": [1.0, 2.0], "intercepts": [1.0, 2.0]}, "2 intercepts for 1"),
        ("LinearRegressor", {"coefficients": [1.0, 2.0, 3.0], "targets": 2}, "do not make 2 rows"),
        ("LinearRegressor", {}, "0 coefficients"),
        (
            "LinearRegressor",
            {"coefficients": [1.0] * 4, "targets": 2, "post_transform": "X"},
            "'X' is none of",
        ),
        ("LinearClassifier", {"coefficients": [1.0, 2.0], "classlabels_ints": [1, 2, 3]}, "for 1 scores"),
        (
            "LinearClassifier",
            {"coefficients": [1.0] * 4, "intercepts": [0.0] * 2},
            "for 2 scores, but 0 labels",
        ),
        (
            "LinearClassifier",
            {"coefficients": [1.0] * 4, "classlabels_ints": [1, 2], "classlabels_strings": ["a", "b"]},
            "one of 'classlabels_ints' and 'classlabels_strings'",
        ),
    ],
)
def test_invalid_models(op_type: str, attributes: dict[str, Any], message: str) -> None:
    error: type[Error] = ModelError
    model = one_node_model(op_type, [draw(3, 2)], 2 if "Cla" in op_type else 1, attributes, domain=ML)
    with pytest.raises(error, match=message):
        import_model(model)
