"""3x3 convolutions by Winograd's algorithm: transforms, every geometry, both ways to share the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlc
from dlc.backends.cpu.templates.winograd_transform import apply, transform
from dlc.target import native, resolve
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance

Array: TypeAlias = "np.ndarray[Any, Any]"

TARGETS = [name for name in ("native", "x86-64-v3") if resolve(name).runs_on(native())]

#: Channels, height, width, output channels, dilations, batch.
GEOMETRIES: Mapping[str, tuple[int, int, int, int, tuple[int, int], int]] = {
    "whole tiles": (32, 16, 24, 32, (1, 1), 1),
    "cut rows": (32, 15, 16, 32, (1, 1), 1),
    "cut columns": (32, 16, 14, 32, (1, 1), 2),
    "one column less than a tile": (32, 9, 3, 32, (1, 1), 1),
    "channels of a part of a block": (40, 12, 12, 24, (1, 1), 1),
    "one block of outputs": (64, 20, 12, 16, (1, 1), 3),
    "three blocks of outputs": (32, 12, 12, 48, (1, 1), 1),
    "dilated": (32, 17, 16, 32, (2, 2), 1),
    "dilated along one axis": (32, 11, 20, 32, (1, 3), 2),
    "many strips": (32, 60, 52, 32, (1, 1), 1),
    "large weights": (192, 14, 14, 192, (1, 1), 1),
}


class _Numbers:
    """Stands in for a function builder, on numbers."""

    def __getattr__(self, name: str) -> Any:
        return {
            "fadd": lambda a, b: Number(a + b),
            "fsub": lambda a, b: Number(a - b),
            "fmul": lambda a, b: Number(a * b),
            "fma": lambda a, b, c: Number(a * b + c),
            "const": lambda _, c: c,
        }[name]


class Number(float):
    """A value of the stand-in."""

    type = None


@pytest.mark.parametrize("outputs", [2, 4])
def test_the_matrices_filter(outputs: int) -> None:
    f = transform(outputs)
    generator = np.random.default_rng(outputs)
    x, w = generator.standard_normal(f.points), generator.standard_normal(3)
    inputs, weights, result = (np.array(rows, float) for rows in (f.input, f.weight, f.output))
    expected = [x[i : i + 3] @ w for i in range(outputs)]
    np.testing.assert_allclose(result @ ((weights @ w) * (inputs @ x)), expected, rtol=1e-12, atol=1e-12)
    kernels = generator.standard_normal((9, 5))
    expected = np.einsum("ak,kln,bl->abn", weights, kernels.reshape(3, 3, 5), weights)
    np.testing.assert_allclose(f.weights(kernels), expected.reshape(-1, 5), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("outputs", [2, 4])
def test_shared_sums_are_the_matrix_product(outputs: int) -> None:
    f = transform(outputs)
    for matrix in (f.input, f.output):
        values = np.random.default_rng(0).standard_normal(len(matrix[0]))
        found = apply(_Numbers(), matrix, [Number(v) for v in values])  # type: ignore[arg-type, list-item]
        np.testing.assert_allclose(
            np.array(found, float), np.array(matrix, float) @ values, rtol=1e-12, atol=1e-12
        )


def model(
    channels: int, outputs: int, shape: list[int | str], dilations: tuple[int, int] = (1, 1)
) -> onnx.ModelProto:
    """relu(conv(x, w) + b + r), same-padded, r of the output's shape."""
    generator = np.random.default_rng(7)
    weights = generator.standard_normal((outputs, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
    first, second = dilations
    nodes = [
        helper.make_node(
            "Conv", ["x", "w", "b"], ["c"], pads=[first, second] * 2, dilations=[first, second]
        ),
        helper.make_node("Add", ["c", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    batch, *extents = shape
    graph = helper.make_graph(
        nodes,
        "convolution",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, channels, *extents]),
            helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, [batch, outputs, *extents]),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, outputs, *extents])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "w"),
            numpy_helper.from_array(generator.standard_normal(outputs).astype(np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def inputs(channels: int, outputs: int, batch: int, height: int, width: int) -> dict[str, Array]:
    """Random numbers for `model`."""
    generator = np.random.default_rng(3)
    return {
        "x": generator.standard_normal((batch, channels, height, width)).astype(np.float32),
        "r": generator.standard_normal((batch, outputs, height, width)).astype(np.float32),
    }


def exact(proto: onnx.ModelProto, feeds: Mapping[str, Array], dilations: tuple[int, int]) -> Array:
    """The output in float64."""
    w, b = (numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer)
    x = feeds["x"].astype(np.float64)
    (first, second), (height, width) = dilations, x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (first, first), (second, second)))
    y = feeds["r"] + b[:, None, None]
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i * first :, j * second :][:, :, :height, :width]
            y = y + np.einsum("oc,nchw->nohw", w[:, :, i, j], window)
    return np.maximum(y, 0)


