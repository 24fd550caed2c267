"""Kernels of attention and rotary embedding: options against the operators' own evaluation; their form."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.ir.ops.attention import Attention, RotaryEmbedding
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.kernel import Access, Contract, Map, Reduce, Store
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.split import split_nests
from dlc.verify.tolerances import Work
from tests.lowering.kernels import OneNode, check_rule

Array: TypeAlias = "np.ndarray[Any, Any]"


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Numbers of a normal distribution."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def heads(
    queries: int, keys: int, query_heads: int = 4, key_heads: int = 2, dtype: Any = np.float32
) -> list[Array]:
    """q, k and v of heads of 8 features, with values of 6."""
    return [
        draw(2, query_heads, queries, 8, seed=1, dtype=dtype),
        draw(2, key_heads, keys, 8, seed=2, dtype=dtype),
        draw(2, key_heads, keys, 6, seed=3, dtype=dtype),
    ]


def lower(op: Attention | RotaryEmbedding, *arrays: Array | None) -> LoweredKernel:
    """The kernel of a node on such operands."""
    one = OneNode(op, arrays)
    return lower_node(one.node, Names(one.env))


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    "op",
    [
        Attention(0.35),
        Attention(1.0, causal=True),
        Attention(0.35, softcap=1.5),
        Attention(0.35, left_window=2),
        Attention(0.35, right_window=1),
        Attention(0.35, causal=True, left_window=0, softcap=3.0),
    ],
)
def test_formulas(op: Attention, symbolic: bool) -> None:
    check_rule(op, *heads(3, 7), symbolic=symbolic)
    check_rule(op, *heads(7, 3), symbolic=symbolic)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_element_types(dtype: Any) -> None:
    check_rule(Attention(0.35, causal=True), *heads(3, 7, dtype=dtype))


@pytest.mark.parametrize("query_heads, key_heads", [(4, 4), (4, 2), (4, 1), (6, 3)])
@pytest.mark.parametrize("shape", [(3, 7), (1, 7), (3, 1), (2, 1, 3, 7), (1, 1, 1, 1)])
def test_masks_are_broadcast(query_heads: int, key_heads: int, shape: tuple[int, ...]) -> None:
    operands = heads(3, 7, query_heads, key_heads)
    check_rule(Attention(0.35), *operands, draw(*shape))
    check_rule(Attention(0.35), *operands, draw(*shape) > 0)


@pytest.mark.parametrize("mask", [np.zeros((3, 7), np.bool_), np.full((3, 7), -np.inf, np.float32)])
@pytest.mark.parametrize("output", [None, 2, 3])
def test_nothing_visible_gives_zeros(mask: Array, output: int | None) -> None:
    check_rule(Attention(0.35, qk_output=output), *heads(3, 7), mask)


@pytest.mark.parametrize(
    "op", [Attention(0.35), Attention(0.35, causal=True), Attention(0.35, left_window=1)]
)
def test_lengths_of_padded_keys(op: Attention) -> None:
    for lengths in ([7, 2], [0, 5]):
        check_rule(op, *heads(3, 7), None, None, None, np.array(lengths, np.int64))


@pytest.mark.parametrize("output", [0, 1, 2, 3])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_scores_on_request(output: int, softcap: float) -> None:
    check_rule(Attention(0.35, True, softcap, output), *heads(3, 7), draw(3, 7))
    check_rule(Attention(0.35, True, softcap, output), *heads(3, 7))


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_past_is_stored_before_it_is_read(symbolic: bool) -> None:
    past = [draw(2, 2, 5, 8, seed=4), draw(2, 2, 5, 6, seed=5)]
    lowered = check_rule(Attention(0.35, True), *heads(3, 3), None, *past, symbolic=symbolic)
    *copies, attention = split_nests(lowered)
    assert [len(part.kernel.body) for part in copies] == [1, 1, 1, 1]
    assert all(isinstance(part.kernel.body[0], Store) for part in copies)
    assert {param.access for param in attention.kernel.params[:-1]} == {Access.READ}


def test_attention_is_one_kernel_of_two_products() -> None:
    kernel = lower(Attention(0.35, causal=True), *heads(3, 7)).kernel
    assert [type(stage) for stage in kernel.body] == [Contract, Map, Reduce, Map, Reduce, Contract, Store]
    plain = lower(Attention(1.0), *heads(3, 7)).kernel
    assert [type(stage) for stage in plain.body] == [Contract, Reduce, Map, Reduce, Contract, Store]


def test_heads_that_share_keys_have_an_axis_of_their_own() -> None:
    scores = lower(Attention(0.35), *heads(3, 7)).kernel.body[0]
    assert isinstance(scores, Contract)
    assert len(scores.spec.batch) == 2 and len(scores.spec.rows) == 2


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("width, dim", [(8, 8), (8, 4), (7, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rotary_embedding(interleaved: bool, positions: bool, width: int, dim: int, dtype: Any) -> None:
    x = draw(2, 3, 4, width, dtype=dtype)
    shape = (9, dim // 2) if positions else (2, 4, dim // 2)
    tables = [draw(*shape, seed=seed, dtype=dtype) for seed in (1, 2)]
    where = np.random.default_rng(3).integers(0, 9, (2, 4)) if positions else None
    check_rule(RotaryEmbedding(interleaved, dim), x, *tables, where, work=Work.POINTWISE)


def test_rotated_features_are_one_launch_and_the_others_another() -> None:
    x, table = draw(2, 3, 4, 8), draw(2, 4, 4)
    assert len(split_nests(lower(RotaryEmbedding(False, 8), x, table, table))) == 1
    assert len(split_nests(lower(RotaryEmbedding(False, 4), x, table[:, :, :2], table[:, :, :2]))) == 2
