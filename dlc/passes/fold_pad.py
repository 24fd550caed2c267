"""Padding with zeros into the padding of the convolution or pool after it."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim
from dlc.ir.graph import Node
from dlc.ir.ops.convolution import Conv, Pool
from dlc.ir.ops.movement import Pad
from dlc.passes.match import made_by, operand, uniform
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class FoldPad(RewritePass):
    """A Pad of spatial axes with constants becomes padding of the Conv or Pool that reads it.

    Conv takes zeros, a maximum -inf, an average zeros when its window then counts them all.

    Example:

        %p = Pad(before=(0, 0, 1, 1), after=(0, 0, 1, 1), mode="constant")(%x, %zero)
        %y = Conv(..., pads=((0, 0), (0, 0)))(%p, %w)

    becomes

        %y = Conv(..., pads=((1, 1), (1, 1)))(%x, %w)
    """

    name: ClassVar[str] = "fold-pad"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return (pad_into_window,)


@rule(Conv, Pool)
def pad_into_window(node: Node, builder: GraphBuilder) -> Outcome:
    """Conv(Pad(x)) -> Conv(x) with more padding."""
    padded = made_by(operand(node, 0), Pad)
    if padded is None:
        return None
    pad, producer = padded
    if pad.mode != "constant":
        return Decline(f"the padding is not constant but {pad.mode}")
    if any(extent != 0 for extent in (*pad.before[:2], *pad.after[:2])):
        return Decline("batch or channels are padded too")
    fill = producer.inputs[1] if len(producer.inputs) > 1 else None
    number = 0.0 if fill is None else uniform(fill)
    added = tuple(zip(pad.before[2:], pad.after[2:], strict=True))
    op = _widened(node.op, added, number)
    return op if isinstance(op, Decline) else builder.add(op, operand(producer, 0), *node.inputs[1:])


def _widened(op: object, added: tuple[tuple[Dim, Dim], ...], number: float | None) -> Conv | Pool | Decline:
    """The operator with more padding, when it pads with `number` itself."""
    assert isinstance(op, (Conv, Pool))
    pads = tuple((before + more, after + last) for (before, after), (more, last)
                 in zip(op.pads, added, strict=True))
    match op:
        case Conv():
            fits = number == 0
        case Pool(fn="max"):
            fits = number == -math.inf and not op.indices
        case Pool(fn="average"):
            unpadded = all(before == 0 == after for before, after in op.pads)
            fits = number == 0 and not op.ceil_mode and (unpadded or op.count_include_pad)
            op = dataclasses.replace(op, count_include_pad=True)
        case _:
            fits = number == 0 and not op.ceil_mode
    if not fits:
        return Decline(f"{op.name} does not pad with {number}")
    return dataclasses.replace(op, pads=pads)
