"""Integer convolutions: what the template takes, and how the input is rearranged for it.

The input x is read as unsigned bytes (i8 with the sign bit turned over) and the weights w as signed ones.
Each image is copied into *planes* of words, a word for 4 channels (2 numbers of 16 bits without VNNI) of one
position, with the zero point around it. For stride s a plane is kept for each remainder of the position
divided by s that a tap needs, so that the positions which one tap reads for neighbouring outputs are
neighbours in memory: tap t of output p reads word p + t * dilation // s of plane t * dilation % s. Outputs
are numbered like the positions of a plane, so rows of outputs are followed by a few numbers that mean
nothing. Short rows have a plane for each tap instead, with exactly the positions that it reads.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

from dlc.backends.cpu.templates.convolution_form import ConvolutionForm, reads_windows
from dlc.backends.cpu.templates.gemm_form import check_stages, merge
from dlc.backends.cpu.templates.gemm_tile import Multiplication
from dlc.backends.cpu.templates.integer_form import COLUMN_SUMS, ROW_SUMS, corrected, fresh_local
from dlc.backends.cpu.templates.integer_operand import (
    IntegerOperand,
    choose_multiplication,
    integer_operand,
    numbers_of_word,
)
from dlc.backends.cpu.templates.template import Declined
from dlc.ir.dims import Dim, known_equal, maximum, product
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Axis, AxisKind, Contract, Kernel, LocalTensor, Map, Store, Window
from dlc.target import CpuTarget

#: Rows of outputs followed by more than a twelfth of other positions get a plane for each tap: copying
#: the input more often costs less than the products of these.
FEW = 12


@dataclasses.dataclass(frozen=True)
class PlaneAxis:
    """One spatial axis: `extent` of the input, its window, the taps, and the positions of a plane.

    `phases` are the offsets of the planes, which have `count` positions: plane r holds the positions
    p * stride + r. They are the remainders of positions divided by the stride that taps need or, where
    `spread`, there is one for each tap.
    """

    extent: Dim
    outputs: Dim
    window: Window
    taps: int
    spread: bool = False

    @property
    def phases(self) -> tuple[int, ...]:
        """The offsets of the planes that some tap needs."""
        return tuple(sorted({self._split(tap)[1] for tap in range(self.taps)}))

    @property
    def count(self) -> Dim:
        """Positions of a plane."""
        return self.outputs + max(self._split(tap)[0] for tap in range(self.taps))

    def place(self, tap: int) -> tuple[int, int]:
        """The number of the phase that a tap reads, and how far its positions are shifted."""
        shift, phase = self._split(tap)
        return self.phases.index(phase), shift

    def _split(self, tap: int) -> tuple[int, int]:
        offset = tap * self.window.dilation
        return (0, offset) if self.spread else divmod(offset, self.window.stride)

    def fitted(self) -> PlaneAxis:
        """The axis with planes that have no other positions than outputs, where those would be too many."""
        more, outputs = self.count - self.outputs, self.outputs
        wasteful = isinstance(more, int) and isinstance(outputs, int) and more * FEW > outputs
        return dataclasses.replace(self, spread=wasteful)


@dataclasses.dataclass(frozen=True)
class IntegerConvolution:
    """A convolution of 8-bit integers.

    `form` is the convolution of the numbers; `source` its input minus a zero point. `kernel` has one axis
    `column` for all positions, `stages` what follows the products, first of all their correction.
    """

    form: ConvolutionForm
    original: Kernel
    kernel: Kernel
    column: Axis
    stages: tuple[Map | Store, ...]
    local: str
    source: IntegerOperand
    axes: tuple[PlaneAxis, ...]
    multiplication: Multiplication
    source_turned: bool
    weights_turned: bool
    window_sums: bool

    @property
    def group(self) -> int:
        """Numbers of a word."""
        return numbers_of_word(self.multiplication)

    @property
    def channel_words(self) -> int:
        """Words of the channels of a group."""
        return -(-self.form.channels // self.group)

    @property
    def phases(self) -> int:
        """Planes of a channel word."""
        return math.prod(len(axis.phases) for axis in self.axes)

    @property
    def plane(self) -> Dim:
        """Words of a plane."""
        return product([axis.count for axis in self.axes])

    @property
    def numbered(self) -> Dim:
        """Output positions, numbered like those of a plane, from the first to the last one."""
        last: Dim = 0
        for axis, stride in zip(self.axes, self.strides):
            last = last + (axis.outputs - 1) * stride
        return maximum(last + 1, 0)

    @property
    def strides(self) -> tuple[Dim, ...]:
        """How many positions of a plane lie between neighbours along each axis."""
        return tuple(product([axis.count for axis in self.axes[i + 1 :]]) for i in range(len(self.axes)))

    @property
    def flat(self) -> bool:
        """Whether output positions have the same numbers in a plane as in the result."""
        return all(known_equal(axis.count, axis.outputs) for axis in self.axes[1:])

    def tap_offsets(self) -> list[Dim]:
        """How many words from the first one of a channel word's planes each tap begins, row-major."""
        offsets: list[Dim] = []
        for taps in itertools.product(*(range(axis.taps) for axis in self.axes)):
            phase, shift = 0, 0 * self.plane
            for axis, tap, stride in zip(self.axes, taps, self.strides):
                number, moved = axis.place(tap)
                phase = phase * len(axis.phases) + number
                shift = shift + stride * moved
            offsets.append(self.plane * phase + shift)
        return offsets


