"""Kernels of random numbers: Philox as expressions, so that what follows is computed with them."""

from __future__ import annotations

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.random import MULTIPLIERS, WORD, Random, round_keys
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast
from dlc.lowering.rules.registry import rule


@rule(Random)
def random(draft: Draft, node: Node) -> None:
    """y[i] is two of the four words that Philox makes of the position of i and the draw."""
    assert isinstance(node.op, Random)
    target, op = node.outputs[0], node.op
    axes = draft.axes_of(target.tensor.shape)
    position: Dim = 0
    for axis, extent in zip(axes, target.tensor.shape, strict=True):
        position = position * extent + axis
    words = _philox([*_words(position), *_words(op.draw)], op.key)[2 * op.second :]
    draft.store(target, axes, binary("or", words[0], binary("shift_left", words[1], 32)))


def _words(number: Dim) -> list[e.Expr]:
    """The low and the high 32 bits of a number."""
    whole = cast(e.Iota(DType.I64, number), DType.U64, e.CastMode.WRAP)
    return [binary("and", whole, WORD), binary("shift_right", whole, 32)]


def _philox(words: list[e.Expr], key: int) -> list[e.Expr]:
    """As dlc.ir.ops.random.philox; words are kept in 64 bits, of which the upper half is 0."""
    for keys in round_keys(key):
        products = [binary("mul", words[2 * i], MULTIPLIERS[i]) for i in (0, 1)]
        high = [binary("shift_right", product, 32) for product in products]
        low = [binary("and", product, WORD) for product in products]
        words = [
            binary("xor", binary("xor", high[1], words[1]), keys[0]),
            low[1],
            binary("xor", binary("xor", high[0], words[3]), keys[1]),
            low[0],
        ]
    return words
