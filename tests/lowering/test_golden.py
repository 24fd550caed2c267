"""Kernels that the language has to be good for: as text, sound, and with the meaning they should have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.errors import IndexFault
from dlc.ir.dims import Guard, Relation, Symbol
from dlc.lowering.canonical import canonical_kernel, structural_hash
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Access, Kernel
from dlc.lowering.parse import parse
from dlc.lowering.schedule import parse_schedule, schedule_text, verify_schedule
from dlc.lowering.text import kernel_symbols, to_text
from dlc.lowering.verify import verify_kernel
from tests.lowering.kernels import poisoned

Array: TypeAlias = "np.ndarray[Any, Any]"

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem != "winograd_schedule")
GUARDS = {
    "cache_append": [Guard(Relation.LE, Symbol("new") + Symbol("past"), 128, "the cache has 128 places")],
}


def golden(name: str) -> Kernel:
    return parse((FOLDER / f"{name}.txt").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_text(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()
    assert to_text(parse(text)) == text
    assert len(text.splitlines()) <= 34


@pytest.mark.parametrize("name", NAMES)
def test_soundness(name: str) -> None:
    verify_kernel(golden(name), GUARDS.get(name, ()))


@pytest.mark.parametrize("name", NAMES)
def test_canonical_form(name: str) -> None:
    kernel = golden(name)
    canonical = canonical_kernel(kernel)
    verify_kernel(canonical, GUARDS.get(name, ()))
    assert canonical_kernel(canonical) == canonical
    assert structural_hash(canonical) == structural_hash(kernel)
    assert parse(to_text(canonical)) == canonical


def run(
    name: str, arrays: Mapping[str, Array], symbols: Mapping[str, int], wide: bool = False
) -> dict[str, Array]:
    """The parameters after the kernel has run on `arrays`; what is only written begins as NaN."""
    kernel = golden(name)
    held = {p.name: poisoned(p.type, symbols) for p in kernel.params if p.access is not Access.READ}
    held |= {key: array.copy() for key, array in arrays.items()}
    evaluate_kernel(kernel, held, symbols, wide=wide)
    return held


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(actual: Array, expected: Array) -> None:
    """Within a few hundred units of rounding of the greatest number."""
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * scale)


def convolve(x: Array, weight: Array, stride: int = 1, fill: float = 0.0) -> Array:
    """Same-padded cross-correlation in float64; weight [O, C, K, K], or [C, 1, K, K]: a filter a channel."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    taps = weight.shape[2]
    reach = taps // 2
    padded = np.pad(x, [(0, 0), (0, 0), (reach, reach), (reach, reach)], constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (taps, taps), axis=(2, 3))[
        :, :, ::stride, ::stride
    ]
    if weight.shape[1] == 1:
        return np.einsum("nchwrs,crs->nchw", windows, weight[:, 0])
    return np.einsum("nchwrs,ocrs->nohw", windows, weight)


@pytest.mark.parametrize("size", [(2, 5, 6), (1, 1, 1), (0, 3, 3)])
def test_convolution_with_bias_residual_and_relu(size: tuple[int, int, int]) -> None:
    n, h, w = size
    x, residual = random(n, 24, h, w), random(n, 24, h, w, seed=1)
    weight, bias = random(24, 24, 3, 3, seed=2), random(24, seed=3)
    arrays = {"x": x, "residual": residual, "weight": weight, "bias": bias}
    y = run("conv_bias_residual_relu", arrays, {"n": n, "h": h, "w": w})["y"]
    close(y, np.maximum(convolve(x, weight) + bias.reshape(-1, 1, 1) + residual, 0))


def test_winograd_is_a_schedule_of_the_convolution() -> None:
    kernel = golden("conv_bias_residual_relu")
    text = (FOLDER / "winograd_schedule.txt").read_text()
    schedule = parse_schedule(text, {symbol.name: symbol for symbol in kernel_symbols(kernel)})
    verify_schedule(schedule, kernel)
    assert schedule_text(schedule) == text
    assert dict(schedule.tiles)["p"] == 4 and schedule.template == "winograd"