def integer_convolution(kernel: Kernel, target: CpuTarget) -> IntegerConvolution | Declined:
    """`kernel` as a convolution of 8-bit integers with constant weights, or why it is none."""
    if not kernel.body or not isinstance(kernel.body[0], Contract) or not kernel.body[0].spec.windows:
        return Declined("the kernel does not start with a convolution")
    contract = kernel.body[0]
    if contract.out.dtype is not DType.I32:
        return Declined("not a product of integers")
    if any(param.type.layout is not None for param in kernel.params):
        return Declined("a blocked layout")
    reason = check_stages(kernel)
    if reason is not None:
        return Declined(reason)
    spec = contract.spec
    if not spec.columns or len(spec.reduce) == len(spec.windows):
        return Declined("a depthwise convolution")
    source, weights = integer_operand(contract.left), integer_operand(contract.right)
    if source is None or weights is None:
        return Declined("operands are not converted from 8 bits")
    if (source.axes | weights.axes) & {*spec.reduce, *(window.out for window in spec.windows)}:
        return Declined("a zero point changes along the window")
    if not kernel.param(weights.load.param).constant or weights.load.mask:
        return Declined("the weights are not constant")
    if not reads_windows(kernel, contract, source.load) or not _masks_borders(kernel, source.load):
        return Declined("the input is read at other places than those of its windows")
    return _checked(kernel, contract, source, weights, target)


def _masks_borders(kernel: Kernel, load: e.Load) -> bool:
    """Whether the conditions of a load are that positions lie within the input."""
    borders = {
        e.InRange(entry, 0, extent)
        for entry, extent in zip(load.index, kernel.param(load.param).type.shape, strict=True)
        if not isinstance(entry, e.Expr)
    }
    return set(load.mask) <= borders


def _checked(
    kernel: Kernel, contract: Contract, source: IntegerOperand, weights: IntegerOperand, target: CpuTarget
) -> IntegerConvolution | Declined:
    spec = contract.spec
    static = (*spec.reduce, *spec.columns, *spec.batch)
    if any(not isinstance(kernel.extent(axis), int) for axis in static):
        return Declined("channels or taps are symbolic")
    if any(kernel.extent(axis) == 0 for axis in static):
        return Declined("no tap reaches the output")
    if any(window.stride < 1 or window.dilation < 1 for window in spec.windows):
        return Declined("windows run backwards")
    if kernel.param(source.load.param).strides is not None:
        return Declined("the input has strides of its own")
    multiplication = choose_multiplication(target, left_signed=True)
    octets = multiplication is not Multiplication.WORDS16
    source_turned, weights_turned = octets and source.signed, octets and not weights.signed
    source_zero = source.turned_zero() if source_turned else source.zero
    weights_zero = weights.turned_zero() if weights_turned else weights.zero
    products = LocalTensor(fresh_local(kernel), DType.I32, contract.out.axes)
    numbers = Contract(products, spec, source.load, weights.load)
    identity = tuple(kernel.axis(axis).symbol for axis in products.axes)
    value = corrected(
        e.Read(DType.I32, products.name, identity),
        (source_zero, e.Read(DType.I32, COLUMN_SUMS, ())),
        (weights_zero, e.Read(DType.I32, ROW_SUMS, ())),
        product([kernel.extent(axis) for axis in spec.reduce]),
    )
    whole = dataclasses.replace(kernel, body=(numbers, Map(contract.out, value), *kernel.body[1:]))
    positions = tuple(window.out for window in spec.windows)
    form = ConvolutionForm(
        whole,
        numbers,
        next(stage for stage in kernel.body if isinstance(stage, Store)),
        kernel.param(source.load.param),
        kernel.param(weights.load.param),
        spec.rows[0],
        spec.batch[0] if spec.batch else None,
        spec.columns[0],
        positions,
        spec.reduce[0],
        tuple(window.tap for window in spec.windows),
    )
    after = dataclasses.replace(kernel, body=whole.body[1:])
    merged, column = merge(after, [kernel.axis(axis) for axis in positions], "column", AxisKind.PARALLEL)
    axes = tuple(
        PlaneAxis(form.source.type.shape[i], kernel.extent(window.out), window, taps)
        for i, (window, taps) in enumerate(zip(spec.windows, form.kernel_shape), start=2)
    )
    axes = (*axes[:-1], axes[-1].fitted())
    return IntegerConvolution(
        form,
        kernel,
        merged,
        column,
        tuple(stage for stage in merged.body if isinstance(stage, Map | Store)),
        products.name,
        source,
        axes,
        multiplication,
        source_turned,
        weights_turned,
        weights_zero is not None,
    )


