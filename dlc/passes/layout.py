"""Layout assignment: blocked channels through the convolutional parts of a graph.

A convolution computes 16 output channels in the lanes of a vector, so its operands lie best as N C/16 H W 16.
The layout spreads from convolutions over whatever can work in it: pointwise operators, pooling, resizing,
concatenation of channels. Where it ends, a Relayout stands. Padding becomes a halo in the buffer of the
convolution's input, written by its producer, so that the convolution's loops have no borders.

before: %y = Conv(%x, %w) : f32[n, 64, 56, 56]; %z = Reshape(%y)
after:  %x1 = Relayout(%x) : <0.1.2.3.1b16 halo(2, 1, 1, zero) ...>; %y = Conv(%x1, %w) : <0.1.2.3.1b16>;
        %y1 = Relayout(%y); %z = Reshape(%y1)
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.convolution import Conv, ConvTranspose, Pool
from dlc.ir.ops.layout import Relayout
from dlc.ir.ops.movement import Concat
from dlc.ir.ops.normalization import BatchNorm
from dlc.ir.ops.pointwise import Activation, Binary, Clip, Compare, Unary, Where
from dlc.ir.ops.reduction import Reduce
from dlc.ir.types import UNDEFINED, ZERO, Halo, Layout, blocked_channels
from dlc.passes.layout_regions import Regions, same_shape
from dlc.passes.pass_base import Numerics, Pass, Statistics

BLOCK = 16


@dataclasses.dataclass(frozen=True)
class AssignLayouts(Pass):
    """Give the values of convolutional regions blocked layouts.

    `min_channels`: a convolution with fewer input channels reads its input row-major (an image), with a halo.
    """

    name: ClassVar[str] = "assign-layouts"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    min_channels: int = 8

    def apply(self, graph: Graph) -> Statistics:
        """Assign layouts in place; counts the values that got one."""
        statistics = Statistics()
        statistics.rewrites["blocked"] = _Blocked(graph, self.min_channels).run()
        return statistics


def direct_convolution(node: Node) -> bool:
    """Whether the blocked convolution templates take this node."""
    if not isinstance(node.op, Conv | ConvTranspose):
        return False
    x, w = node.operands[0].tensor, node.operands[1]
    if x.dtype is not DType.F32 or not w.is_constant or not 3 <= x.rank <= 5:
        return False
    channels, outputs, groups = x.shape[1], node.outputs[0].tensor.shape[1], node.op.groups
    if not isinstance(channels, int) or not isinstance(outputs, int):
        return False
    if any(not isinstance(pad, int) for pair in node.op.pads for pad in pair):
        return False
    if isinstance(node.op, ConvTranspose):
        return groups == 1 and all(isinstance(extra, int) for extra in node.op.output_padding)
    if groups == 1:
        return True
    if groups == channels == outputs:
        return True
    return (channels // groups) % BLOCK == 0 and (outputs // groups) % BLOCK == 0


_POINTWISE = (Unary, Activation, Clip, Binary, Where, Compare)


class _Blocked(Regions):
    """Regions of blocked channels."""

    def __init__(self, graph: Graph, min_channels: int) -> None:
        super().__init__(graph)
        self.min_channels = min_channels

    def takes(self, node: Node) -> bool:
        if any(value.tensor.dtype is not DType.F32 for value in node.outputs):
            return False
        match node.op:
            case Conv() | ConvTranspose():
                return direct_convolution(node)
            case Pool(indices=False):
                return node.operands[0] in self.inside
            case BatchNorm():
                return node.operands[0] in self.inside
            case Concat(axis=1):
                return all(value in self.inside for value in node.operands) and all(
                    isinstance(value.tensor.shape[1], int) and value.tensor.shape[1] % BLOCK == 0
                    for value in node.operands
                )
        if isinstance(node.op, _POINTWISE):
            return self._pointwise(node)
        return False

    def _pointwise(self, node: Node) -> bool:
        """A pointwise operator follows a blocked operand of its own shape, if the others can be read beside
        it.
        """
        shape = node.outputs[0].tensor.shape
        if len(shape) < 3 or any(value.tensor.dtype is DType.BOOL for value in node.operands):
            return False
        found = False
        for value in node.operands:
            if same_shape(value.tensor.shape, shape):
                found |= value in self.inside
            elif not _channelwise(value.tensor.shape, shape):
                return False
        return found

    def layout(self, value: Value) -> Layout:
        """Blocked channels, with the halo that the convolutions reading `value` need."""
        rank = value.tensor.rank
        before, after = [0] * rank, [0] * rank
        for user in value.uses:
            if user.operands[0] is value:
                for axis, (low, high) in enumerate(padding(user), start=2):
                    before[axis], after[axis] = max(before[axis], low), max(after[axis], high)
        halos = tuple(
            Halo(axis, before[axis], after[axis], ZERO) for axis in range(rank) if before[axis] or after[axis]
        )
        return blocked_channels(rank, BLOCK, halos, pad=ZERO)

    def wanted(self, node: Node, position: int, value: Value, is_inside: bool) -> Layout | None:
        layout = value.tensor.layout
        if isinstance(node.op, Conv | ConvTranspose) and is_inside and position == 0:
            return layout if layout is not None else self._convolution_input(node, value)
        if is_inside and layout is None and same_shape(value.tensor.shape, node.outputs[0].tensor.shape):
            return blocked_channels(value.tensor.rank, BLOCK, pad=ZERO)
        if is_inside or layout is None or isinstance(node.op, Relayout):
            return layout
        if isinstance(node.op, Reduce) and all(axis >= 2 for axis in node.op.axes):
            return layout
        return None

    def _convolution_input(self, node: Node, value: Value) -> Layout | None:
        """The layout of a plain value that a blocked convolution reads."""
        rank = value.tensor.rank
        halos = tuple(
            Halo(axis, low, high, ZERO)
            for axis, (low, high) in enumerate(padding(node), start=2)
            if low or high
        )
        channels = value.tensor.shape[1]
        if (
            isinstance(node.op, Conv)
            and node.op.groups == 1
            and isinstance(channels, int)
            and channels < self.min_channels
        ):
            return Layout(tuple((axis, None) for axis in range(rank)), halos, UNDEFINED) if halos else None
        return blocked_channels(rank, BLOCK, halos, pad=ZERO)


def padding(node: Node) -> list[tuple[int, int]]:
    """Elements beyond either end of each spatial axis that a convolution reads; empty for other operators."""
    if not direct_convolution(node):
        return []
    if isinstance(node.op, Conv):
        return [(low, high) for low, high in node.op.pads if isinstance(low, int) and isinstance(high, int)]
    assert isinstance(node.op, ConvTranspose)
    op, taps = node.op, node.operands[1].tensor.shape[2:]
    reach = []
    for axis, stride in enumerate(op.strides):
        (before, after), tap, dilation = op.pads[axis], taps[axis], op.dilations[axis]
        extra = op.output_padding[axis]
        assert isinstance(before, int) and isinstance(after, int)
        assert isinstance(tap, int) and isinstance(extra, int)
        # Output position q reads inputs (q + before - k * dilation) / stride for the kernel positions k.
        low = max(0, -((before - (tap - 1) * dilation) // stride))
        # The last output is at (extent - 1) * stride + (tap - 1) * dilation - before - after + extra.
        high = max(0, ((tap - 1) * dilation - after + extra) // stride)
        reach.append((low, high))
    return reach


def _channelwise(shape: tuple[Dim, ...], whole: tuple[Dim, ...]) -> bool:
    """Whether an operand varies along batch and channels at most."""
    padded = (*[1] * (len(whole) - len(shape)), *shape)
    return len(shape) <= len(whole) and all(extent == 1 for extent in padded[2:])
