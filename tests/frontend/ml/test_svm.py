"""Support vector machines, judged by onnxruntime, and the coupling of pairs of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError
from dlc.frontend.onnx.extension import ML
from dlc.frontend.onnx.importer import import_model
from dlc.ir.ops.coupling import PairwiseCoupling
from dlc.target import CpuTarget
from dlc.verify.tolerances import Work
from tests.backends.cpu.templates.node_runner import CompiledNode, each_target
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

KERNELS = {
    "LINEAR": [0.0, 0.0, 0.0],
    "RBF": [0.125, 0.0, 0.0],
    "POLY": [0.25, 1.0, 3.0],
    "SIGMOID": [0.25, -0.5, 0.0],
}


def draw(*shape: int, seed: int = 5) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numbers(count: int, seed: int) -> list[float]:
    return draw(count, seed=seed).tolist()


def regressor(kernel: str, vectors: int, features: int, **more: Any) -> dict[str, Any]:
    return {
        "kernel_type": kernel,
        "kernel_params": KERNELS[kernel],
        "coefficients": numbers(vectors or features, 6),
        "support_vectors": numbers(vectors * features, 7) or None,
        "n_supports": vectors,
        "rho": [0.375],
        **more,
    }


def classifier(kernel: str, counts: list[int], features: int, **more: Any) -> dict[str, Any]:
    """Classes with `counts` support vectors."""
    classes, total = len(counts), sum(counts)
    pairs = classes * (classes - 1) // 2
    return {
        "kernel_type": kernel,
        "kernel_params": KERNELS[kernel],
        "vectors_per_class": counts,
        "support_vectors": numbers(total * features, 8),
        "coefficients": numbers((classes - 1) * total, 9),
        "rho": (0.1 * draw(pairs, seed=10)).tolist(),
        "classlabels_ints": [7 * label - 3 for label in range(classes)],
        **more,
    }


def probabilities(pairs: int) -> dict[str, Any]:
    return {"prob_a": (-1 - np.abs(draw(pairs, seed=11))).tolist(), "prob_b": numbers(pairs, 12)}


def check(
    op_type: str, x: Array, attributes: dict[str, Any], work: Work = Work.CONTRACTION, **options: Any
) -> None:
    outputs = 2 if op_type == "SVMClassifier" else 1
    check_contrib(op_type, [x], work, outputs, attributes, domain=ML, **options)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("vectors", [0, 1, 20])
@pytest.mark.parametrize("one_class", [0, 1])
def test_regressors(kernel: str, vectors: int, one_class: int) -> None:
    attributes = regressor(kernel, vectors, 6, one_class=one_class)
    check("SVMRegressor", draw(9, 6), attributes, symbolic=vectors == 20)


@pytest.mark.parametrize("degree", [1.0, 2.0, 2.5, 4.0])
def test_degrees(degree: float) -> None:
    attributes = regressor("POLY", 5, 3, kernel_params=[0.125, 4.0, degree])
    check("SVMRegressor", draw(9, 3), attributes)


def test_no_rows() -> None:
    check("SVMRegressor", draw(0, 6), regressor("RBF", 4, 6), symbolic=True)
    check("SVMClassifier", draw(0, 6), classifier("RBF", [2, 3], 6, **probabilities(1)), symbolic=True)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("counts", [[3, 2], [4, 1, 3], [2, 3, 1, 2, 5]])
@pytest.mark.parametrize("probable", [False, True])
def test_classifiers(kernel: str, counts: list[int], probable: bool) -> None:
    pairs = len(counts) * (len(counts) - 1) // 2
    attributes = classifier(kernel, counts, 6, **(probabilities(pairs) if probable else {}))
    check("SVMClassifier", draw(19, 6), attributes, Work.MODEL if probable else Work.CONTRACTION)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("counts", [[3, 2], [4, 1, 3]])
@pytest.mark.parametrize("probable", [False, True])
def test_transforms(transform: str, counts: list[int], probable: bool) -> None:
    pairs = len(counts) * (len(counts) - 1) // 2
    attributes = classifier("RBF", counts, 4, **(probabilities(pairs) if probable else {}))
    check("SVMClassifier", draw(9, 4), {**attributes, "post_transform": transform}, Work.MODEL)


@pytest.mark.parametrize("classes", [1, 3, 6])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_classes_with_coefficients_of_their_own(classes: int, transform: str) -> None:
    attributes = {
        "coefficients": numbers(4 * classes, 13),
        "rho": [0.25],
        "kernel_params": [0.0, 0.0, 0.0],
        "classlabels_ints": list(range(5, 5 + classes)),
        "post_transform": transform,
    }
    check("SVMClassifier", draw(9, 4), attributes)


def test_the_greatest_of_two_scores_wins() -> None:
    """The standard says "top class"; onnxruntime takes the second class whenever a score is positive."""
    attributes = {"coefficients": [1.0, -1.0], "rho": [0.0], "classlabels_ints": [3, 4]}
    x = np.array([[2.0], [-2.0]], np.float32)
    expected = [np.array([3, 4]), np.array([[2, -2], [-2, 2]], np.float32)]
    check("SVMClassifier", x, attributes, expected=expected)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
def test_types(dtype: Any) -> None:
    x = (4 * draw(9, 6)).astype(dtype)
    check("SVMClassifier", x, classifier("POLY", [3, 2, 4], 6))
    check("SVMClassifier", x[0], classifier("RBF", [3, 2], 6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_type": "COSINE"}, "'COSINE' is none of LINEAR"),
        ({"kernel_params": None}, "gamma, coef0 and degree"),
        ({"coefficients": [1.0] * 9}, "9 coefficients are less than 2 rows of 5"),
        ({"rho": [1.0, 2.0]}, "rho has 2 numbers, but 3 are needed"),
        ({"support_vectors": [1.0] * 9}, "9 numbers of support vectors do not make 5 rows"),
        ({"support_vectors": [1.0] * 15}, "features of x and support vectors must be equal"),
        ({"vectors_per_class": [2, 3]}, "are none of 3 classes"),
        ({"prob_a": [1.0, 2.0], "prob_b": [1.0, 2.0]}, "a number for each of 3 pairs"),
        ({"prob_a": [1.0, 2.0, 3.0]}, "a number for each of 3 pairs"),
        ({"classlabels_ints": None}, "one of 'classlabels_ints' and"),
    ],
)
def test_invalid_models(changes: dict[str, Any], message: str) -> None:
    attributes = classifier("RBF", [2, 2, 1], 2) | changes
    model = one_node_model("SVMClassifier", [draw(3, 2)], 2, attributes, domain=ML)
    with pytest.raises(ModelError, match=message):
        import_model(model)


# --- pairwise coupling


@pytest.mark.parametrize("classes", [2, 3, 5, 12])
def test_consistent_pairs_give_their_probabilities(classes: int) -> None:
    """Where r[i, j] = p[i] / (p[i] + p[j]) for some p, that is the result, as far as the iteration goes."""
    p = np.random.default_rng(14).dirichlet(np.ones(classes), 40)
    first, second = np.triu_indices(classes, 1)
    pairs = (p[:, first] / (p[:, first] + p[:, second])).astype(np.float32)
    (result,) = PairwiseCoupling(classes).evaluate([pairs], lambda dim: 0)
    assert result.shape == p.shape
    np.testing.assert_allclose(result, p, atol=0.05)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-5)


@each_target
@pytest.mark.parametrize("classes", [2, 3, 11])
def test_native_coupling(classes: int, target: CpuTarget) -> None:
    pairs = classes * (classes - 1) // 2
    r = np.random.default_rng(15).uniform(1e-7, 1 - 1e-7, (37, pairs)).astype(np.float32)
    r[5] = np.nan
    node = CompiledNode(PairwiseCoupling(classes), [r], target, {(0, 0): "rows"})
    assert node.templates == ["pairwise_coupling"]
    for rows in (0, 1, 15, 16, 17, 37):
        node.check([r[:rows]], Work.MODEL)
