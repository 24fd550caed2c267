"""3x3 convolutions by Winograd's algorithm: transforms, every geometry, both ways to share the work."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlc
from dlc.backends.cpu.templates.winograd_transform import apply, transform, transform_weights
from dlc.target import native, resolve
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance

Array: TypeAlias = "np.ndarray[Any, Any]"

TARGETS = [name for name in ("native", "x86-64-v3") if resolve(name).runs_on(native())]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A same-padded convolution of 3 taps along each axis, of `extents`."""

    channels: int
    extents: tuple[int, ...]
    outputs: int
    dilations: tuple[int, ...] = (1, 1)
    stride: int = 1
    batch: int = 1

    @property
    def results(self) -> tuple[int, ...]:
        """Extents of the output."""
        return tuple(-(-extent // self.stride) for extent in self.extents)


GEOMETRIES: Mapping[str, Geometry] = {
    "whole tiles": Geometry(32, (16, 24), 32),
    "cut rows": Geometry(32, (15, 16), 32),
    "cut columns": Geometry(32, (16, 14), 32, batch=2),
    "one column less than a tile": Geometry(64, (9, 7), 64),
    "channels of a part of a block": Geometry(40, (12, 12), 24),
    "one block of outputs": Geometry(64, (20, 12), 16, batch=3),
    "three blocks of outputs": Geometry(32, (12, 12), 48),
    "dilated": Geometry(32, (17, 16), 32, (2, 2)),
    "dilated along one axis": Geometry(32, (11, 20), 32, (1, 3), batch=2),
    "many strips": Geometry(32, (60, 52), 32),
    "large weights": Geometry(192, (14, 14), 192),
    "every second position": Geometry(64, (32, 48), 64, stride=2),
    "every second of odd extents": Geometry(72, (27, 33), 64, stride=2, batch=2),
    "planes": Geometry(32, (5, 12, 16), 32, (1, 1, 1)),
    "planes, cut and dilated": Geometry(40, (6, 9, 14), 32, (2, 1, 1), batch=2),
    "every second plane": Geometry(64, (5, 32, 17), 64, (1, 1, 1), stride=2),
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
@pytest.mark.parametrize("taps", [2, 3])
def test_the_matrices_filter(outputs: int, taps: int) -> None:
    f = transform(outputs, taps)
    generator = np.random.default_rng(outputs)
    for count, part in ((taps, f.taps), (1, f.single)):
        x, w = generator.standard_normal(part.inputs), generator.standard_normal(count)
        inputs, weights, result = (np.array(rows, float) for rows in (part.input, part.weight, f.output))
        found = result[:, : part.products] @ ((weights @ w) * (inputs @ x))
        expected = [x[i : i + count] @ w for i in range(outputs)]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        kernels = generator.standard_normal((count * taps, 5))
        other = np.array(f.taps.weight, float)
        expected = np.einsum("ak,kln,bl->abn", weights, kernels.reshape(count, taps, 5), other)
        np.testing.assert_allclose(
            transform_weights(part, f.taps, kernels), expected.reshape(-1, 5), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("taps", [2, 3])
def test_shared_sums_are_the_matrix_product(outputs: int, taps: int) -> None:
    f = transform(outputs, taps)
    for matrix in (f.taps.input, f.single.input, f.output):
        values = np.random.default_rng(0).standard_normal(len(matrix[0]))
        found = apply(_Numbers(), matrix, [Number(v) for v in values])  # type: ignore[arg-type, list-item]
        np.testing.assert_allclose(
            np.array(found, float), np.array(matrix, float) @ values, rtol=1e-12, atol=1e-12
        )


def model(geometry: Geometry, symbolic: bool = False) -> onnx.ModelProto:
    """relu(conv(x, w) + b + r), r of the output's shape; extents `symbolic`, those of r too."""
    g, rank = geometry, len(geometry.extents)
    generator = np.random.default_rng(7)
    weights = generator.standard_normal((g.outputs, g.channels, *[3] * rank))
    weights *= np.sqrt(2 / (3**rank * g.channels))
    nodes = [
        helper.make_node(
            "Conv",
            ["x", "w", "b"],
            ["c"],
            pads=[*g.dilations] * 2,
            dilations=list(g.dilations),
            strides=[g.stride] * rank,
        ),
        helper.make_node("Add", ["c", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    before: list[str | int] = [f"e{i}" for i in range(rank)] if symbolic else list(g.extents)
    after: list[str | int] = [f"r{i}" for i in range(rank)] if symbolic else list(g.results)
    tensor = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "convolution",
        [
            helper.make_tensor_value_info("x", tensor, ["n", g.channels, *before]),
            helper.make_tensor_value_info("r", tensor, ["n", g.outputs, *after]),
        ],
        [helper.make_tensor_value_info("y", tensor, ["n", g.outputs, *after])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "w"),
            numpy_helper.from_array(generator.standard_normal(g.outputs).astype(np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def inputs(g: Geometry) -> dict[str, Array]:
    """Random numbers for `model`."""
    generator = np.random.default_rng(3)
    return {
        "x": generator.standard_normal((g.batch, g.channels, *g.extents)).astype(np.float32),
        "r": generator.standard_normal((g.batch, g.outputs, *g.results)).astype(np.float32),
    }


def exact(proto: onnx.ModelProto, g: Geometry, feeds: Mapping[str, Array]) -> Array:
    """The output in float64."""
    w, b = (numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer)
    ones = (1,) * len(g.extents)
    padded = np.pad(feeds["x"].astype(np.float64), ((0, 0), (0, 0), *((d, d) for d in g.dilations)))
    y = feeds["r"] + b.reshape(-1, *ones)
    for tap in itertools.product(range(3), repeat=len(g.extents)):
        starts = (t * d for t, d in zip(tap, g.dilations, strict=True))
        places = (slice(s, s + e, g.stride) for s, e in zip(starts, g.extents, strict=True))
        window = padded[(..., *places)]
        y = y + np.einsum("oc,nc...->no...", w[(slice(None), slice(None), *tap)], window)
    return np.maximum(y, 0)


def templates(compiled: dlc.CompiledModel) -> list[str]:
    """The templates of the convolutions among the kernels."""
    return [k.template for k in compiled.report().kernels if k.template in ("winograd", "convolution")]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("symbolic", [False, True])
def test_geometries(name: str, symbolic: bool, target: str) -> None:
    geometry = GEOMETRIES[name]
    proto, feeds = model(geometry, symbolic), inputs(geometry)
    with dlc.compile(proto, target=target, cache=False, threads=1) as compiled:
        assert set(templates(compiled)) == {"winograd"}
        found = compiled(feeds)["y"]
        many = {key: np.concatenate([value, value]) for key, value in feeds.items()}
        assert np.array_equal(compiled(many)["y"][geometry.batch :], found), "depends on the batch"
    wanted = exact(proto, geometry, feeds).astype(np.float32)
    difference = compare_arrays("y", found, wanted, tolerance(wanted.dtype, Work.WINOGRAD))
    assert difference.agrees, difference


@pytest.mark.parametrize(
    "name",
    [
        "cut rows",
        "dilated along one axis",
        "many strips",
        "large weights",
        "every second of odd extents",
        "planes, cut and dilated",
    ],
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_accesses_stay_in_bounds(name: str, symbolic: bool) -> None:
    geometry = GEOMETRIES[name]
    proto, feeds = model(geometry, symbolic), inputs(geometry)
    results = []
    for debug in (False, True):
        with dlc.compile(proto, cache=False, threads=1, debug_codegen=debug) as compiled:
            results.append(compiled(feeds)["y"])
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", ["many strips", "large weights"])
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    proto, feeds = model(GEOMETRIES[name]), inputs(GEOMETRIES[name])
    results = []
    for threads in (1, 2, 3, 7):
        with dlc.compile(proto, cache=False, threads=threads) as compiled:
            results.append(compiled(feeds)["y"])
    assert all(np.array_equal(result, results[0]) for result in results)


def test_inputs_of_large_weights_are_transformed_once() -> None:
    with dlc.compile(model(GEOMETRIES["large weights"]), cache=False) as compiled:
        functions = [k.function for k in compiled.report().kernels if k.template == "winograd"]
    assert len(functions) == 2 and functions[0] == f"{functions[1]}_inputs"


@pytest.mark.parametrize("options", [{"accuracy": "strict"}, {"memory": "low"}])
def test_direct_sums_on_request(options: dict[str, Any]) -> None:
    with dlc.compile(model(Geometry(64, (28, 28), 64)), cache=False, **options) as compiled:
        assert templates(compiled) == ["convolution"]


def test_special_values_stay_in_their_tiles() -> None:
    """A NaN spoils no more than the tiles that read it."""
    geometry = Geometry(32, (24, 24), 32, batch=2)
    feeds = inputs(geometry)
    with dlc.compile(model(geometry), cache=False, threads=1) as compiled:
        clean = compiled(feeds)["y"]
        feeds["x"][0, 5, 12, 12] = np.nan
        found = compiled(feeds)["y"]
    assert np.isnan(found[0, :, 11:14, 11:14]).all()
    assert np.array_equal(found[1], clean[1])
    assert np.array_equal(found[0, :, :8], clean[0, :, :8])
    assert np.array_equal(found[0, :, 16:], clean[0, :, 16:])
