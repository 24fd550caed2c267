"""Tree ensembles of all versions, judged by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from dlc.errors import Error, ModelError, UnsupportedError
from dlc.frontend.onnx.extension import ML
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib, run_native
from tests.helpers.forests import MODES, Growth, as_version_5, features, grow
from tests.helpers.onnx_cases import Array, feeds_of, one_node_model, run_evaluator

#: A tree with a single test, x[0] <= 0, and a vote on either side.
STUMP: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.0, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
}


def check(op_type: str, x: Array, attributes: dict[str, Any], version: int = 3, **options: Any) -> None:
    outputs = 2 if op_type == "TreeEnsembleClassifier" else 1
    options = {"domain": ML, "version": version, "outputs": outputs, "work": Work.REDUCTION, **options}
    check_contrib(op_type, [x], attributes=attributes, **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("missing", [False, True])
def test_comparisons(mode: str, missing: bool) -> None:
    growth = Growth(modes=[mode], missing=missing)
    x = features(growth, 40, np.float32, 1, nan=True)
    check("TreeEnsembleRegressor", x, {"n_targets": 1, **grow(growth, 2)})


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize(
    ("votes", "base"), [("all", False), ("all", True), ("tree", False), ("tree", True), ("one", False)]
)
@pytest.mark.parametrize("targets", [1, 3])
def test_aggregates(aggregate: str, votes: str, base: bool, targets: int) -> None:
    growth = Growth(targets=targets, votes=votes, trees=7)
    attributes = {"n_targets": targets, "aggregate_function": aggregate, **grow(growth, 3)}
    if base:
        attributes["base_values"] = [0.5, -1.5, 2.25][:targets]
    check("TreeEnsembleRegressor", features(growth, 21, np.float32, 4), attributes)


def test_base_values_of_targets_without_votes() -> None:
    """The standard adds them to the final prediction; onnxruntime forgets them where there is no vote."""
    votes = {
        "target_ids": [0, 1],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_weights": [1.0, 2.0],
    }
    attributes = {**STUMP, **votes, "n_targets": 2, "base_values": [10.0, 20.0]}
    expected = [np.array([[11, 20], [10, 22]], np.float32)]
    check("TreeEnsembleRegressor", np.array([[-1.0], [1.0]], np.float32), attributes, expected=expected)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"])
@pytest.mark.parametrize("targets", [1, 4])
def test_transforms(transform: str, targets: int) -> None:
    growth = Growth(targets=targets, votes="all", trees=4)
    attributes = {"n_targets": targets, "post_transform": transform, **grow(growth, 5)}
    if transform == "PROBIT":
        weights = np.array(attributes["target_weights"])
        attributes["target_weights"] = (0.05 + 0.2 / (1 + np.exp(-weights))).tolist()
    # onnxruntime's formula of PROBIT cancels.
    work = Work.MODEL if transform == "PROBIT" else Work.REDUCTION
    check("TreeEnsembleRegressor", features(growth, 18, np.float32, 6), attributes, work=work)


@pytest.mark.parametrize("rows", [0, 1, 15, 17, 64, 65, 130])
@pytest.mark.parametrize("symbolic", [False, True])
def test_rows(rows: int, symbolic: bool) -> None:
    growth = Growth(trees=18, depth=6, targets=2, votes="one")
    attributes = {"n_targets": 2, **grow(growth, 7)}
    check("TreeEnsembleRegressor", features(growth, rows, np.float32, 8), attributes, symbolic=symbolic)


def test_f64_features_are_compared_in_f64() -> None:
    growth = Growth(trees=6, modes=MODES, missing=True)
    attributes = grow(growth, 9)
    thresholds = [value + 1e-12 for value in attributes.pop("nodes_values")]
    weights = attributes.pop("target_weights")
    for name, content in (
        ("nodes_values", thresholds),
        ("target_weights", weights),
        ("base_values", [1 / 3]),
    ):
        attributes[f"{name}_as_tensor"] = helper.make_tensor(
            name, TensorProto.DOUBLE, [len(content)], content
        )
    x = features(growth, 50, np.float64, 10, nan=True)
    x[::2] += 1e-12
    check("TreeEnsembleRegressor", x, {"n_targets": 1, **attributes})


def test_f64_features_with_f32_thresholds() -> None:
    growth = Growth(trees=6, modes=MODES)
    check("TreeEnsembleRegressor", features(growth, 50, np.float64, 11), {"n_targets": 1, **grow(growth, 12)})


def test_f32_features_are_compared_with_f64_thresholds_as_they_are() -> None:
    """A threshold just below a float32 number is below it; onnxruntime refuses these models."""
    number = np.float32(0.1)
    below = float(np.nextafter(np.float64(number), -np.inf))
    attributes = {key: value for key, value in STUMP.items() if key != "nodes_values"}
    tensor = helper.make_tensor("t", TensorProto.DOUBLE, [3], [below, 0, 0])
    attributes |= {"nodes_values_as_tensor": tensor, "n_targets": 1, "target_ids": [0, 0]}
    attributes |= {"target_treeids": [0, 0], "target_nodeids": [1, 2], "target_weights": [1.0, 2.0]}
    x = np.array([[number], [np.nextafter(number, np.float32(-1))]])
    expected = [np.array([[2.0], [1.0]], np.float32)]
    check("TreeEnsembleRegressor", x, attributes, expected=expected)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_features_of_classifiers(dtype: Any) -> None:
    growth = Growth(trees=6, targets=3, votes="all", modes=MODES[:4])
    x = np.random.default_rng(13).integers(-2, 3, (30, growth.features)).astype(dtype)
    check("TreeEnsembleClassifier", x, {"classlabels_int64s": [4, 0, 9], **grow(growth, 14, "class")})


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("base", [None, [0.125], [0.5, -0.25, 1.0]])
def test_classifiers(positive: bool, transform: str, base: list[float] | None) -> None:
    """One, two and three classes, by the number of base values."""
    classes = 3 if base is None else {1: 2, 3: 3}[len(base)]
    growth = Growth(trees=9, targets=1 if classes == 2 else 3, votes="all", positive=positive)
    attributes = {"post_transform": transform, **grow(growth, 15, "class")}
    attributes |= {"classlabels_int64s": [7, 5, 6][:classes]} | (
        {} if base is None else {"base_values": base}
    )
    check("TreeEnsembleClassifier", features(growth, 33, np.float32, 16), attributes)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("voted", [0, 1])
def test_binary_classifiers_vote_for_one_class(transform: str, positive: bool, voted: int) -> None:
    growth = Growth(trees=3, positive=positive)
    attributes = {"post_transform": transform, "classlabels_int64s": [3, 8], **grow(growth, 17, "class")}
    attributes["class_ids"] = [voted] * len(attributes["class_ids"])
    check("TreeEnsembleClassifier", features(growth, 33, np.float32, 18), attributes)


def test_a_single_class_stands_for_two() -> None:
    growth = Growth(trees=3)
    attributes = {"classlabels_int64s": [1], "base_values": [0.25], **grow(growth, 19, "class")}
    check("TreeEnsembleClassifier", features(growth, 33, np.float32, 20), attributes)


def test_two_classes_that_get_votes_each_compete() -> None:
    """The standard says "top class"; onnxruntime gives the number 1 to every positive score of the second."""
    votes = {"class_treeids": [0] * 4, "class_nodeids": [1, 1, 2, 2], "class_ids": [0, 1, 0, 1]}
    attributes = {**STUMP, **votes, "class_weights": [0.75, 0.25, 0.375, 0.625], "classlabels_int64s": [4, 6]}
    scores = np.array([[0.75, 0.25], [0.375, 0.625]], np.float32)
    expected = [np.array([4, 6]), scores]
    x = np.array([[-1.0], [1.0]], np.float32)
    check("TreeEnsembleClassifier", x, attributes, expected=expected)


def test_probabilities_of_two_classes_by_probit() -> None:
    """onnxruntime leaves the second score undefined."""
    votes = {"class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 0]}
    attributes = {**STUMP, **votes, "class_weights": [0.75, 0.25], "classlabels_int64s": [0, 1]}
    x = np.array([[-1.0], [1.0]], np.float32)
    third = 0.67449  # of the normal distribution
    expected = [np.array([1, 0]), np.array([[-third, third], [third, -third]], np.float32)]
    model = one_node_model(
        "TreeEnsembleClassifier", [x], 2, {**attributes, "post_transform": "PROBIT"}, domain=ML
    )
    label, scores = run_native(model, feeds_of(model, [x]))
    np.testing.assert_array_equal(label, expected[0])
    np.testing.assert_allclose(scores, expected[1], atol=5e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("aggregate", [0, 1, 2, 3])
def test_version_5(dtype: Any, missing: bool, aggregate: int) -> None:
    growth = Growth(trees=5, targets=2, votes="one", missing=missing, modes=MODES[:4])
    attributes = as_version_5(grow(growth, 21), dtype, {})
    attributes |= {"n_targets": 2, "aggregate_function": aggregate}
    x = features(growth, 37, dtype, 22, nan=True)
    check("TreeEnsemble", x, attributes, version=5)


@pytest.mark.parametrize("sizes", [[1, 2], [3, 4, 5], [40, 7], [300]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sets_of_version_5(sizes: list[int], dtype: Any) -> None:
    """Of whole numbers: onnxruntime looks for others in large sets under the whole part."""
    growth = Growth(trees=4)
    rng = np.random.default_rng(23)
    members = {3 * index: (rng.permutation(600)[:size] - 5).tolist() for index, size in enumerate(sizes)}
    attributes = as_version_5(grow(growth, 24), dtype, members) | {"n_targets": 1}
    x = np.concatenate([features(growth, 30, dtype, 25), rng.integers(-6, 600, (90, growth.features))])
    check("TreeEnsemble", np.floor(x).astype(dtype), attributes, version=5)


def test_sets_that_hold_anything() -> None:
    """The reference ends a set at 0, and onnxruntime drops what is no small integer."""
    element = TensorProto.FLOAT
    attributes = {
        "n_targets": 1,
        "tree_roots": [0, 1],
        "nodes_modes": helper.make_tensor("m", TensorProto.UINT8, [2], [6, 6]),
        "nodes_splits": helper.make_tensor("s", element, [2], [0.0, 0.0]),
        "membership_values": helper.make_tensor("v", element, [5], [0.5, -3.0, 0.0, np.nan, np.nan]),
        "nodes_featureids": [0, 0],
        "nodes_missing_value_tracks_true": [1, 0],
        "nodes_truenodeids": [0, 2],
        "nodes_falsenodeids": [1, 3],
        "nodes_trueleafs": [1, 1],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 0, 0, 0],
        "leaf_weights": helper.make_tensor("w", element, [4], [1.0, 2.0, 10.0, 20.0]),
    }
    x = np.array([[0.5], [-3], [-0.0], [1], [-4], [0.25], [np.nan]], np.float32)
    expected = [np.array([[21], [21], [21], [22], [22], [22], [21]], np.float32)]
    check("TreeEnsemble", x, attributes, version=5, expected=expected)


@pytest.mark.parametrize("transform", range(5))
def test_transforms_of_version_5(transform: int) -> None:
    """In the order of the standard; onnxruntime takes 1 for the logistic function and 2 for softmax."""
    growth = Growth(trees=6, targets=3, votes="tree", positive=True)
    attributes = as_version_5(grow(growth, 26), np.float32, {})
    weights = 0.2 * np.array(attributes["leaf_weights"].float_data, np.float32).clip(0.1, 2)
    attributes["leaf_weights"] = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights)
    model = one_node_model(
        "TreeEnsemble", [features(growth, 9, np.float32, 27)], 1, {**attributes, "n_targets": 3}, domain=ML
    )
    model.opset_import[1].version = 5
    feeds = {"x0": features(growth, 9, np.float32, 27)}
    (plain,) = run_native(model, feeds)
    node = model.graph.node[0]
    node.attribute.append(helper.make_attribute("post_transform", transform))
    (transformed,) = run_native(model, feeds)
    wide = plain.astype(np.float64)
    exponential = np.exp(wide)
    expected = [
        wide,
        exponential / exponential.sum(axis=1, keepdims=True),
        1 / (1 + np.exp(-wide)),
        exponential / exponential.sum(axis=1, keepdims=True),
        transformed,
    ][transform]
    np.testing.assert_allclose(transformed, expected, rtol=1e-5)


def test_f16_of_version_5() -> None:
    growth = Growth(trees=3, targets=2)
    attributes = as_version_5(grow(growth, 28), np.float16, {}) | {"n_targets": 2}
    x = features(growth, 20, np.float16, 29)
    wide = as_version_5(grow(growth, 28), np.float32, {}) | {"n_targets": 2}
    for name in ("leaf_weights", "nodes_splits"):
        values = np.array(wide[name].float_data).astype(np.float16).astype(np.float32)
        wide[name] = helper.make_tensor(name, TensorProto.FLOAT, values.shape, values)
    model = one_node_model("TreeEnsemble", [x.astype(np.float32)], 1, wide, domain=ML)
    model.opset_import[1].version = 5
    (expected,) = run_evaluator(model, {"x0": x.astype(np.float32)})
    check("TreeEnsemble", x, attributes, version=5, expected=[expected.astype(np.float16)])


def test_a_tree_that_is_a_leaf() -> None:
    attributes = {
        "nodes_treeids": [0],
        "nodes_nodeids": [0],
        "nodes_featureids": [0],
        "nodes_modes": ["LEAF"],
        "nodes_values": [0.0],
        "nodes_truenodeids": [0],
        "nodes_falsenodeids": [0],
        "n_targets": 1,
        "target_ids": [0],
        "target_treeids": [0],
        "target_nodeids": [0],
        "target_weights": [2.5],
    }
    check("TreeEnsembleRegressor", np.zeros((3, 2), np.float32), attributes)


def test_a_chain_of_equalities_with_one_true_child() -> None:
    """As LightGBM's categories are written."""
    count = 7
    attributes = {
        "nodes_treeids": [0] * (count + 2),
        "nodes_nodeids": list(range(count + 2)),
        "nodes_featureids": [1] * count + [0, 0],
        "nodes_modes": ["BRANCH_EQ"] * count + ["LEAF"] * 2,
        "nodes_values": [3.0, 1.0, 4.0, 9.0, 2.0, 6.0, 5.0, 0.0, 0.0],
        "nodes_truenodeids": [count] * count + [0, 0],
        "nodes_falsenodeids": [*range(1, count), count + 1, 0, 0],
        "n_targets": 1,
        "target_ids": [0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [count, count + 1],
        "target_weights": [2.0, 3.0],
    }
    x = np.array([[0, value] for value in [*range(-1, 11), 2.5, np.nan]], np.float32)
    check("TreeEnsembleRegressor", x, attributes)


def test_no_votes_give_zero() -> None:
    growth = Growth(trees=2, targets=3, votes="some")
    for aggregate in ("SUM", "MIN", "MAX"):
        attributes = {"n_targets": 3, "aggregate_function": aggregate, **grow(growth, 30)}
        check("TreeEnsembleRegressor", features(growth, 30, np.float32, 31), attributes)


def regressor(**changes: Any) -> dict[str, Any]:
    """The stump with votes, some attributes changed."""
    votes = {
        "target_ids": [0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_weights": [1.0, 2.0],
    }
    attributes = {**STUMP, **votes, "n_targets": 1, **changes}
    return {key: value for key, value in attributes.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"nodes_truenodeids": [0, 0, 0]}, UnsupportedError, "cycle"),
        ({"nodes_truenodeids": [5, 0, 0]}, ModelError, "tree 0 has no node 5 for a child"),
        ({"nodes_nodeids": [0, 1, 1]}, ModelError, "tree 0 has two nodes 1"),
        ({"nodes_modes": ["BRANCH_LEQ", "LEAF", "TWIG"]}, ModelError, "no mode 'TWIG'"),
        ({"nodes_values": [0.0]}, ModelError, "nodes_values has 1 elements, not 3"),
        ({"nodes_values": None}, ModelError, "nodes_values has 0 elements, not 3"),
        ({"nodes_featureids": [2, 0, 0]}, ModelError, "the trees look at feature 2 of 2"),
        ({"nodes_featureids": [-1, 0, 0]}, ModelError, "there is no feature -1"),
        ({"target_ids": [0, 1]}, ModelError, "votes for other targets"),
        ({"target_nodeids": [1, 3]}, ModelError, "no node 3 for a vote"),
        ({"target_treeids": [0, 9]}, ModelError, "tree 9 has no node 2 for a vote"),
        ({"target_weights": [1.0]}, ModelError, "target_weights has 1 elements"),
        ({"aggregate_function": "MEDIAN"}, ModelError, "'MEDIAN' is none of AVERAGE"),
        ({"aggregate_function": "MIN", "target_weights": [1.0, np.inf]}, UnsupportedError, "infinity"),
        ({"post_transform": "TANH", "n_targets": 2}, ModelError, "'TANH' is none of NONE"),
        ({"base_values": [1.0, 2.0]}, ModelError, "2 base_values for 1 targets"),
        ({"nodes_modes": [1, 2, 3]}, ModelError, "mode"),
        ({"nodes_treeids": [0.0, 0.0, 0.0]}, ModelError, "must be a list of integers"),
        ({"nodes_treeids": None}, ModelError, "there are no trees"),
        ({"nodes_colours": [1, 2, 3]}, ModelError, "no attribute 'nodes_colours'"),
    ],
)
def test_invalid_trees(changes: dict[str, Any], error: type[Error], message: str) -> None:
    x = np.zeros((1, 2), np.float32)
    model = one_node_model("TreeEnsembleRegressor", [x], 1, regressor(**changes), domain=ML)
    model.opset_import[1].version = 3
    with pytest.raises(error, match=message):
        import_model(model)


def test_too_few_features_at_run_time() -> None:
    import dlc

    x = np.zeros((1, 2), np.float32)
    attributes = regressor(nodes_featureids=[1, 0, 0])
    model = one_node_model("TreeEnsembleRegressor", [x], 1, attributes, domain=ML, symbolic=True)
    with dlc.compile(model, cache=False, strict=True) as compiled:
        assert compiled.run(None, {"x0": x})[0].tolist() == [[1.0]]
        with pytest.raises(dlc.Error, match="feature 1"):
            compiled.run(None, {"x0": x[:, :1]})
