"""Tree ensembles by generated functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.binary import compile_function
from dlc.backends.triton.select import GpuKernel
from dlc.frontend.onnx.forest import Canonical
from dlc.ir.ops.trees import TreeEnsemble
from dlc.target import resolve_gpu
from tests.backends.cpu.templates.test_trees import forest
from tests.helpers.gpu_nodes import GpuNode


def node(trees: Canonical, targets: int, features: int, rows: int, aggregate: str = "sum") -> GpuNode:
    operands = [trees.roots, trees.feature, trees.threshold, trees.child, trees.missing]
    operands += [trees.first, trees.target, trees.weight]
    rng = np.random.default_rng(1)
    x = np.round(rng.standard_normal((rows, features)), 1).astype(trees.weight.dtype)
    x[rng.random(x.shape) < 0.1] = np.nan
    operator = TreeEnsemble(targets, aggregate, trees.depth, trees.uniform)
    return GpuNode(operator, x, *operands, constants=range(1, 9))


def check(one: GpuNode) -> None:
    ((got,), (want,)) = one.run(), one.expected()
    np.testing.assert_array_equal(got, want)
    assert one.templates == ["tree_leaves", "tree_votes"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("votes", ["tree", "one", "all", "some"])
@pytest.mark.parametrize("aggregate", ["sum", "min", "max"])
def test_votes(dtype: Any, votes: str, aggregate: str) -> None:
    check(node(forest(5, 3, 6, dtype, targets=3, votes=votes), 3, 6, 29, aggregate))


@pytest.mark.parametrize("trees", [1, 16, 17])
@pytest.mark.parametrize("rows", [1, 64])
def test_numbers_of_trees_and_rows(trees: int, rows: int) -> None:
    check(node(forest(trees, 2, 4, np.float32), 1, 4, rows))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_numbers(dtype: Any) -> None:
    check(node(forest(4, 4, 5, dtype, missing=True), 1, 5, 50))


def test_lopsided_trees_and_wide_nodes() -> None:
    check(node(forest(3, 20, 8, np.float32, lopsided=True), 1, 8, 40))
    check(node(forest(2, 2, 40000, np.float32), 1, 40000, 5))


@pytest.mark.parametrize(
    ("dtype", "votes", "capability"), [(np.float32, "some", 80), (np.float64, "all", 90)]
)
def test_compiles(dtype: Any, votes: str, capability: int) -> None:
    one = node(forest(5, 3, 6, dtype, targets=3, votes=votes, missing=True), 3, 6, 29)
    for kernel in one.code.kernels:
        assert isinstance(kernel, GpuKernel)
        for call in kernel.calls:
            assert compile_function(call.function, resolve_gpu(f"cuda:sm_{capability}")).code
