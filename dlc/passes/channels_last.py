"""Layout assignment for GPUs: channels last through the convolutional parts of a graph.

A convolution on a GPU is a matrix product whose reduced axis is the input channels and whose columns are the
output channels: both operands and the result are read and written in whole lines when the channels of a
position lie together (N H W C), and those of a weight's tap do (O, taps, I). Kernels index logically as
before; the types of values say how they lie in memory, without halos. So every operator can read such a value
as it is, and only those want it row-major whose code goes by rows: products of matrices, routines, the host.

before: %y = Conv(%x, %w) : f32[n, 64, 56, 56]; %z = Transpose(perm=(0, 2, 3, 1))(%y)
after:  %x1 = Relayout(%x) : <0.2.3.1 ...>; %y = Conv(%x1, %w1) : <0.2.3.1>, where %w1 : <0.2.3.1> is the same
        constant; %z = Transpose(%y), which now moves nothing
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dlc.ir.dims import Dim, known_equal
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.operator import OperatorClass
from dlc.ir.ops.convolution import Conv, ConvTranspose, Pool
from dlc.ir.ops.indexing import Scatter
from dlc.ir.ops.layout import Relayout
from dlc.ir.ops.movement import Concat, Pad, Reshape, Slice, Transpose
from dlc.ir.ops.normalization import LRN, BatchNorm, GroupNorm, InstanceNorm
from dlc.ir.ops.pointwise import Pointwise
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.ir.ops.reduction import ArgReduce, Reduce
from dlc.ir.ops.resize import Resize
from dlc.ir.types import Layout, TensorType
from dlc.passes.layout_regions import Regions, same_shape
from dlc.passes.pass_base import Numerics, Pass, Statistics

#: Operators whose results lie as their first operand does.
_FOLLOWING = (
    *(BatchNorm, InstanceNorm, GroupNorm, LRN),
    *(Pad, Slice, Resize, QuantizeLinear, DequantizeLinear),
)
#: Operators in a row that are looked through for the region that a movement comes from, or leads to.
_LOOKED_THROUGH = 3


@dataclasses.dataclass(frozen=True)
class ChannelsLast(Pass):
    """Let the values of convolutional regions lie with their channels last, and weights with those they sum.

    `min_channels`: a convolution with fewer input channels reads an input from outside as it is (an image).
    """

    name: ClassVar[str] = "channels-last"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    min_channels: int = 8

    def apply(self, graph: Graph) -> Statistics:
        """Assign layouts in place; counts the values and the weights that got one."""
        regions = _ChannelsLast(graph, self.min_channels)
        statistics = Statistics()
        statistics.rewrites["value"] = regions.run()
        statistics.rewrites["weight"] = len(regions.weights)
        statistics.rewrites = +statistics.rewrites
        return statistics


def channels_last(shape: tuple[Dim, ...]) -> Layout | None:
    """The layout N spatial... C of a tensor; None where it is row-major anyway."""
    return permuted((0, *range(2, len(shape)), 1), shape)


def permuted(order: tuple[int, ...], shape: tuple[Dim, ...]) -> Layout | None:
    """The layout with the axes in this order; None where it is row-major, axes of extent 1 aside."""
    moved = [axis for axis in order if shape[axis] != 1]
    return None if moved == sorted(moved) else Layout(tuple((axis, None) for axis in order))


class _ChannelsLast(Regions):
    """Regions of channels last."""

    def __init__(self, graph: Graph, min_channels: int) -> None:
        super().__init__(graph)
        self.min_channels = min_channels
        #: Weights in their layouts, by the constants that they are.
        self.weights: dict[tuple[Value, Layout], Value] = {}

    def run(self) -> int:
        count = super().run()
        for node in self.graph.nodes:
            if isinstance(node.op, Conv | ConvTranspose):
                self._fit_weight(node)
        return count

    # --- where the layout spreads

    def takes(self, node: Node) -> bool:
        if not all(3 <= value.tensor.rank <= 5 for value in node.outputs) or isinstance(node.op, Relayout):
            return False
        first = node.operands[0] if node.operands else None
        match node.op:
            case Conv() | ConvTranspose():
                return True
            case Concat():
                return any(value in self.inside for value in node.operands)
            case Reduce(axes=axes, keepdims=keepdims):
                return keepdims and first in self.inside and all(axis >= 2 for axis in axes)
            case Transpose() | Reshape():
                return self._comes_back(node) or (first not in self.inside and self._leads_in(node.output))
        if isinstance(node.op, _FOLLOWING) or (isinstance(node.op, Pool) and not node.op.indices):
            return first in self.inside
        if isinstance(node.op, Pointwise):
            shape = node.outputs[0].tensor.shape
            return any(v in self.inside and same_shape(v.tensor.shape, shape) for v in node.operands)
        return False

    def _leads_in(self, value: Value, depth: int = _LOOKED_THROUGH) -> bool:
        """Whether a region reads the result of a movement, or what is computed from it point by point: the
        movement then puts elements where the region wants them.
        """
        for user in value.uses:
            if isinstance(user.op, Conv | ConvTranspose | Pool) and user.operands[0] is value:
                return True
            if not isinstance(user.op, Pointwise | Concat):
                continue
            if any(operand in self.inside for operand in user.operands):
                return True
            same = same_shape(value.tensor.shape, user.output.tensor.shape)
            if depth and same and self._leads_in(user.output, depth - 1):
                return True
        return False

    def _comes_back(self, node: Node) -> bool:
        """Whether a Reshape ends a row of movements of channels alone, as in a shuffle of them."""
        value, shape = node.operands[0], node.output.tensor.shape
        if isinstance(node.op, Transpose):
            return False
        for _ in range(_LOOKED_THROUGH):
            if value in self.inside:
                return same_shape((value.tensor.shape[0], *value.tensor.shape[2:]), (shape[0], *shape[2:]))
            if value.producer is None or not isinstance(value.producer.op, Reshape | Transpose):
                return False
            value = value.producer.operands[0]
        return False

    def layout(self, value: Value) -> Layout | None:
        """Channels last; what only the graph's outputs need is row-major at once."""
        if not value.uses and self.graph.output_uses(value):
            return None
        return channels_last(value.tensor.shape)

    # --- where it begins and ends

    def wanted(self, node: Node, position: int, value: Value, is_inside: bool) -> Layout | None:
        layout = value.tensor.layout
        if not is_inside:
            return layout if _reads_any_layout(node) else None
        if value in self.inside or isinstance(node.op, Transpose | Reshape):
            return layout
        if isinstance(node.op, Conv | ConvTranspose):
            return self._convolution_input(node, value) if position == 0 else layout
        shape = value.tensor.shape
        is_whole = same_shape(shape, node.outputs[0].tensor.shape) or isinstance(node.op, Concat)
        return channels_last(shape) if is_whole else layout

    def _convolution_input(self, node: Node, value: Value) -> Layout | None:
        """The layout of a value from outside that a convolution reads."""
        channels = value.tensor.shape[1]
        if isinstance(channels, int) and channels < self.min_channels:
            return value.tensor.layout
        return channels_last(value.tensor.shape)

    def _fit_weight(self, node: Node) -> None:
        """Let a convolution read its constant weight in the layout for it."""
        weight = node.operands[1]
        layout = weight_layout(node.op, weight.tensor)
        if not weight.is_constant or layout is None or weight.tensor.layout is not None:
            return
        key = weight, layout
        if key not in self.weights:
            type_ = dataclasses.replace(weight.tensor, layout=layout)
            self.weights[key] = Value(self.graph.unique_name(weight.name), type_, weight.data)
        node.inputs = tuple(self.weights[key] if i == 1 else v for i, v in enumerate(node.inputs))


def weight_layout(op: object, type_: TensorType) -> Layout | None:
    """(O, taps, I) for what sums over channels, (taps, O) for what does not (depthwise)."""
    spatial = tuple(range(2, type_.rank))
    outputs, summed = (0, 1) if isinstance(op, Conv) else (1, 0)
    if known_equal(type_.shape[summed], 1):
        return permuted((*spatial, summed, outputs), type_.shape)
    return permuted((outputs, *spatial, summed), type_.shape)


def _reads_any_layout(node: Node) -> bool:
    """Whether the kernel of `node` indexes its operands one by one, so that their layout is all the same."""
    if isinstance(node.op, Relayout | Reduce | ArgReduce):
        return True
    kinds = (OperatorClass.POINTWISE, OperatorClass.MOVEMENT, OperatorClass.NORMALIZATION)
    return node.op.kind in kinds and not isinstance(node.op, Scatter)
