"""Philox against the authors' known answers, and its native code against the evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import Graph
from dlc.ir.operator import Array, InferenceError
from dlc.ir.ops.random import Random, philox
from dlc.ir.types import TensorType
from dlc.verify.tolerances import Work
from tests.helpers.native import check_native

#: Counter, key and result of ten rounds, from the file kat_vectors of Random123 1.14.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (1 << 64) - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0_A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def bits(shape: tuple[int, ...], key: int = 1, draw: int = 0, second: bool = False) -> Array:
    """What Random evaluates to."""
    (result,) = Random(shape, key, draw, second).evaluate([], int)
    return result


@pytest.mark.parametrize("counter, key, words", KNOWN_ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: int, words: tuple[int, ...]) -> None:
    assert tuple(int(word) for word in philox([np.uint64(word) for word in counter], key)) == words


def test_the_counter_is_position_and_draw() -> None:
    (x0, x1, x2, x3) = (int(word) for word in philox([np.uint64(w) for w in (5, 0, 7, 2)], 99))
    draw = 7 + (2 << 32)
    assert bits((2, 3), 99, draw)[1, 2] == x0 | x1 << 32
    assert bits((2, 3), 99, draw, second=True)[1, 2] == x2 | x3 << 32
    assert bits((), 99, draw).shape == ()


def test_everything_that_ought_to_matter_does() -> None:
    tensors = [bits((1000,), *rest) for rest in ((1,), (2,), (1, 1), (1, 0, True), (1 << 32,), (1, 1 << 32))]
    numbers = np.concatenate(tensors)
    assert len(np.unique(numbers)) == len(numbers)
    np.testing.assert_array_equal(bits((10, 100)).reshape(-1), bits((1000,)))


def test_bits_are_even_and_independent() -> None:
    # Each bit of 100,000 elements is set in half of them, +- 5 standard deviations, and so is each pair.
    words = bits((100_000,))
    columns = (words[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).astype(np.float64) * 2 - 1
    assert np.abs(columns.mean(0)).max() < 5 / np.sqrt(len(words))
    pairs = columns.T @ columns / len(words)
    assert np.abs(pairs - np.eye(64)).max() < 5 / np.sqrt(len(words))
    assert abs((columns[1:] * columns[:-1]).mean()) < 5 / np.sqrt(columns.size)


def test_types() -> None:
    n = Symbol("n", lo=0)
    assert Random((n, 3), 1).infer([]) == (TensorType(DType.U64, (n, 3)),)
    with pytest.raises(InferenceError, match="negative"):
        Random((-1,), 1).infer([])
    with pytest.raises(InferenceError, match="none are needed"):
        Random((2,), 1).infer([TensorType(DType.F32, ())])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (37,), (5, 7), (3, 1, 17)])
@pytest.mark.parametrize("second", [False, True])
def test_native(shape: tuple[int, ...], second: bool) -> None:
    check_native(Random(shape, 0x9E3779B97F4A7C15, 3 << 33 | 5, second), work=Work.EXACT)


def test_graphs_with_random_numbers_are_repeatable() -> None:
    graph = Graph()
    graph.add_output(GraphBuilder(graph).add(Random((4,), 7)), "y")
    np.testing.assert_array_equal(evaluate(graph, {})["y"], bits((4,), 7))