def templates(compiled: dlc.CompiledModel) -> list[str]:
    """The templates of the convolutions among the kernels."""
    return [k.template for k in compiled.report().kernels if k.template in ("winograd", "convolution")]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("symbolic", [False, True])
def test_geometries(name: str, symbolic: bool, target: str) -> None:
    channels, height, width, outputs, dilations, batch = GEOMETRIES[name]
    proto = model(channels, outputs, ["n", "h", "w"] if symbolic else ["n", height, width], dilations)
    feeds = inputs(channels, outputs, batch, height, width)
    with dlc.compile(proto, target=target, cache=False, threads=1) as compiled:
        assert set(templates(compiled)) == {"winograd"}
        found = compiled(feeds)["y"]
        many = {key: np.concatenate([value, value]) for key, value in feeds.items()}
        assert np.array_equal(compiled(many)["y"][batch:], found), "depends on the place in the batch"
    wanted = exact(proto, feeds, dilations).astype(np.float32)
    difference = compare_arrays("y", found, wanted, tolerance(wanted.dtype, Work.WINOGRAD))
    assert difference.agrees, difference


@pytest.mark.parametrize("name", ["cut rows", "dilated along one axis", "many strips", "large weights"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_accesses_stay_in_bounds(name: str, symbolic: bool) -> None:
    channels, height, width, outputs, dilations, batch = GEOMETRIES[name]
    proto = model(channels, outputs, ["n", "h", "w"] if symbolic else ["n", height, width], dilations)
    feeds = inputs(channels, outputs, batch, height, width)
    results = []
    for debug in (False, True):
        with dlc.compile(proto, cache=False, threads=1, debug_codegen=debug) as compiled:
            results.append(compiled(feeds)["y"])
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", ["many strips", "large weights"])
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    channels, height, width, outputs, dilations, batch = GEOMETRIES[name]
    proto = model(channels, outputs, ["n", height, width], dilations)
    feeds = inputs(channels, outputs, batch, height, width)
    results = []
    for threads in (1, 2, 3, 7):
        with dlc.compile(proto, cache=False, threads=threads) as compiled:
            results.append(compiled(feeds)["y"])
    assert all(np.array_equal(result, results[0]) for result in results)


def test_inputs_of_large_weights_are_transformed_once() -> None:
    channels, height, width, outputs, dilations, _ = GEOMETRIES["large weights"]
    with dlc.compile(model(channels, outputs, ["n", height, width], dilations), cache=False) as compiled:
        functions = [k.function for k in compiled.report().kernels if k.template == "winograd"]
    assert len(functions) == 2 and functions[0] == f"{functions[1]}_inputs"


@pytest.mark.parametrize("options", [{"accuracy": "strict"}, {"memory": "low"}])
def test_direct_sums_on_request(options: dict[str, Any]) -> None:
    proto = model(64, 64, ["n", 28, 28])
    with dlc.compile(proto, cache=False, **options) as compiled:
        assert templates(compiled) == ["convolution"]


def test_special_values_stay_in_their_tiles() -> None:
    """An infinity or NaN spoils no more than the tiles that read it."""
    proto = model(32, 32, ["n", 24, 24])
    feeds = inputs(32, 32, 2, 24, 24)
    with dlc.compile(proto, cache=False, threads=1) as compiled:
        clean = compiled(feeds)["y"]
        feeds["x"][0, 5, 12, 12] = np.nan
        found = compiled(feeds)["y"]
    assert np.isnan(found[0, :, 11:14, 11:14]).all()
    assert np.array_equal(found[1], clean[1])
    assert np.array_equal(found[0, :, :8], clean[0, :, :8])
    assert np.array_equal(found[0, :, 16:], clean[0, :, 16:])