@pytest.mark.parametrize("size", [(2, 7, 6), (1, 1, 1)])
def test_depthwise_convolution(size: tuple[int, int, int]) -> None:
    n, h, w = size
    x, weight = random(n, 40, h, w), random(40, 1, 5, 5, seed=1)
    y = run("depthwise_conv", {"x": x, "weight": weight}, {"n": n, "h": h, "w": w})["y"]
    total = convolve(x, weight, stride=2)
    close(y, total / (1 + np.exp(-total)))


def test_inverted_residual() -> None:
    x = random(2, 24, 5, 4)
    shapes = {
        "expand": (144, 24),
        "expand_bias": (144,),
        "depthwise": (144, 3, 3),
        "depthwise_bias": (144,),
        "project": (24, 144),
        "project_bias": (24,),
    }
    p = {name: random(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items(), start=1)}
    y = run("inverted_residual", {"x": x, **p}, {"n": 2, "h": 5, "w": 4})["y"]
    inner = convolve(x, p["expand"][:, :, None, None]) + p["expand_bias"].reshape(-1, 1, 1)
    inner = np.clip(inner, 0, 6)
    outer = convolve(inner, p["depthwise"][:, None]) + p["depthwise_bias"].reshape(-1, 1, 1)
    narrow = convolve(np.clip(outer, 0, 6), p["project"][:, :, None, None])
    close(y, narrow + p["project_bias"].reshape(-1, 1, 1) + x)


@pytest.mark.parametrize("size", [(3, 7), (1, 1), (0, 4), (2, 1000)])
def test_layer_norm_over_a_symbolic_row(size: tuple[int, int]) -> None:
    rows, width = size
    x, scale, shift = random(rows, width), random(width, seed=1), random(width, seed=2)
    y = run("layer_norm", {"x": x, "scale": scale, "shift": shift}, {"rows": rows, "width": width})["y"]
    wide = x.astype(np.float64)
    centered = wide - wide.mean(axis=1, keepdims=True)
    close(y, centered / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5) * scale + shift)


def test_wide_evaluation_rounds_only_what_is_stored() -> None:
    x, scale, shift = random(4, 50) * np.float32(100), random(50, seed=1), random(50, seed=2)
    y = run("layer_norm", {"x": x, "scale": scale, "shift": shift}, {"rows": 4, "width": 50}, wide=True)["y"]
    wide = x.astype(np.float64)
    centered = wide - wide.mean(axis=1, keepdims=True)
    epsilon = float(np.float32(1e-5))
    expected = centered / np.sqrt(wide.var(axis=1, keepdims=True) + epsilon) * scale + shift
    np.testing.assert_array_equal(y, expected.astype(np.float32))


@pytest.mark.parametrize(("past", "new"), [(3, 5), (0, 4), (6, 1)])
def test_grouped_query_attention_with_a_past(past: int, new: int) -> None:
    queries, total = 3, past + new
    symbols = {"batch": 2, "queries": queries, "past": past, "new": new}
    q = random(2, 8, queries, 16)
    keys, values = random(2, 2, total, 16, seed=1), random(2, 2, total, 12, seed=2)
    mask = np.random.default_rng(3).random((2, 1, queries, total)) < 0.7
    mask[1, 0, 2] = False
    arrays = {
        "q": q,
        "past_k": keys[:, :, :past],
        "k": keys[:, :, past:],
        "past_v": values[:, :, :past],
        "v": values[:, :, past:],
        "mask": mask,
    }
    y = run("grouped_query_attention", arrays, symbols)["y"]
    repeated_keys, repeated_values = (np.repeat(t.astype(np.float64), 4, axis=1) for t in (keys, values))
    scores = np.where(mask, q.astype(np.float64) @ repeated_keys.swapaxes(2, 3) / 4, -np.inf)
    peak = np.maximum(scores.max(axis=-1, keepdims=True), -1e30)
    weights = np.exp(scores - peak)
    sums = weights.sum(axis=-1, keepdims=True)
    close(y, np.where(sums == 0, 0, weights @ repeated_values / np.where(sums == 0, 1, sums)))
    assert (y[1, :, 2] == 0).all()


