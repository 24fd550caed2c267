"""onnxruntime's normalizations of residual sums and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import IndexFault, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib, check_model
from tests.helpers.onnx_cases import Array, one_node_model, run_evaluator

rng = np.random.default_rng(12)


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


SHAPES = [(1, 1, 8), (2, 3, 16), (1, 5, 33), (3, 2, 64)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("present", [(1, 1), (1, 0), (0, 1), (0, 0)], ids=str)
def test_skip_layer_normalization(shape: tuple[int, ...], present: tuple[int, int]) -> None:
    x, skip, scale, *vectors = draw(*shape), draw(*shape), *(draw(shape[-1]) for _ in range(3))
    beta, bias = (vector if keep else None for vector, keep in zip(vectors, present))
    for epsilon in (None, 1e-3):
        check_contrib(
            "SkipLayerNormalization",
            [x, skip, scale, beta, bias],
            Work.NORMALIZATION,
            ["y", "", "", "sum"] if epsilon else 1,
            {"epsilon": epsilon},
            constants=(2, 3, 4),
            symbolic=epsilon is None,
        )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_skip_that_repeats(shape: tuple[int, ...]) -> None:
    x, scale = draw(*shape), draw(shape[-1])
    for skip in (draw(1, *shape[1:]), draw(*shape[1:])):
        check_contrib("SkipLayerNormalization", [x, skip, scale], Work.NORMALIZATION)
        check_contrib("SkipSimplifiedLayerNormalization", [x, skip, scale], Work.NORMALIZATION)


def test_skip_statistics() -> None:
    # onnxruntime leaves them unset.
    x, skip, scale = draw(2, 3, 16), draw(2, 3, 16), draw(16)
    total = (x + skip).astype(np.float64)
    mean, variance = total.mean(-1, keepdims=True), total.var(-1, keepdims=True)
    y = (total - mean) / np.sqrt(variance + 1e-12) * scale
    expected = [array.astype(np.float32) for array in (y, mean, 1 / np.sqrt(variance + 1e-12), total)]
    check_contrib("SkipLayerNormalization", [x, skip, scale], Work.NORMALIZATION, 4, expected=expected)
    inverse = 1 / np.sqrt(np.square(total).mean(-1, keepdims=True) + 1e-12)
    expected = [array.astype(np.float32) for array in (total * inverse * scale, inverse, total)]
    outputs = ["y", "", "inverse", "sum"]
    check_contrib(
        "SkipSimplifiedLayerNormalization", [x, skip, scale], Work.NORMALIZATION, outputs, expected=expected
    )
    with pytest.raises(UnsupportedError, match="mean is wanted"):
        import_model(
            one_node_model("SkipSimplifiedLayerNormalization", [x, skip, scale], 2, domain="com.microsoft")
        )


@pytest.mark.parametrize("shape", [*SHAPES, (4, 24)], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_skip_simplified_layer_normalization(shape: tuple[int, ...], bias: bool) -> None:
    x, skip, scale = draw(*shape), draw(*shape), draw(shape[-1])
    inputs = [x, skip, scale, draw(shape[-1]) if bias else None]
    for outputs in (1, ["y", "", "", "sum"]):
        check_contrib("SkipSimplifiedLayerNormalization", inputs, Work.NORMALIZATION, outputs)


def test_half_precision_skip() -> None:
    for shape in SHAPES:
        x, skip, scale = (draw(*s, dtype=np.float16) for s in (shape, shape, shape[-1:]))
        for op_type in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"):
            check_contrib(op_type, [x, skip, scale], Work.NORMALIZATION)


@pytest.mark.parametrize("axis", [-1, 1, 2, None])
@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_simplified_layer_normalization(axis: int | None, epsilon: float, dtype: Any) -> None:
    x = draw(2, 3, 17, dtype=dtype)
    scale = draw(*x.shape[axis if axis is not None else -1 :], dtype=dtype)
    attributes = {"axis": axis, "epsilon": epsilon}
    # The second result is float32 in onnxruntime even of float64.
    outputs = 1 if dtype is np.float64 else 2
    check_contrib(
        "SimplifiedLayerNormalization", [x, scale], Work.NORMALIZATION, outputs, attributes, domain=""
    )


def test_simplified_layer_normalization_with_another_scale() -> None:
    x, scale = draw(3, 8), draw(8, dtype=np.float16)
    check_contrib("SimplifiedLayerNormalization", [x, scale], Work.NORMALIZATION, domain="", opset=17)


@pytest.mark.parametrize("opset", [9, 13, 16])
@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_before_the_standard_had_it(opset: int, axis: int) -> None:
    x, shape = draw(2, 3, 17), (2, 3, 17)[axis:]
    for inputs in ([x, draw(*shape)], [x, draw(*shape), draw(*shape)]):
        for outputs in (1, 3):
            model = one_node_model("LayerNormalization", inputs, outputs, {"axis": axis}, opset)
            feeds = {f"x{index}": array for index, array in enumerate(inputs)}
            check_model(model, feeds, Work.NORMALIZATION)


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("positions", [None, 1, 3])
def test_embed_layer_normalization(segments: bool, masked: bool, positions: int | None) -> None:
    ids = rng.integers(0, 10, (3, 4)).astype(np.int32)
    segment_ids = rng.integers(0, 2, (3, 4)).astype(np.int32) if segments else None
    segment_table = draw(2, 24) if segments else None
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 2, 1, 1]], np.int32) if masked else None
    position_ids = None if positions is None else rng.integers(0, 6, (positions, 4)).astype(np.int32)
    tables = [draw(10, 24), draw(6, 24), segment_table, draw(24), draw(24)]
    inputs = [ids, segment_ids, *tables, mask, position_ids]
    # onnxruntime's type inference wants the second result named.
    for outputs in (2, 3):
        check_contrib(
            "EmbedLayerNormalization",
            inputs,
            Work.NORMALIZATION,
            outputs,
            {"epsilon": 1e-5 if outputs == 3 else None, "mask_index_type": 1 if outputs == 2 else None},
            constants=(2, 3, 4, 5, 6),
            symbolic=outputs == 2,
        )


def test_embedding_of_an_unknown_word() -> None:
    ids = np.array([[10]], np.int32)
    tables = [draw(10, 8), draw(6, 8), None, draw(8), draw(8)]
    model = one_node_model("EmbedLayerNormalization", [ids, None, *tables], domain="com.microsoft")
    feeds = {f"x{i}": a for i, a in enumerate([ids, None, *tables]) if a is not None}
    with pytest.raises(IndexFault):
        run_evaluator(model, feeds)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("activation", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_group_norm(groups: int, activation: int, last: int) -> None:
    x, scale, bias = draw(2, 8, 5, 3), draw(8), draw(8)
    grouped = x.astype(np.float64).reshape(2, groups, -1)
    normal = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-4)
    y = normal.reshape(x.shape) * scale.reshape(8, 1, 1) + bias.reshape(8, 1, 1)
    y = y / (1 + np.exp(-y)) if activation else y
    if last:
        x, y = (np.ascontiguousarray(np.moveaxis(array, 1, -1)) for array in (x, y))
    attributes = {"groups": groups, "activation": activation, "epsilon": 1e-4}
    attributes |= {} if last else {"channels_last": 0}
    check_contrib(
        "GroupNorm", [x, scale, bias], Work.NORMALIZATION, 1, attributes, expected=[y.astype(np.float32)]
    )
