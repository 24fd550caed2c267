"""Small models for the templates that only particular operators reach."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from tests.helpers.drafts import FLOAT, INT64, Draft
from tests.helpers.recipes import Array

Case = tuple[onnx.ModelProto, dict[str, Array]]


def _normal(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def rotary() -> Case:
    """Rotary embedding of interleaved features."""
    d = Draft()
    d.add("RotaryEmbedding", ["x", "cos", "sin"], "y", interleaved=1)
    shapes = {"x": [2, 3, "t", 40], "cos": [2, "t", 20], "sin": [2, "t", 20]}
    model = d.model([(n, FLOAT, s) for n, s in shapes.items()], [("y", FLOAT, None)], 23)  # type: ignore[list-item]
    return model, {"x": _normal(2, 3, 7, 40), "cos": _normal(2, 7, 20), "sin": _normal(2, 7, 20)}


def regions() -> Case:
    """Averages of regions of interest."""
    d = Draft()
    d.add("RoiAlign", ["x", "rois", "batch"], "y", output_height=3, output_width=3, sampling_ratio=2)
    inputs = [("x", FLOAT, [2, 5, "h", "w"]), ("rois", FLOAT, ["n", 4]), ("batch", INT64, ["n"])]
    model = d.model(inputs, [("y", FLOAT, None)], 16)  # type: ignore[arg-type, list-item]
    rois = np.array([[0, 0, 9, 7], [-3, 2, 20, 5], [1, 1, 1, 1]], np.float32)
    return model, {"x": _normal(2, 5, 8, 11), "rois": rois, "batch": np.array([0, 1, 1])}


def positions() -> Case:
    """Positions of what is not zero."""
    d = Draft()
    d.add("NonZero", ["x"], "y")
    model = d.model([("x", FLOAT, ["n", 7])], [("y", INT64, None)], 13)  # type: ignore[list-item]
    return model, {"x": np.maximum(_normal(9, 7), 0)}


def distinct() -> Case:
    """Distinct rows, in the order in which they come, and sorted."""
    d = Draft()
    d.add("Unique", ["x"], ["a", "b", "c", "e"], axis=0, sorted=0)
    d.add("Unique", ["x"], ["f"], axis=0)
    outputs = [(name, FLOAT if name in "af" else INT64, None) for name in "abcef"]
    model = d.model([("x", FLOAT, ["n", 3])], outputs, 11)  # type: ignore[arg-type]
    return model, {"x": np.random.default_rng(1).integers(0, 2, (37, 3)).astype(np.float32)}


def suppression() -> Case:
    """The best boxes that do not overlap."""
    d = Draft()
    bounds = [d.constant("most", [5], np.int64), d.constant("iou", [0.3]), d.constant("score", [0.1])]
    d.add("NonMaxSuppression", ["boxes", "scores", *bounds], "y")
    inputs = [("boxes", FLOAT, [2, "n", 4]), ("scores", FLOAT, [2, 3, "n"])]
    model = d.model(inputs, [("y", INT64, None)], 11)  # type: ignore[arg-type, list-item]
    corners = np.random.default_rng(2).uniform(0, 1, (2, 33, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(2), corners.max(2)], -1)
    return model, {"boxes": boxes, "scores": np.abs(_normal(2, 3, 33))}


def forest() -> Case:
    """Two trees of depth 2, added."""
    trees = 2
    ids = np.arange(5)
    attributes = {
        "n_targets": 1,
        "nodes_treeids": np.repeat(np.arange(trees), 5),
        "nodes_nodeids": np.tile(ids, trees),
        "nodes_featureids": np.tile([0, 1, 0, 0, 0], trees),
        "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"] * trees,
        "nodes_values": np.tile([0.1, -0.2, 0, 0, 0], trees).astype(np.float32),
        "nodes_truenodeids": np.tile([1, 3, 0, 0, 0], trees),
        "nodes_falsenodeids": np.tile([2, 4, 0, 0, 0], trees),
        "target_treeids": np.repeat(np.arange(trees), 3),
        "target_nodeids": np.tile([2, 3, 4], trees),
        "target_ids": np.zeros(3 * trees, np.int64),
        "target_weights": np.arange(3 * trees, dtype=np.float32),
    }
    given = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in attributes.items()}
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml", **given)
    info = helper.make_tensor_value_info
    graph = helper.make_graph([node], "forest", [info("x", FLOAT, ["n", 2])], [info("y", FLOAT, ["n", 1])])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), {"x": _normal(19, 2)}


def machine() -> Case:
    """Probabilities of three classes, coupled from those of their pairs."""
    attributes: dict[str, object] = {
        "classlabels_ints": [0, 1, 2],
        "coefficients": [1.0, -0.5, 0.7, 0.3, -1.0, 0.4],
        "kernel_params": [0.5, 0.0, 3.0],
        "kernel_type": "RBF",
        "prob_a": [-1.0, -2.0, -0.5],
        "prob_b": [0.1, -0.2, 0.0],
        "rho": [0.2, -0.1, 0.3],
        "support_vectors": [0.0, 1.0, 1.0, -1.0, -1.0, 0.5],
        "vectors_per_class": [1, 1, 1],
    }
    node = helper.make_node("SVMClassifier", ["x"], ["y", "p"], "svm", domain="ai.onnx.ml", **attributes)
    info = helper.make_tensor_value_info
    outputs = [info("y", INT64, ["n"]), info("p", FLOAT, ["n", 3])]
    graph = helper.make_graph([node], "svm", [info("x", FLOAT, ["n", 2])], outputs)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), {"x": _normal(9, 2)}


def bytes_multiplied() -> Case:
    """A product of bytes with a zero point."""
    rng = np.random.default_rng(8)
    d = Draft()
    weight = d.constant("w", rng.integers(-128, 128, (37, 21)), np.int8)
    zero = d.constant("z", 131, np.uint8)
    d.add("MatMulInteger", ["x", weight, zero], "y")
    inputs = [("x", onnx.TensorProto.UINT8, ["n", 37])]
    model = d.model(inputs, [("y", onnx.TensorProto.INT32, ["n", 21])], 17)
    return model, {"x": rng.integers(0, 256, (5, 37)).astype(np.uint8)}


def bytes_convolved() -> Case:
    """A convolution of bytes whose rows leave one position for the last vector."""
    rng = np.random.default_rng(9)
    d = Draft()
    weight = d.constant("w", rng.integers(-128, 128, (20, 5, 3, 3)), np.int8)
    zero = d.constant("z", 127, np.uint8)
    d.add("ConvInteger", ["x", weight, zero], "y", pads=[1, 1, 1, 1])
    model = d.model(
        [("x", onnx.TensorProto.UINT8, ["n", 5, 7, 7])], [("y", onnx.TensorProto.INT32, ["n", 20, 7, 7])], 17
    )
    return model, {"x": rng.integers(0, 256, (2, 5, 7, 7)).astype(np.uint8)}


#: Builders by the template that their models reach.
ROUTINES: dict[str, Callable[[], Case]] = {
    "pairs": rotary,
    "roi_align": regions,
    "compact": positions,
    "distinct": distinct,
    "non_max_suppression": suppression,
    "trees": forest,
    "pairwise_coupling": machine,
    "integer_matmul": bytes_multiplied,
    "integer_convolution": bytes_convolved,
}