def test_a_cache_is_appended_to_in_place() -> None:
    from dlc.ir.dtypes import DType

    cache = random(2, 4, 128, 64).astype(DType.BF16.numpy)
    k = random(2, 4, 3, 64, seed=1).astype(DType.BF16.numpy)
    after = run("cache_append", {"cache": cache, "k": k}, {"batch": 2, "new": 3, "past": 17})["cache"]
    expected = cache.copy()
    expected[:, :, 17:20] = k
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("time", [6, 1, 0])
def test_lstm_over_time(time: int) -> None:
    x, h, c = random(time, 3, 16), random(3, 32, seed=1), random(3, 32, seed=2)
    w, r, bias = random(128, 16, seed=3), random(128, 32, seed=4), random(128, seed=5)
    arrays = {"x": x, "w": w, "r": r, "bias": bias, "h0": h, "c0": c}
    results = run("lstm", arrays, {"batch": 3, "time": time})

    def sigmoid(a: Array) -> Array:
        return 1 / (1 + np.exp(-a))

    rows = []
    hidden, cell = h.astype(np.float64), c.astype(np.float64)
    for step in range(time):
        i, o, f, g = np.split(x[step] @ w.T.astype(np.float64) + hidden @ r.T + bias, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        rows.append(hidden)
    close(results["y"], np.stack(rows) if rows else np.zeros((0, 3, 32)))
    close(results["y_h"], hidden)
    close(results["y_c"], cell)


def test_quantized_convolution() -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (2, 8, 14, 14)).astype(np.uint8)
    weight = generator.integers(-128, 128, (20, 8, 3, 3)).astype(np.int8)
    bias = generator.integers(-5000, 5000, 20).astype(np.int32)
    scale = (generator.random(20) * 0.002 + 0.0005).astype(np.float32)
    y = run("quantized_conv", {"x": x, "weight": weight, "bias": bias, "scale": scale}, {"n": 2})["y"]
    total = convolve(x.astype(np.float64) - 121, weight) + bias.reshape(-1, 1, 1)
    exact = np.rint(total.astype(np.float32) * scale.reshape(-1, 1, 1)) + np.float32(7)
    np.testing.assert_array_equal(y, np.clip(exact, 0, 255).astype(np.uint8))
    assert y.min() == 0 and y.max() == 255


def test_scatter_add_with_duplicates() -> None:
    x, updates = random(5, 6), random(4, 6, seed=1)
    indices = np.array([[1], [-1], [1], [1]])
    y = run("scatter_add", {"x": x, "updates": updates, "indices": indices}, {"n": 5, "count": 4})["y"]
    expected = x.copy()
    for row, update in zip(indices[:, 0], updates):
        expected[row] += update
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("index", [5, -6])
def test_scatter_add_checks_its_indices(index: int) -> None:
    arrays = {"x": random(5, 6), "updates": random(1, 6), "indices": np.array([[index]])}
    with pytest.raises(IndexFault, match=r"outside \[0, 5\)"):
        run("scatter_add", arrays, {"n": 5, "count": 1})


@pytest.mark.parametrize("k", [0, 1, 7, 50])
def test_top_k_with_k_at_run_time(k: int) -> None:
    x = np.random.default_rng(0).integers(0, 20, (3, 50)).astype(np.float32)
    results = run("top_k", {"x": x}, {"rows": 3, "k": k})
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(results["indices"], order)
    np.testing.assert_array_equal(results["values"], np.take_along_axis(x, order, axis=1))


def test_three_producers_share_a_buffer() -> None:
    a, b, c = random(2, 5, 4), random(2, 4, 3, seed=1), random(2, 4, seed=2)
    y = run("concat", {"a": a, "b": b, "c": c}, {"n": 2, "width": 4})["y"]
    expected = np.concatenate([np.maximum(a, 0), b.transpose(0, 2, 1), np.tanh(c)[:, None] * 0.5], axis=1)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
